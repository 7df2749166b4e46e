// Names the element types and shapes that cross the core: a view never owns its memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace mm::tensor {

enum class DType : uint8_t { f32, f16, i8, u8, i32 };

inline size_t element_bytes(DType type) {
  switch (type) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f16:
      return 2;
    case DType::i8:
    case DType::u8:
      return 1;
  }
  return 0;
}

const char* dtype_name(DType type);  // "f32", "f16", ...

inline constexpr int max_rank = 4;

// Outermost dimension first (row-major); rank 0 is a single element.
struct Shape {
  int rank = 0;
  std::array<int64_t, max_rank> dims = {};

  Shape() = default;
  template <class... D>
  static Shape of(D... d) {
    static_assert(sizeof...(D) <= max_rank);
    Shape shape;
    shape.rank = sizeof...(D);
    size_t i = 0;
    ((shape.dims[i++] = static_cast<int64_t>(d)), ...);
    return shape;
  }

  int64_t operator[](int i) const { return dims[static_cast<size_t>(i)]; }
  int64_t last() const { return rank == 0 ? 1 : dims[static_cast<size_t>(rank - 1)]; }
  // The same with another last dimension; a scalar becomes a vector.
  Shape with_last(int64_t size) const {
    Shape shape = *this;
    if (shape.rank == 0) shape.rank = 1;
    shape.dims[static_cast<size_t>(shape.rank - 1)] = size;
    return shape;
  }
  // Product of all dimensions; callers keep it far below 2^63 (the container and the interpreter check).
  int64_t elements() const {
    int64_t product = 1;
    for (int i = 0; i < rank; ++i) product *= dims[static_cast<size_t>(i)];
    return product;
  }
  int64_t rows() const { return last() == 0 ? 0 : elements() / last(); }  // all but the last dimension
  bool operator==(const Shape& other) const { return rank == other.rank && dims == other.dims; }
  bool operator!=(const Shape& other) const { return !(*this == other); }
  std::string text() const;  // "7x7x1280"
};

struct TensorView {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  size_t bytes() const { return static_cast<size_t>(shape.elements()) * element_bytes(dtype); }
};

}  // namespace mm::tensor
