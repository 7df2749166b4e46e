// Linear layers: int8 activations against 2-, 4- or 8-bit weights, and their float twin.
#include <algorithm>

#include "ops/operations.h"
#include "quant/layout.h"

namespace mm::ops {

namespace {

using kernels::Activation;
using tensor::TensorView;

// 48 rows are a multiple of the kernels' 4-, 8- and 12-row blocks, and 48 rows of 1280 int8 activations (60 KB) stay in
// L2.
constexpr int block_rows_max = 48;
// 6144 int32 accumulators are 24 KB: half of a 48 KB L1, the rest is for weights and activations.
constexpr int accumulators_max = 6144;

struct LinearShape {
  int m, n, k, bits, zero2, k_padded, tiles, block_rows, group_tiles;
  Activation activation;
};

// Equal blocks: 49 rows become 25 + 24, not 48 + 1.
int balanced_block(int m) {
  const int blocks = (m + block_rows_max - 1) / block_rows_max;
  return (m + blocks - 1) / blocks;
}

struct ThreadScratch {
  int8_t* x;
  float* scale;
  int32_t* sum;
  int32_t* accumulators;
  static size_t bytes(const LinearShape& s) {
    const size_t rows = static_cast<size_t>(s.block_rows);
    const size_t x_bytes = rows * static_cast<size_t>(s.k_padded);
    const size_t accumulator_bytes = rows * static_cast<size_t>(s.group_tiles) * 16 * 4;
    return (x_bytes + 63) / 64 * 64 + 2 * ((rows * 4 + 63) / 64 * 64) + (accumulator_bytes + 63) / 64 * 64;
  }
  ThreadScratch(const LinearShape& s, uint8_t* base) {
    const size_t rows = static_cast<size_t>(s.block_rows);
    x = reinterpret_cast<int8_t*>(base);
    base += (rows * static_cast<size_t>(s.k_padded) + 63) / 64 * 64;
    scale = reinterpret_cast<float*>(base);
    base += (rows * 4 + 63) / 64 * 64;
    sum = reinterpret_cast<int32_t*>(base);
    base += (rows * 4 + 63) / 64 * 64;
    accumulators = reinterpret_cast<int32_t*>(base);
  }
};

base::Result<LinearShape> shape_of(const Attributes& attributes, const Inputs& inputs) {
  LinearShape s;
  s.bits = attributes.integer(0);
  s.n = attributes.integer(1);
  s.k = attributes.integer(2);
  s.zero2 = attributes.integer(3);
  MM_ASSIGN_OR_RETURN(s.activation, activation_from("linear", attributes.integer(4)));
  MM_RETURN_IF_ERROR(expect_attribute(quant::is_supported_bits(s.bits), "linear", "bits", s.bits, "2, 4 or 8"));
  MM_RETURN_IF_ERROR(expect_attribute(s.n > 0 && s.n <= (1 << 20), "linear", "n", s.n, "1 to 1048576"));
  MM_RETURN_IF_ERROR(
      expect_attribute(s.k > 0 && s.k <= quant::max_columns - quant::column_step, "linear", "k", s.k, "1 to 32752"));
  MM_RETURN_IF_ERROR(expect_attribute(s.zero2 >= 0 && s.zero2 <= (2 << s.bits) - 2, "linear", "zero2", s.zero2,
                                      "0 to twice the largest code"));
  const TensorView& x = *inputs[0];
  MM_RETURN_IF_ERROR(expect_f32(x, "linear: x"));
  if (x.shape.last() != s.k)
    return base::invalid_input("linear: x has shape " + x.shape.text() + ", expected " + std::to_string(s.k) +
                               " in the last dimension");
  const int64_t m = x.shape.rows();
  if (m < 1 || m > (1 << 24))
    return base::invalid_input("linear: x has " + std::to_string(m) + " rows, expected 1 to 16777216");
  s.m = static_cast<int>(m);
  s.k_padded = quant::round_up(s.k, quant::column_step);
  s.tiles = quant::round_up(s.n, quant::tile_rows) / quant::tile_rows;
  MM_RETURN_IF_ERROR(expect_type(*inputs[1], tensor::DType::i8, "linear: packed weight"));
  MM_RETURN_IF_ERROR(expect_elements(*inputs[1], static_cast<int64_t>(quant::packed_bytes(s.bits, s.n, s.k)),
                                     "linear: packed weight"));
  MM_RETURN_IF_ERROR(expect_f32(*inputs[2], "linear: scale"));
  MM_RETURN_IF_ERROR(expect_elements(*inputs[2], s.n, "linear: scale"));
  if (inputs[3] != nullptr) {
    MM_RETURN_IF_ERROR(expect_f32(*inputs[3], "linear: bias"));
    MM_RETURN_IF_ERROR(expect_elements(*inputs[3], s.n, "linear: bias"));
  }
  if (inputs[4] != nullptr) {
    MM_RETURN_IF_ERROR(expect_f32(*inputs[4], "linear: residual"));
    MM_RETURN_IF_ERROR(expect_elements(*inputs[4], m * s.n, "linear: residual"));
  }
  s.block_rows = balanced_block(s.m);
  s.group_tiles = std::clamp(accumulators_max / (s.block_rows * 16), 1, s.tiles);
  return s;
}

base::Status infer_linear(const InferContext& context, const Attributes& attributes, const Inputs& inputs,
                          Inferred& out) {
  MM_ASSIGN_OR_RETURN(const LinearShape s, shape_of(attributes, inputs));
  out.shape = inputs[0]->shape;
  if (out.shape.rank == 0) out.shape.rank = 1;
  out.shape.dims[static_cast<size_t>(out.shape.rank - 1)] = s.n;
  out.scratch_bytes = ThreadScratch::bytes(s) * static_cast<size_t>(context.threads);
  return {};
}

// Rows [row_begin, row_end) x tiles [tile_begin, tile_end) on one thread: quantize a block of rows, then group by
// group.
void run_part(const Context& context, const LinearShape& s, const Inputs& inputs, float* y, int row_begin, int row_end,
              int tile_begin, int tile_end, int thread_index) {
  const kernels::KernelTable& k = context.kernels;
  const auto linear = s.bits == 2 ? k.linear_w2a8 : s.bits == 4 ? k.linear_w4a8 : k.linear_w8a8;
  const ThreadScratch scratch(s, context.scratch + ThreadScratch::bytes(s) * static_cast<size_t>(thread_index));
  const float* x = inputs[0]->as<const float>();
  const float* weight_scale = inputs[2]->as<const float>();
  const float* bias = inputs[3] != nullptr ? inputs[3]->as<const float>() : nullptr;
  const float* residual = inputs[4] != nullptr ? inputs[4]->as<const float>() : nullptr;
  for (int row = row_begin; row < row_end; row += s.block_rows) {
    const int rows = std::min(s.block_rows, row_end - row);
    const size_t first = static_cast<size_t>(row);
    k.quantize_rows(x + first * static_cast<size_t>(s.k), rows, s.k, scratch.x, s.k_padded, scratch.scale, scratch.sum);
    for (int tile = tile_begin; tile < tile_end; tile += s.group_tiles) {
      const int group_end = std::min(tile + s.group_tiles, tile_end);
      const int stride = (group_end - tile) * quant::tile_rows;
      linear({scratch.x, scratch.sum, inputs[1]->as<const uint8_t>(), rows, s.k_padded, s.zero2, tile, group_end,
              scratch.accumulators, stride});
      const int column = tile * quant::tile_rows;
      const size_t at = first * static_cast<size_t>(s.n) + static_cast<size_t>(column);
      k.linear_epilogue({scratch.accumulators, stride, scratch.scale, weight_scale + column,
                         bias != nullptr ? bias + column : nullptr, residual != nullptr ? residual + at : nullptr,
                         y + at, s.n, rows, std::min(stride, s.n - column), s.activation});
    }
  }
}

base::Status run_linear(Context& context, const Attributes& attributes, const Inputs& inputs,
                        const TensorView& output) {
  MM_ASSIGN_OR_RETURN(const LinearShape s, shape_of(attributes, inputs));
  float* y = output.as<float>();
  const int64_t work = static_cast<int64_t>(s.m) * s.n * s.k / 4;  // one int8 product is about a quarter of a float one
  // Few rows (tokens): each thread takes some of the outputs and quantizes all rows again, which is cheaper than a
  // second barrier. Many rows (pixels): each thread takes some of the rows and all outputs.
  if (s.m < 96 * context.pool.threads()) {
    parallel_if(context, work, static_cast<size_t>(s.tiles), 2, [&](size_t begin, size_t end, int thread_index) {
      run_part(context, s, inputs, y, 0, s.m, static_cast<int>(begin), static_cast<int>(end), thread_index);
    });
  } else {
    parallel_if(context, work, static_cast<size_t>(s.m), static_cast<size_t>(s.block_rows),
                [&](size_t begin, size_t end, int thread_index) {
                  run_part(context, s, inputs, y, static_cast<int>(begin), static_cast<int>(end), 0, s.tiles,
                           thread_index);
                });
  }
  return {};
}

base::Status infer_linear_f32(const InferContext&, const Attributes& attributes, const Inputs& inputs, Inferred& out) {
  MM_RETURN_IF_ERROR(activation_from("linear_f32", attributes.integer(0)).status());
  const TensorView& x = *inputs[0];
  const TensorView& w = *inputs[1];
  MM_RETURN_IF_ERROR(expect_f32(x, "linear_f32: x"));
  MM_RETURN_IF_ERROR(expect_f32(w, "linear_f32: w"));
  if (w.shape.rank != 2 || x.shape.last() != w.shape[0])
    return base::invalid_input("linear_f32: w has shape " + w.shape.text() + " and x " + x.shape.text() +
                               ", expected w [k, n] and x [.., k]");
  const int64_t rows = x.shape.rows(), n = w.shape[1];
  if (rows < 1 || rows > (1 << 24) || n > (1 << 24) || w.shape[0] > (1 << 24))
    return base::invalid_input("linear_f32: x has shape " + x.shape.text() + ", w " + w.shape.text() + ", too large");
  if (inputs[2] != nullptr) {
    MM_RETURN_IF_ERROR(expect_f32(*inputs[2], "linear_f32: bias"));
    MM_RETURN_IF_ERROR(expect_elements(*inputs[2], n, "linear_f32: bias"));
  }
  if (inputs[3] != nullptr) {
    MM_RETURN_IF_ERROR(expect_f32(*inputs[3], "linear_f32: residual"));
    MM_RETURN_IF_ERROR(expect_elements(*inputs[3], rows * n, "linear_f32: residual"));
  }
  out.shape = x.shape;
  if (out.shape.rank == 0) out.shape.rank = 1;
  out.shape.dims[static_cast<size_t>(out.shape.rank - 1)] = n;
  return {};
}

base::Status run_linear_f32(Context& context, const Attributes& attributes, const Inputs& inputs,
                            const TensorView& output) {
  kernels::LinearF32Args args = {};
  args.activation = static_cast<Activation>(attributes.integer(0));
  args.x = inputs[0]->as<const float>();
  args.w = inputs[1]->as<const float>();
  args.bias = inputs[2] != nullptr ? inputs[2]->as<const float>() : nullptr;
  args.y = output.as<float>();
  args.m = static_cast<int>(inputs[0]->shape.rows());
  args.k = static_cast<int>(inputs[1]->shape[0]);
  args.n = static_cast<int>(inputs[1]->shape[1]);
  const float* residual = inputs[3] != nullptr ? inputs[3]->as<const float>() : nullptr;
  const int64_t work = static_cast<int64_t>(args.m) * args.n * args.k;
  const int m = args.m;
  if (m < 64) {  // few rows: split the outputs, 16 floats = one cache line at a time
    args.residual = residual;
    parallel_if(context, work, static_cast<size_t>(args.n), 16, [&, args](size_t begin, size_t end, int) {
      kernels::LinearF32Args part = args;
      part.column_begin = static_cast<int>(begin);
      part.column_end = static_cast<int>(end);
      context.kernels.linear_f32(part);
    });
    return {};
  }
  parallel_if(context, work, static_cast<size_t>(m), 8, [&, args](size_t begin, size_t end, int) {
    kernels::LinearF32Args part = args;
    part.x += begin * static_cast<size_t>(args.k);
    part.y += begin * static_cast<size_t>(args.n);
    part.residual = residual != nullptr ? residual + begin * static_cast<size_t>(args.n) : nullptr;
    part.m = static_cast<int>(end - begin);
    part.column_begin = 0;
    part.column_end = args.n;
    context.kernels.linear_f32(part);
  });
  return {};
}

}  // namespace

const Op linear_op = {"linear", 3, 5, 1, 5, 5, false, infer_linear, run_linear};
const Op linear_f32_op = {"linear_f32", 2, 4, 1, 1, 1, false, infer_linear_f32, run_linear_f32};

}  // namespace mm::ops
