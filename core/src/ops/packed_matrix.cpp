// Checks packed matrices and multiplies with them, group by group of tiles.
#include "ops/packed_matrix.h"

#include <algorithm>

#include "quant/layout.h"

namespace mm::ops {

base::Result<PackedMatrix> packed_matrix(const std::string& op, int bits, int n, int64_t k, int zero2, int activation,
                                         const tensor::TensorView& packed, const tensor::TensorView& scale,
                                         const tensor::TensorView* bias) {
  const char* name = op.c_str();
  PackedMatrix m = {};
  MM_ASSIGN_OR_RETURN(m.activation, activation_from(name, activation));
  MM_RETURN_IF_ERROR(expect_attribute(quant::is_supported_bits(bits), name, "bits", bits, "2, 4 or 8"));
  MM_RETURN_IF_ERROR(expect_attribute(n > 0 && n <= (1 << 20), name, "n", n, "1 to 1048576"));
  MM_RETURN_IF_ERROR(
      expect_attribute(k > 0 && k <= quant::max_columns - quant::column_step, name, "k", k, "1 to 32752"));
  MM_RETURN_IF_ERROR(
      expect_attribute(zero2 >= 0 && zero2 <= (2 << bits) - 2, name, "zero2", zero2, "0 to twice the largest code"));
  m.bits = bits;
  m.n = n;
  m.k = static_cast<int>(k);
  m.zero2 = zero2;
  m.k_padded = quant::round_up(m.k, quant::column_step);
  m.tiles = quant::round_up(n, quant::tile_rows) / quant::tile_rows;
  // Run for every layer of every token: texts are put together where they are needed alone.
  const auto check = [&op](const tensor::TensorView& view, tensor::DType type, int64_t elements, const char* what) {
    if (view.dtype == type && view.shape.elements() == elements) return base::Status();
    const std::string named = op + ": " + what;
    MM_RETURN_IF_ERROR(expect_type(view, type, named.c_str()));
    return expect_elements(view, elements, named.c_str());
  };
  MM_RETURN_IF_ERROR(
      check(packed, tensor::DType::i8, static_cast<int64_t>(quant::packed_bytes(bits, n, m.k)), "packed weight"));
  MM_RETURN_IF_ERROR(check(scale, tensor::DType::f32, n, "scale"));
  if (bias != nullptr) {
    MM_RETURN_IF_ERROR(check(*bias, tensor::DType::f32, n, "bias"));
    m.bias = bias->as<const float>();
  }
  m.weight = packed.as<const uint8_t>();
  m.scale = scale.as<const float>();
  return m;
}

int balanced_block(int64_t rows) {
  constexpr int64_t most = 48, most_alone = 64;
  if (rows <= most_alone) return static_cast<int>(rows);
  const int64_t blocks = (rows + most - 1) / most;
  return static_cast<int>((rows + blocks - 1) / blocks);
}

int tiles_in_group(int block_rows, int tiles) {
  const int fitting = 6144 / (block_rows * quant::tile_rows);
  return std::clamp(fitting / 2 * 2, 1, tiles);
}

QuantizedRows take_rows(ScratchPieces& scratch, int block_rows, int k_padded, int group_tiles) {
  const size_t rows = static_cast<size_t>(block_rows);
  QuantizedRows taken = {};
  taken.x = scratch.take<int8_t>(rows * static_cast<size_t>(k_padded));
  taken.scale = scratch.take<float>(rows);
  taken.sum = scratch.take<int32_t>(rows);
  taken.acc = scratch.take<int32_t>(rows * static_cast<size_t>(group_tiles) * quant::tile_rows);
  taken.group_tiles = group_tiles;
  return taken;
}

template <class Finish>
void PackedMatrix::each_group(const kernels::KernelTable& kernels, const QuantizedRows& rows, int m, int tile_begin,
                              int tile_end, Finish&& finish) const {
  const auto linear = bits == 2 ? kernels.linear_w2a8 : bits == 4 ? kernels.linear_w4a8 : kernels.linear_w8a8;
  for (int tile = tile_begin; tile < tile_end; tile += rows.group_tiles) {
    const int group_end = std::min(tile + rows.group_tiles, tile_end);
    const int stride = (group_end - tile) * quant::tile_rows, column = tile * quant::tile_rows;
    linear({rows.x, rows.sum, weight, m, k_padded, zero2, tile, group_end, rows.acc, stride});
    finish(column, stride, std::min(stride, n - column));
  }
}

void PackedMatrix::multiply(const kernels::KernelTable& kernels, const QuantizedRows& rows, int m, int tile_begin,
                            int tile_end, const float* residual, float* y) const {
  each_group(kernels, rows, m, tile_begin, tile_end, [&](int column, int stride, int columns) {
    kernels.linear_epilogue({rows.acc, stride, rows.scale, scale + column, bias != nullptr ? bias + column : nullptr,
                             residual != nullptr ? residual + column : nullptr, y + column, n, m, columns, activation});
  });
}

void PackedMatrix::multiply(const kernels::KernelTable& kernels, const QuantizedRows& rows, int m, int tile_begin,
                            int tile_end, const float*, int8_t* y) const {
  each_group(kernels, rows, m, tile_begin, tile_end, [&](int column, int stride, int columns) {
    kernels.linear_epilogue_codes({rows.acc, stride, rows.scale, scale + column,
                                   bias != nullptr ? bias + column : nullptr, y + column, n, m, columns});
  });
}

void PackedMatrix::fill_rows(const kernels::KernelTable& kernels, const QuantizedRows& rows, const float* x,
                             int count) const {
  kernels.quantize_rows(x, count, k, rows.x, k_padded, rows.scale, rows.sum);
}

void PackedMatrix::fill_rows(const kernels::KernelTable& kernels, const QuantizedRows& rows, const int8_t* codes,
                             int count) const {
  kernels.spread_codes(codes, count, k, rows.x, k_padded, rows.sum);
  std::fill_n(rows.scale, count, 1.0f);
}

}  // namespace mm::ops
