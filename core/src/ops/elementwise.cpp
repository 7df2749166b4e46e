// Operations that treat every element alike: add, mul, activations, gated units.
#include "ops/operations.h"

namespace mm::ops {

namespace {

using tensor::TensorView;

// One value for each picture and channel of a stack: [n, h, w, c] and [n, 1, 1, c].
bool is_per_picture(const tensor::Shape& a, const tensor::Shape& b) {
  return a.rank == 4 && b.rank == 4 && a[0] == b[0] && b[1] == 1 && b[2] == 1 && a[3] == b[3];
}

// b is of a's shape, or of its trailing dimensions (then it repeats), or per picture.
base::Status infer_binary(const InferContext&, const Attributes&, const Inputs& inputs, Inferred& out) {
  const TensorView& a = *inputs[0];
  const TensorView& b = *inputs[1];
  MM_RETURN_IF_ERROR(expect_f32(a, "add or mul: a"));
  MM_RETURN_IF_ERROR(expect_f32(b, "add or mul: b"));
  bool fits = b.shape.rank <= a.shape.rank;
  for (int i = 1; fits && i <= b.shape.rank; ++i) fits = a.shape[a.shape.rank - i] == b.shape[b.shape.rank - i];
  if (!fits && !is_per_picture(a.shape, b.shape))
    return base::invalid_input("add or mul: b has shape " + b.shape.text() + ", expected " + a.shape.text() +
                               " or its trailing dimensions");
  out.shape = a.shape;
  return {};
}

template <bool is_add>
base::Status run_binary(Context& context, const Attributes&, const Inputs& inputs, const TensorView& output) {
  const auto kernel = is_add ? context.kernels.add_f32 : context.kernels.mul_f32;
  const tensor::Shape& b_shape = inputs[1]->shape;
  const bool per_picture = b_shape != output.shape && is_per_picture(output.shape, b_shape);
  const int64_t pictures = per_picture ? b_shape[0] : 1;
  const int64_t count = output.shape.elements() / pictures, b_count = b_shape.elements() / pictures;
  const size_t repeats = static_cast<size_t>(count / b_count);
  for (int64_t picture = 0; picture < pictures; ++picture) {
    const float* a = inputs[0]->as<const float>() + picture * count;
    const float* b = inputs[1]->as<const float>() + picture * b_count;
    float* y = output.as<float>() + picture * count;
    if (repeats == 1) {
      parallel_if(context, count, static_cast<size_t>(count), 16, [&](size_t begin, size_t end, int) {
        const int64_t part = static_cast<int64_t>(end - begin);
        kernel(a + begin, b + begin, y + begin, part, part);
      });
    } else {
      parallel_if(context, count, repeats, 1, [&](size_t begin, size_t end, int) {
        const size_t at = begin * static_cast<size_t>(b_count);
        kernel(a + at, b, y + at, static_cast<int64_t>(end - begin) * b_count, b_count);
      });
    }
  }
  return {};
}

base::Status infer_activation(const InferContext&, const Attributes& attributes, const Inputs& inputs, Inferred& out) {
  MM_RETURN_IF_ERROR(expect_f32(*inputs[0], "activation: x"));
  MM_RETURN_IF_ERROR(activation_from("activation", attributes.integer(0)).status());
  out.shape = inputs[0]->shape;
  return {};
}

base::Status run_activation(Context& context, const Attributes& attributes, const Inputs& inputs,
                            const TensorView& output) {
  const auto kind = static_cast<kernels::Activation>(attributes.integer(0));
  const float* x = inputs[0]->as<const float>();
  const int64_t count = output.shape.elements();
  parallel_if(context, count * 4, static_cast<size_t>(count), 64, [&](size_t begin, size_t end, int) {
    context.kernels.activation_f32(kind, x + begin, output.as<float>() + begin, static_cast<int64_t>(end - begin));
  });
  return {};
}

base::Status infer_silu_mul(const InferContext&, const Attributes&, const Inputs& inputs, Inferred& out) {
  MM_RETURN_IF_ERROR(expect_f32(*inputs[0], "silu_mul: x"));
  const tensor::Shape& shape = inputs[0]->shape;
  if (shape.rank < 1 || shape.last() % 2 != 0 || shape.last() > (1 << 24) || shape.rows() > (1 << 24))
    return base::invalid_input("silu_mul: x has shape " + shape.text() + ", expected an even last dimension");
  out.shape = shape;
  out.shape.dims[static_cast<size_t>(shape.rank - 1)] /= 2;
  return {};
}

base::Status run_silu_mul(Context& context, const Attributes&, const Inputs& inputs, const TensorView& output) {
  const size_t half = static_cast<size_t>(output.shape.last());
  const size_t rows = static_cast<size_t>(output.shape.rows());
  const float* x = inputs[0]->as<const float>();
  parallel_if(context, output.shape.elements() * 8, rows, 1, [&](size_t begin, size_t end, int) {
    context.kernels.silu_mul_f32(x + begin * 2 * half, output.as<float>() + begin * half, static_cast<int>(end - begin),
                                 static_cast<int>(half));
  });
  return {};
}

}  // namespace

const Op add_op = {"add", 2, 2, 1, 0, 0, false, infer_binary, run_binary<true>};
const Op mul_op = {"mul", 2, 2, 1, 0, 0, false, infer_binary, run_binary<false>};
const Op activation_op = {"activation", 1, 1, 1, 1, 1, false, infer_activation, run_activation};
const Op silu_mul_op = {"silu_mul", 1, 1, 1, 0, 0, false, infer_silu_mul, run_silu_mul};

}  // namespace mm::ops
