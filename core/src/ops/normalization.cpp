// Operations over the last dimension of each row: RMS norm, layer norm, softmax.
#include <cmath>

#include "ops/operations.h"

namespace mm::ops {

namespace {

using tensor::TensorView;

base::Status check_rows(const TensorView& x, const char* what) {
  MM_RETURN_IF_ERROR(expect_f32(x, what));
  if (x.shape.rank < 1 || x.shape.last() > (1 << 24) || x.shape.rows() > (1 << 24))
    return base::invalid_input(std::string(what) + " has shape " + x.shape.text() +
                               ", expected rows of at most 16777216 columns");
  return {};
}

base::Status check_epsilon(const char* op, float epsilon) {
  if (std::isfinite(epsilon) && epsilon > 0 && epsilon < 1) return {};
  return base::model_format(std::string(op) + ": epsilon is " + std::to_string(epsilon) +
                            ", expected a value between 0 and 1");
}

base::Status infer_rms_norm(const InferContext&, const Attributes& attributes, const Inputs& inputs, Inferred& out) {
  MM_RETURN_IF_ERROR(check_rows(*inputs[0], "rms_norm: x"));
  MM_RETURN_IF_ERROR(check_epsilon("rms_norm", attributes.real(0)));
  MM_RETURN_IF_ERROR(expect_f32(*inputs[1], "rms_norm: weight"));
  MM_RETURN_IF_ERROR(expect_elements(*inputs[1], inputs[0]->shape.last(), "rms_norm: weight"));
  out.shape = inputs[0]->shape;
  return {};
}

base::Status run_rms_norm(Context& context, const Attributes& attributes, const Inputs& inputs,
                          const TensorView& output) {
  const size_t columns = static_cast<size_t>(output.shape.last());
  const float* x = inputs[0]->as<const float>();
  parallel_if(context, output.shape.elements(), static_cast<size_t>(output.shape.rows()), 1,
              [&](size_t begin, size_t end, int) {
                context.kernels.rms_norm_f32(x + begin * columns, inputs[1]->as<const float>(),
                                             output.as<float>() + begin * columns, static_cast<int>(end - begin),
                                             static_cast<int>(columns), attributes.real(0));
              });
  return {};
}

base::Status infer_layer_norm(const InferContext&, const Attributes& attributes, const Inputs& inputs, Inferred& out) {
  MM_RETURN_IF_ERROR(check_rows(*inputs[0], "layer_norm: x"));
  MM_RETURN_IF_ERROR(check_epsilon("layer_norm", attributes.real(0)));
  for (int i = 1; i < 3; ++i) {
    MM_RETURN_IF_ERROR(expect_f32(*inputs[i], "layer_norm: weight or bias"));
    MM_RETURN_IF_ERROR(expect_elements(*inputs[i], inputs[0]->shape.last(), "layer_norm: weight or bias"));
  }
  out.shape = inputs[0]->shape;
  return {};
}

base::Status run_layer_norm(Context& context, const Attributes& attributes, const Inputs& inputs,
                            const TensorView& output) {
  const size_t columns = static_cast<size_t>(output.shape.last());
  const float* x = inputs[0]->as<const float>();
  parallel_if(context, output.shape.elements(), static_cast<size_t>(output.shape.rows()), 1,
              [&](size_t begin, size_t end, int) {
                context.kernels.layer_norm_f32(x + begin * columns, inputs[1]->as<const float>(),
                                               inputs[2]->as<const float>(), output.as<float>() + begin * columns,
                                               static_cast<int>(end - begin), static_cast<int>(columns),
                                               attributes.real(0));
              });
  return {};
}

base::Status infer_softmax(const InferContext&, const Attributes&, const Inputs& inputs, Inferred& out) {
  MM_RETURN_IF_ERROR(check_rows(*inputs[0], "softmax: x"));
  out.shape = inputs[0]->shape;
  return {};
}

base::Status run_softmax(Context& context, const Attributes&, const Inputs& inputs, const TensorView& output) {
  const size_t columns = static_cast<size_t>(output.shape.last());
  const float* x = inputs[0]->as<const float>();
  parallel_if(context, output.shape.elements() * 8, static_cast<size_t>(output.shape.rows()), 1,
              [&](size_t begin, size_t end, int) {
                context.kernels.softmax_f32(x + begin * columns, output.as<float>() + begin * columns,
                                            static_cast<int>(end - begin), static_cast<int>(columns));
              });
  return {};
}

}  // namespace

const Op rms_norm_op = {"rms_norm", 2, 2, 1, 1, 1, false, infer_rms_norm, run_rms_norm};
const Op layer_norm_op = {"layer_norm", 3, 3, 1, 1, 1, false, infer_layer_norm, run_layer_norm};
const Op softmax_op = {"softmax", 1, 1, 1, 0, 0, false, infer_softmax, run_softmax};

}  // namespace mm::ops
