// Multiplies int8 activations with 2, 4 and 8-bit weights on AMX: one instruction does 16 rows x 16 outputs x 64
// columns.
//
// A tile of 8-bit weights as quant/layout.h packs it, 16 outputs x 4 columns, is one row of what AMX calls B, so that
// 16 tiles in a row are one register where they lie; 2 and 4 bits are unpacked to bytes first.
#include <immintrin.h>

#include "kernels/instruction_set.h"

namespace mm::kernels {
namespace {

constexpr int tile_rows = 16;        // outputs, as in quant/layout.h
constexpr int tile_bytes = 64;       // one row of B: 16 outputs x 4 columns
constexpr int step_columns = 64;     // of x that one instruction takes
constexpr int b_bytes = 1024;        // a full B: 16 rows of 64 bytes
constexpr int chunk_columns = 1024;  // unpacked at once: 16 KB a tile of outputs, two of which share L1 with x
constexpr int most_rows = 32;        // two registers of 16
// With fewer columns than this the products are too few to pay for moving sums between registers and memory: 16 columns
// took half again as long as AVX-512 VNNI, 48 as well, 80 a tenth less.
constexpr int least_columns = 80;

// Stores to memory that a tile is loaded from must have been made: gcc's tile intrinsics do not say that they read it.
inline void settle() { __asm__ volatile("" ::: "memory"); }

// Registers 0-3 are sums, 4-5 are x (A), 6-7 are weights (B).
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_a_row[16] = {};
  uint8_t rows[16] = {};
};

// How the registers are laid out on this thread, from the first change until the end of the object's life: idle tiles
// cost the system 8 KB to save at each switch of threads.
class TileShape {
 public:
  TileShape() = default;
  ~TileShape() { _tile_release(); }
  TileShape(const TileShape&) = delete;
  TileShape& operator=(const TileShape&) = delete;

  // Two groups of rows of x. A change zeroes all registers.
  void set(int upper, int lower) {
    if (upper == upper_ && lower == lower_) return;
    upper_ = upper;
    lower_ = lower;
    TileConfig config;
    for (int i = 0; i < 8; ++i) {
      const bool is_weight = i >= 6, is_lower = i == 2 || i == 3 || i == 5;
      config.rows[i] = static_cast<uint8_t>(is_weight ? 16 : is_lower && lower > 0 ? lower : upper);
      config.bytes_a_row[i] = 64;
    }
    settle();
    _tile_loadconfig(&config);
  }

 private:
  int upper_ = 0, lower_ = 0;
};

// Where the products of one block of rows with one or two tiles of outputs are read and written.
struct Block {
  const int8_t* x;  // of the first row, at the chunk's first column
  int64_t stride;   // bytes between rows of x
  int upper;        // rows of the first register; the second has the others
  // B of each tile of outputs, b_bytes a step; the last step may lie elsewhere.
  const uint8_t* weight[2];
  const uint8_t* last[2];
  int steps;            // all, the last one included
  int64_t last_column;  // where the last step begins in x: it may overlap the one before, and has zeros there
  int32_t* out;
  int64_t out_bytes;  // between rows of out
  bool adds;          // to what is in out
};

// The products of one or two groups of rows with one or two tiles of outputs. A register's number is part of the
// instruction, so that no loop can go over them.
template <bool two_groups, bool two_tiles>
void multiply(const Block& b) {
  const int8_t* const lower_x = b.x + b.upper * b.stride;
  int32_t* const lower_out = b.out + b.upper * (b.out_bytes / 4);
  if (b.adds) {
    _tile_loadd(0, b.out, b.out_bytes);
    if (two_tiles) _tile_loadd(1, b.out + tile_rows, b.out_bytes);
    if (two_groups) _tile_loadd(2, lower_out, b.out_bytes);
    if (two_groups && two_tiles) _tile_loadd(3, lower_out + tile_rows, b.out_bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const uint8_t* weight[2] = {b.weight[0], b.weight[1]};
  int64_t column = 0;
  for (int left = b.steps; left > 0; --left, column += step_columns) {
    if (left == 1) {
      weight[0] = b.last[0];
      weight[1] = b.last[1];
      column = b.last_column;
    }
    _tile_loadd(6, weight[0], tile_bytes);
    _tile_loadd(4, b.x + column, b.stride);
    _tile_dpbsud(0, 4, 6);
    if (two_tiles) {
      _tile_loadd(7, weight[1], tile_bytes);
      _tile_dpbsud(1, 4, 7);
    }
    if (two_groups) {
      _tile_loadd(5, lower_x + column, b.stride);
      _tile_dpbsud(2, 5, 6);
      if (two_tiles) _tile_dpbsud(3, 5, 7);
    }
    weight[0] += b_bytes;
    weight[1] += b_bytes;
  }
  _tile_stored(0, b.out, b.out_bytes);
  if (two_tiles) _tile_stored(1, b.out + tile_rows, b.out_bytes);
  if (two_groups) _tile_stored(2, lower_out, b.out_bytes);
  if (two_groups && two_tiles) _tile_stored(3, lower_out + tile_rows, b.out_bytes);
}

// Columns of packed 2- or 4-bit codes as bytes, 64 bytes for each 4 columns.
template <int bits>
void unpack(const uint8_t* packed, int columns, uint8_t* codes) {
  constexpr int planes = 8 / bits;
  const __m512i mask = _mm512_set1_epi8((1 << bits) - 1);
  for (; columns > 0; columns -= 4 * planes, packed += tile_bytes) {
    const __m512i code = _mm512_loadu_si512(packed);
#pragma GCC unroll 4
    for (int p = 0; p < planes; ++p, codes += tile_bytes)
      _mm512_store_si512(codes, _mm512_and_si512(_mm512_srli_epi16(code, bits * p), mask));
  }
}

// B of the columns [column, column + columns) of one tile of outputs: where its full steps lie, and its last one, which
// begins with zeros for the columns that the step before it has taken.
template <int bits>
void take_weight(const LinearArgs& a, int tile, int column, int columns, uint8_t* codes, Block& block, int place) {
  const uint8_t* packed = a.weight + (static_cast<int64_t>(tile) * a.k_padded + column) * 2 * bits;
  const int full = columns / step_columns * step_columns, rest = columns - full;
  const uint8_t* packed_rest = packed + static_cast<int64_t>(full) * 2 * bits;
  uint8_t* last = codes;
  block.weight[place] = bits == 8 ? packed : codes;
  if constexpr (bits < 8) {
    unpack<bits>(packed, full, codes);
    last += full * tile_rows;
  }
  block.last[place] = rest > 0 ? last : block.weight[place] + static_cast<int64_t>(full) * tile_rows - b_bytes;
  if (rest == 0) return;
  const int taken = step_columns - rest;
  if constexpr (bits == 8) {
    for (int i = 0; i < step_columns; i += 4, last += tile_bytes) {
      const uint8_t* from = packed_rest + static_cast<int64_t>(i - taken) * tile_rows;
      _mm512_store_si512(last, i < taken ? _mm512_setzero_si512() : _mm512_loadu_si512(from));
    }
  } else {
    for (int i = 0; i < taken; i += 4, last += tile_bytes) _mm512_store_si512(last, _mm512_setzero_si512());
    unpack<bits>(packed_rest, rest, last);
  }
}

// All rows of x with one or two tiles of outputs, chunk by chunk of the columns.
template <int bits, bool two_tiles>
void multiply_tiles(const LinearArgs& a, int tile, TileShape& shape) {
  constexpr int tiles = two_tiles ? 2 : 1;
  alignas(64) uint8_t codes[tiles][bits == 8 ? b_bytes : chunk_columns * tile_rows];
  const int chunk = bits == 8 ? a.k_padded : chunk_columns;
  int32_t* const out = a.out + (tile - a.tile_begin) * tile_rows;
  Block block = {};
  block.stride = a.k_padded;
  block.out_bytes = static_cast<int64_t>(a.out_stride) * 4;
  for (int column = 0; column < a.k_padded; column += chunk) {
    const int left = a.k_padded - column, columns = left < chunk ? left : chunk;
    for (int t = 0; t < tiles; ++t) take_weight<bits>(a, tile + t, column, columns, codes[t], block, t);
    settle();
    block.steps = (columns + step_columns - 1) / step_columns;
    block.last_column = columns - step_columns;
    block.adds = column > 0;
    for (int row = 0, blocks = (a.m + most_rows - 1) / most_rows; blocks > 0; --blocks) {
      const int rows = (a.m - row + blocks - 1) / blocks;  // dealt out evenly
      block.upper = rows > 16 ? (rows + 1) / 2 : rows;
      block.x = a.x + row * block.stride + column;
      block.out = out + static_cast<int64_t>(row) * a.out_stride;
      shape.set(block.upper, rows - block.upper);
      rows > 16 ? multiply<true, two_tiles>(block) : multiply<false, two_tiles>(block);
      row += rows;
    }
  }
  for (int row = 0; row < a.m; ++row) {
    const __m512i correction = _mm512_set1_epi32(a.zero2 * a.x_sum[row]);
    int32_t* sum = out + static_cast<int64_t>(row) * a.out_stride;
#pragma GCC unroll 2
    for (int t = 0; t < tiles; ++t, sum += tile_rows) {
      const __m512i value = _mm512_loadu_si512(sum);
      _mm512_storeu_si512(sum, _mm512_sub_epi32(_mm512_add_epi32(value, value), correction));
    }
  }
}

bool is_worth_tiles(const LinearArgs& a) { return a.m >= amx_least_rows && a.k_padded >= least_columns; }

template <int bits>
void linear(const LinearArgs& a) {
  TileShape shape;
  int tile = a.tile_begin;
  for (; tile + 2 <= a.tile_end; tile += 2) multiply_tiles<bits, true>(a, tile, shape);
  if (tile < a.tile_end) multiply_tiles<bits, false>(a, tile, shape);
}

}  // namespace

void linear_w2a8_amx(const LinearArgs& a) { is_worth_tiles(a) ? linear<2>(a) : linear_w2a8_avx512_vnni(a); }
void linear_w4a8_amx(const LinearArgs& a) { is_worth_tiles(a) ? linear<4>(a) : linear_w4a8_avx512_vnni(a); }
void linear_w8a8_amx(const LinearArgs& a) { is_worth_tiles(a) ? linear<8>(a) : linear_w8a8_avx512_vnni(a); }

}  // namespace mm::kernels
