// Spreads every value of a row over its block: what one channel holds alone would set the step of the whole row.
#include <cmath>

#include "ops/operations.h"

namespace mm::ops {

namespace {

using tensor::TensorView;

// Attribute: block, a power of two that divides the columns.
base::Status infer_hadamard(const InferContext&, const Attributes& attributes, const Inputs& inputs, Inferred& out) {
  const int block = attributes.integer(0);
  MM_RETURN_IF_ERROR(expect_f32(*inputs[0], "hadamard: x"));
  MM_RETURN_IF_ERROR(expect_attribute(block >= 2 && block <= 32768 && (block & (block - 1)) == 0, "hadamard", "block",
                                      block, "a power of two from 2 to 32768"));
  const tensor::Shape& shape = inputs[0]->shape;
  if (shape.rank < 1 || shape.elements() < 1 || shape.last() % block != 0)
    return base::invalid_input("hadamard: x has shape " + shape.text() + ", expected a multiple of " +
                               std::to_string(block) + " columns");
  out.shape = shape;
  return {};
}

base::Status run_hadamard(Context& context, const Attributes& attributes, const Inputs& inputs,
                          const TensorView& output) {
  const int block = attributes.integer(0);
  const float factor = 1.0f / std::sqrt(static_cast<float>(block));
  const int64_t elements = output.shape.elements();
  parallel_if(context, elements * 8, static_cast<size_t>(elements / block), 4, [&](size_t begin, size_t end, int) {
    const size_t at = begin * static_cast<size_t>(block);
    context.kernels.hadamard_f32(inputs[0]->as<const float>() + at, output.as<float>() + at,
                                 static_cast<int64_t>(end - begin), block, factor);
  });
  return {};
}

}  // namespace

const Op hadamard_op = {"hadamard", 1, 1, 1, 1, 1, false, infer_hadamard, run_hadamard};

}  // namespace mm::ops
