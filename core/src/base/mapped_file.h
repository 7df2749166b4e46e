// Maps a file read-only into memory, so that opening a model costs no copy and processes share its pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"

namespace mm::base {

class MappedFile {
 public:
  // Fails with not_found (no such file, a folder) or invalid_input (empty file).
  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path);
  // Copies bytes into 64-byte aligned memory: for WebAssembly and for tests without a file system.
  static Result<std::shared_ptr<const MappedFile>> from_bytes(const void* bytes, size_t size);

  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  MappedFile() = default;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  bool is_mapped_ = false;  // false: data_ was allocated by from_bytes
};

}  // namespace mm::base
