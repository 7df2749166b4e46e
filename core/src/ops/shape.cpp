// Operations that change the shape: reshape (a view), global average pooling.
#include "ops/operations.h"

namespace mm::ops {

namespace {

using tensor::TensorView;

// Attributes: one to four dimensions, at most one of them -1.
base::Status infer_reshape(const InferContext&, const Attributes& attributes, const Inputs& inputs, Inferred& out) {
  const TensorView& x = *inputs[0];
  out.dtype = x.dtype;
  out.shape.rank = attributes.count;
  const int64_t elements = x.shape.elements();
  int64_t known = 1;
  int open = -1;
  for (int i = 0; i < attributes.count; ++i) {
    const int32_t dim = attributes.integer(i);
    MM_RETURN_IF_ERROR(
        expect_attribute(dim >= 1 || (dim == -1 && open < 0), "reshape", "a dimension", dim, "at least 1, or -1 once"));
    if (dim == -1) {
      open = i;
      continue;
    }
    if (dim > elements / known)
      known = elements + 1;  // too large whatever follows; stays below 2^63
    else
      known *= dim;
    out.shape.dims[static_cast<size_t>(i)] = dim;
  }
  if (open >= 0 && known >= 1 && known <= elements) {
    out.shape.dims[static_cast<size_t>(open)] = elements / known;
    known *= elements / known;
  }
  if (known != elements)
    return base::invalid_input("reshape: x has shape " + x.shape.text() + ", which does not fit the new dimensions");
  return {};
}

base::Status run_view(Context&, const Attributes&, const Inputs&, const TensorView&) { return {}; }

base::Status infer_global_average_pool(const InferContext&, const Attributes&, const Inputs& inputs, Inferred& out) {
  MM_RETURN_IF_ERROR(expect_f32(*inputs[0], "global_average_pool: x"));
  if (inputs[0]->shape.rank != 3)
    return base::invalid_input("global_average_pool: x has shape " + inputs[0]->shape.text() +
                               ", expected [height, width, channels]");
  out.shape = tensor::Shape::of(inputs[0]->shape[2]);
  return {};
}

base::Status run_global_average_pool(Context&, const Attributes&, const Inputs& inputs, const TensorView& output) {
  const tensor::Shape& shape = inputs[0]->shape;
  const int64_t pixels = shape[0] * shape[1], channels = shape[2];
  const float* x = inputs[0]->as<const float>();
  float* y = output.as<float>();
  std::memset(y, 0, static_cast<size_t>(channels) * sizeof(float));
  for (int64_t p = 0; p < pixels; ++p)
    for (int64_t c = 0; c < channels; ++c) y[c] += x[p * channels + c];
  const float inverse = 1.0f / static_cast<float>(pixels);
  for (int64_t c = 0; c < channels; ++c) y[c] *= inverse;
  return {};
}

}  // namespace

const Op reshape_op = {"reshape", 1, 1, 1, 1, 4, true, infer_reshape, run_view};
const Op global_average_pool_op = {"global_average_pool",  1, 1, 1, 0, 0, false, infer_global_average_pool,
                                   run_global_average_pool};

}  // namespace mm::ops
