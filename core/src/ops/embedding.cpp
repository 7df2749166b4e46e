// Looks up token rows, from low-bit or float tables.
#include "ops/operations.h"
#include "quant/layout.h"

namespace mm::ops {

namespace {

using tensor::TensorView;

base::Status check_tokens(const TensorView& tokens) {
  MM_RETURN_IF_ERROR(expect_type(tokens, tensor::DType::i32, "embedding: tokens"));
  if (tokens.shape.elements() < 1 || tokens.shape.elements() > (1 << 20))
    return base::invalid_input("embedding: tokens has shape " + tokens.shape.text() + ", expected 1 to 1048576 tokens");
  return {};
}

base::Status check_range(int32_t token, int64_t n) {
  if (token >= 0 && token < n) return {};
  return base::invalid_input("embedding: token " + std::to_string(token) + ", expected 0 to " + std::to_string(n - 1));
}

// Attributes: bits, n, k, zero2.
base::Status infer_embedding(const InferContext&, const Attributes& attributes, const Inputs& inputs, Inferred& out) {
  const int bits = attributes.integer(0), n = attributes.integer(1), k = attributes.integer(2);
  MM_RETURN_IF_ERROR(expect_attribute(quant::is_supported_bits(bits), "embedding", "bits", bits, "2, 4 or 8"));
  MM_RETURN_IF_ERROR(expect_attribute(n > 0 && n <= (1 << 20), "embedding", "n", n, "1 to 1048576"));
  MM_RETURN_IF_ERROR(
      expect_attribute(k > 0 && k <= quant::max_columns - quant::column_step, "embedding", "k", k, "1 to 32752"));
  MM_RETURN_IF_ERROR(check_tokens(*inputs[0]));
  MM_RETURN_IF_ERROR(expect_type(*inputs[1], tensor::DType::i8, "embedding: packed weight"));
  MM_RETURN_IF_ERROR(
      expect_elements(*inputs[1], static_cast<int64_t>(quant::packed_bytes(bits, n, k)), "embedding: packed weight"));
  MM_RETURN_IF_ERROR(expect_f32(*inputs[2], "embedding: scale"));
  MM_RETURN_IF_ERROR(expect_elements(*inputs[2], n, "embedding: scale"));
  out.shape = tensor::Shape::of(inputs[0]->shape.elements(), k);
  return {};
}

base::Status run_embedding(Context&, const Attributes& attributes, const Inputs& inputs, const TensorView& output) {
  const int bits = attributes.integer(0), n = attributes.integer(1), k = attributes.integer(2),
            zero2 = attributes.integer(3);
  const int k_padded = quant::round_up(k, quant::column_step);
  const uint8_t* packed = inputs[1]->as<const uint8_t>();
  const int32_t* tokens = inputs[0]->as<const int32_t>();
  for (int64_t r = 0; r < output.shape[0]; ++r) {
    MM_RETURN_IF_ERROR(check_range(tokens[r], n));
    const float half_scale = 0.5f * inputs[2]->as<const float>()[tokens[r]];
    float* y = output.as<float>() + r * k;
    for (int c = 0; c < k; ++c)
      y[c] = half_scale * static_cast<float>(2 * quant::code_at(packed, bits, k_padded, tokens[r], c) - zero2);
  }
  return {};
}

base::Status infer_embedding_f32(const InferContext&, const Attributes&, const Inputs& inputs, Inferred& out) {
  MM_RETURN_IF_ERROR(check_tokens(*inputs[0]));
  MM_RETURN_IF_ERROR(expect_f32(*inputs[1], "embedding_f32: table"));
  if (inputs[1]->shape.rank != 2)
    return base::invalid_input("embedding_f32: table has shape " + inputs[1]->shape.text() + ", expected [n, k]");
  out.shape = tensor::Shape::of(inputs[0]->shape.elements(), inputs[1]->shape[1]);
  return {};
}

base::Status run_embedding_f32(Context&, const Attributes&, const Inputs& inputs, const TensorView& output) {
  const int32_t* tokens = inputs[0]->as<const int32_t>();
  const int64_t k = output.shape[1];
  for (int64_t r = 0; r < output.shape[0]; ++r) {
    MM_RETURN_IF_ERROR(check_range(tokens[r], inputs[1]->shape[0]));
    std::memcpy(output.as<float>() + r * k, inputs[1]->as<const float>() + tokens[r] * k,
                static_cast<size_t>(k) * sizeof(float));
  }
  return {};
}

}  // namespace

const Op embedding_op = {"embedding", 3, 3, 1, 4, 4, false, infer_embedding, run_embedding};
const Op embedding_f32_op = {"embedding_f32", 2, 2, 1, 0, 0, false, infer_embedding_f32, run_embedding_f32};

}  // namespace mm::ops
