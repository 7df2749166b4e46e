// Walks over untrusted bytes; every read checks what is left first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

namespace mm::tensor {

class ByteCursor {
 public:
  ByteCursor(const uint8_t* bytes, size_t size) : bytes_(bytes), size_(size) {}

  size_t position() const { return position_; }
  size_t left() const { return size_ - position_; }

  // False: fewer bytes are left than a T has; nothing moves then. The core runs on little-endian machines only.
  template <class T>
  bool read(T& value) {
    static_assert(std::is_arithmetic_v<T>);
    if (left() < sizeof(T)) return false;
    std::memcpy(&value, bytes_ + position_, sizeof(T));
    position_ += sizeof(T);
    return true;
  }

  bool read(std::string_view& text, uint64_t length) {
    if (length > left()) return false;
    text = {reinterpret_cast<const char*>(bytes_ + position_), static_cast<size_t>(length)};
    position_ += static_cast<size_t>(length);
    return true;
  }

 private:
  const uint8_t* bytes_;
  size_t size_;
  size_t position_ = 0;
};

}  // namespace mm::tensor
