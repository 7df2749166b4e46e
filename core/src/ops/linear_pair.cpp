// Two linear layers over pixels as one operation: the rows between them, two to four times as wide, never leave L2.
#include <algorithm>

#include "ops/operations.h"
#include "ops/packed_matrix.h"

namespace mm::ops {

namespace {

using tensor::TensorView;

// Attributes: k, hidden, n, bits_1, zero2_1, activation_1, bits_2, zero2_2, activation_2, residual.
// Inputs: x, packed_1, scale_1, packed_2, scale_2, bias_1, bias_2, gate.
struct PairShape {
  PackedMatrix first, second;
  int64_t rows, rows_a_picture;  // each picture of a stack has a gate of its own
  int block_rows, group_tiles;
  bool has_residual;
};

struct PairScratch {
  QuantizedRows rows;
  float* gated;   // [block_rows, k]
  float* hidden;  // [block_rows, hidden]
};

PairScratch take_scratch(ScratchPieces& pieces, const PairShape& s) {
  const size_t rows = static_cast<size_t>(s.block_rows);
  PairScratch scratch;
  scratch.rows = take_rows(pieces, s.block_rows, std::max(s.first.k_padded, s.second.k_padded), s.group_tiles);
  scratch.gated = pieces.take<float>(rows * static_cast<size_t>(s.first.k));
  scratch.hidden = pieces.take<float>(rows * static_cast<size_t>(s.first.n));
  return scratch;
}

size_t scratch_bytes(const PairShape& s) {
  ScratchPieces pieces(nullptr);
  take_scratch(pieces, s);
  return pieces.used();
}

base::Status check_gate(const TensorView& x, const TensorView& gate, int64_t k, PairShape& s) {
  MM_RETURN_IF_ERROR(expect_f32(gate, "linear_pair: gate"));
  const bool is_stack = x.shape.rank == 4 && gate.shape == tensor::Shape::of(x.shape[0], 1, 1, k);
  if (!is_stack) MM_RETURN_IF_ERROR(expect_elements(gate, k, "linear_pair: gate"));
  if (is_stack) s.rows_a_picture = x.shape[1] * x.shape[2];
  return {};
}

base::Result<PairShape> shape_of(const Attributes& attributes, const Inputs& inputs) {
  const int32_t k = attributes.integer(0), hidden = attributes.integer(1), n = attributes.integer(2);
  PairShape s;
  MM_ASSIGN_OR_RETURN(s.first, packed_matrix("linear_pair", attributes.integer(3), hidden, k, attributes.integer(4),
                                             attributes.integer(5), *inputs[1], *inputs[2], inputs[5]));
  MM_ASSIGN_OR_RETURN(s.second, packed_matrix("linear_pair", attributes.integer(6), n, hidden, attributes.integer(7),
                                              attributes.integer(8), *inputs[3], *inputs[4], inputs[6]));
  s.has_residual = attributes.integer(9) == 1;
  MM_RETURN_IF_ERROR(expect_attribute(attributes.integer(9) == 0 || (s.has_residual && n == k), "linear_pair",
                                      "residual", attributes.integer(9), "0, or 1 where n is k"));
  const TensorView& x = *inputs[0];
  MM_RETURN_IF_ERROR(expect_f32(x, "linear_pair: x"));
  s.rows = x.shape.rows();
  if (x.shape.last() != k || s.rows < 1 || s.rows > (1 << 24))
    return base::invalid_input("linear_pair: x has shape " + x.shape.text() + ", expected 1 to 16777216 rows of " +
                               std::to_string(k));
  s.rows_a_picture = s.rows;
  if (inputs[7] != nullptr) MM_RETURN_IF_ERROR(check_gate(x, *inputs[7], k, s));
  s.block_rows = balanced_block(s.rows_a_picture);
  s.group_tiles = tiles_in_group(s.block_rows, std::max(s.first.tiles, s.second.tiles));
  return s;
}

base::Status infer_linear_pair(const InferContext& context, const Attributes& attributes, const Inputs& inputs,
                               Inferred& out) {
  MM_ASSIGN_OR_RETURN(const PairShape s, shape_of(attributes, inputs));
  out.shape = inputs[0]->shape.with_last(s.second.n);
  out.scratch_bytes = scratch_bytes(s) * static_cast<size_t>(context.threads);
  return {};
}

void run_block(const kernels::KernelTable& kernels, const PairShape& s, const PairScratch& scratch, const float* x,
               const float* gate, int m, float* y) {
  const int k = s.first.k, hidden = s.first.n;
  if (gate != nullptr) {
    kernels.mul_f32(x, gate, scratch.gated, static_cast<int64_t>(m) * k, k);
    x = scratch.gated;
  }
  const QuantizedRows& rows = scratch.rows;
  kernels.quantize_rows(x, m, k, rows.x, s.first.k_padded, rows.scale, rows.sum);
  s.first.multiply(kernels, rows, m, 0, s.first.tiles, nullptr, scratch.hidden);
  kernels.quantize_rows(scratch.hidden, m, hidden, rows.x, s.second.k_padded, rows.scale, rows.sum);
  s.second.multiply(kernels, rows, m, 0, s.second.tiles, s.has_residual ? x : nullptr, y);
}

base::Status run_linear_pair(Context& context, const Attributes& attributes, const Inputs& inputs,
                             const TensorView& output) {
  MM_ASSIGN_OR_RETURN(const PairShape s, shape_of(attributes, inputs));
  const float* x = inputs[0]->as<const float>();
  const int64_t k = s.first.k, n = s.second.n;
  const int64_t work = s.rows_a_picture * s.first.n * (k + n) / 4;  // one int8 product is a quarter of a float one
  for (int64_t begin_row = 0; begin_row < s.rows; begin_row += s.rows_a_picture) {
    const float* gate =
        inputs[7] != nullptr ? inputs[7]->as<const float>() + begin_row / s.rows_a_picture * k : nullptr;
    parallel_if(context, work, static_cast<size_t>(s.rows_a_picture), rows_apart,
                [&](size_t begin, size_t end, int thread_index) {
                  ScratchPieces pieces(context.scratch + scratch_bytes(s) * static_cast<size_t>(thread_index));
                  const PairScratch scratch = take_scratch(pieces, s);
                  each_block(static_cast<int>(end - begin), s.block_rows, [&](int row, int m) {
                    const int64_t at = begin_row + static_cast<int64_t>(begin) + row;
                    run_block(context.kernels, s, scratch, x + at * k, gate, m, output.as<float>() + at * n);
                  });
                });
  }
  return {};
}

}  // namespace

const Op linear_pair_op = {"linear_pair", 5, 8, 1, 10, 10, false, infer_linear_pair, run_linear_pair};

}  // namespace mm::ops
