// Writes element types and shapes as text, for messages.
#include "tensor/tensor.h"

namespace mm::tensor {

const char* dtype_name(DType type) {
  switch (type) {
    case DType::f32:
      return "f32";
    case DType::f16:
      return "f16";
    case DType::i8:
      return "i8";
    case DType::u8:
      return "u8";
    case DType::i32:
      return "i32";
  }
  return "unknown";
}

std::string Shape::text() const {
  if (rank == 0) return "scalar";
  std::string joined;
  for (int i = 0; i < rank; ++i) {
    if (i > 0) joined += 'x';
    joined += std::to_string(dims[static_cast<size_t>(i)]);
  }
  return joined;
}

}  // namespace mm::tensor
