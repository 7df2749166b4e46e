// Fixes how low-bit weights lie in memory: one tile is one cache line, one layout for every instruction set.
//
// A weight matrix [n rows = outputs, k columns = inputs] of unsigned codes stands for
//     value = scale[row] * (code - zero2 / 2)
// and is cut into tiles of 16 rows x tile_k columns = 64 bytes. Byte (row * 4 + j) of a tile holds, in bit plane p
// (bits p*bits .. p*bits+bits-1), the code of column tile_k_begin + 4 * p + j. Tiles follow each other along k first,
// then along n. Rows are padded to 16 and columns to 16 with code 0; padded activations are 0, so padded columns add
// nothing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mm::quant {

inline constexpr int tile_rows = 16;    // 16 rows x 4 bytes = one zmm, two ymm, four NEON registers
inline constexpr int tile_bytes = 64;   // one cache line
inline constexpr int column_step = 16;  // columns are padded to this for every bit width

constexpr int tile_columns(int bits) { return 32 / bits; }  // 2 -> 16, 4 -> 8, 8 -> 4
constexpr int round_up(int value, int step) { return (value + step - 1) / step * step; }
constexpr bool is_supported_bits(int bits) { return bits == 2 || bits == 4 || bits == 8; }

// Columns stay below 2^15: 2 * 255 * 127 * 32768 < 2^31 keeps every accumulator exact in int32.
inline constexpr int max_columns = 32768;

constexpr size_t packed_bytes(int bits, int n, int k) {
  return static_cast<size_t>(round_up(n, tile_rows)) * static_cast<size_t>(round_up(k, column_step)) *
         static_cast<size_t>(bits) / 8;
}

// The code at (row, column) of a packed matrix with k_padded columns: the plain twin of every kernel's unpacking.
inline int code_at(const uint8_t* packed, int bits, int k_padded, int row, int column) {
  const int tile_k = tile_columns(bits);
  const int tiles_per_row = k_padded / tile_k;
  const size_t tile =
      static_cast<size_t>(row / tile_rows) * static_cast<size_t>(tiles_per_row) + static_cast<size_t>(column / tile_k);
  const int within = column % tile_k;
  const uint8_t byte = packed[tile * tile_bytes + static_cast<size_t>(row % tile_rows * 4 + within % 4)];
  return (byte >> (within / 4 * bits)) & ((1 << bits) - 1);
}

}  // namespace mm::quant
