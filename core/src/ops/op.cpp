// Lists the operations and the checks that they share.
#include "ops/op.h"

#include "ops/operations.h"

namespace mm::ops {

namespace {
const Op* const table[] = {
    &image_normalize_op,
    &conv2d_op,
    &conv2d_depthwise_op,
    &conv2d_depthwise_codes_op,
    &conv2d_packed_op,
    &linear_op,
    &linear_codes_op,
    &linear_pair_op,
    &linear_f32_op,
    &add_op,
    &mul_op,
    &activation_op,
    &silu_mul_op,
    &rms_norm_op,
    &layer_norm_op,
    &softmax_op,
    &hadamard_op,
    &rope_op,
    &state_write_op,
    &attention_op,
    &attention_cached_op,
    &attention_memory_op,
    &embedding_op,
    &embedding_f32_op,
    &global_average_pool_op,
    &max_pool2d_op,
    &average_pool2d_op,
    &reshape_op,
    &last_row_op,
    &concat_op,
    &upsample_nearest_op,
    &depth_to_space_op,
};
}  // namespace

OpList all_ops() { return {table, static_cast<int>(sizeof table / sizeof table[0])}; }

const Op* find_op(std::string_view name) {
  for (const Op* op : table)
    if (name == op->name) return op;
  return nullptr;
}

base::Status expect_type(const tensor::TensorView& view, tensor::DType type, const char* what) {
  if (view.dtype == type) return {};
  return base::invalid_input(std::string(what) + " is " + tensor::dtype_name(view.dtype) + ", expected " +
                             tensor::dtype_name(type));
}

base::Status expect_f32(const tensor::TensorView& view, const char* what) {
  return expect_type(view, tensor::DType::f32, what);
}

base::Status expect_elements(const tensor::TensorView& view, int64_t elements, const char* what) {
  if (view.shape.elements() == elements) return {};
  return base::invalid_input(std::string(what) + " has shape " + view.shape.text() + ", expected " +
                             std::to_string(elements) + " elements");
}

base::Status expect_attribute(bool holds, const char* op, const char* what, int64_t value, const char* expectation) {
  if (holds) return {};
  return base::model_format(std::string(op) + ": " + what + " is " + std::to_string(value) + ", expected " +
                            expectation);
}

base::Result<kernels::Activation> activation_from(const char* op, int32_t value) {
  MM_RETURN_IF_ERROR(
      expect_attribute(value >= 0 && value < kernels::activation_count, op, "activation", value, "0 to 8"));
  return static_cast<kernels::Activation>(value);
}

}  // namespace mm::ops
