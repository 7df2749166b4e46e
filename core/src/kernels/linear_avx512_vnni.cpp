// Multiplies int8 activations with 2, 4 and 8-bit weights on AVX-512 VNNI: a zmm is a tile, dpbusd does 64 products.
#include <immintrin.h>

#include "kernels/instruction_set.h"

namespace mm::kernels {
namespace {

constexpr int tile_rows = 16;   // as in quant/layout.h
constexpr int tile_bytes = 64;  // one zmm
constexpr int most_rows = 12;   // 12 rows x 2 tiles = 24 of 32 registers, and 24 chains hide dpbusd's 5 cycles

inline __m512i broadcast4(const int8_t* x) {
  int word;
  __builtin_memcpy(&word, x, sizeof word);
  return _mm512_set1_epi32(word);
}

// `rows` rows of x times `tiles` tiles of outputs, over all columns.
//
// A plane can be used where it lies in its byte: masked only, its products are 2^(bits * plane) too large, exactly, and
// a shift of the sum at the end mends that. `sums` accumulators an output (a divisor of the planes) keep so many planes
// apart; with fewer registers to spare the planes are shifted first to share an accumulator. The largest sum is 4-bit's
// second plane: 240 * 128 * (32768 / 2) = 5.0e8 < 2^31; 2-bit's fourth reaches 192 * 128 * (32768 / 4) = 2.0e8.
template <int bits, int rows, int tiles, int sums>
void block(const LinearArgs& a, int row, int tile) {
  constexpr int planes = 8 / bits;
  constexpr int tile_k = 4 * planes;
  constexpr int base_mask = (1 << bits) - 1;
  const int64_t stride = a.k_padded;
  const int64_t tile_row_bytes = stride / tile_k * tile_bytes;
  const uint8_t* weight = a.weight + tile * tile_row_bytes;
  const uint8_t* const weight_end = weight + tile_row_bytes;
  // One pointer for three rows: x86 adds an index times 1 or 2 for free, and 12 pointers would not fit 16 registers.
  const int8_t* x[(rows + 2) / 3];
#pragma GCC unroll 4
  for (int i = 0; i < (rows + 2) / 3; ++i) x[i] = a.x + (row + 3 * i) * stride;

  __m512i sum[rows][tiles][sums];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int t = 0; t < tiles; ++t) {
#pragma GCC unroll 4
      for (int s = 0; s < sums; ++s) sum[r][t][s] = _mm512_setzero_si512();
    }
  }

  for (; weight != weight_end; weight += tile_bytes) {
    __m512i code[tiles];
#pragma GCC unroll 4
    for (int t = 0; t < tiles; ++t) {
      code[t] = _mm512_loadu_si512(weight + t * tile_row_bytes);
    }
#pragma GCC unroll 4
    for (int p = 0; p < planes; ++p) {
      const int kept = p % sums;  // the place this plane is masked at
      __m512i plane[tiles];
#pragma GCC unroll 4
      for (int t = 0; t < tiles; ++t) {
        plane[t] = p == kept ? code[t] : _mm512_srli_epi16(code[t], bits * (p - kept));
        if (bits < 8)
          plane[t] = _mm512_and_si512(plane[t], _mm512_set1_epi8(static_cast<char>(base_mask << (bits * kept))));
      }
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
        const __m512i word = broadcast4(x[r / 3] + r % 3 * stride + 4 * p);
#pragma GCC unroll 4
        for (int t = 0; t < tiles; ++t) sum[r][t][kept] = _mm512_dpbusd_epi32(sum[r][t][kept], plane[t], word);
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < (rows + 2) / 3; ++i) x[i] += tile_k;
  }

#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    const __m512i correction = _mm512_set1_epi32(a.zero2 * a.x_sum[row + r]);
    int32_t* out = a.out + static_cast<int64_t>(row + r) * a.out_stride + (tile - a.tile_begin) * tile_rows;
#pragma GCC unroll 4
    for (int t = 0; t < tiles; ++t) {
      __m512i total = sum[r][t][0];
#pragma GCC unroll 4
      for (int s = 1; s < sums; ++s) total = _mm512_add_epi32(total, _mm512_srai_epi32(sum[r][t][s], bits * s));
      total = _mm512_sub_epi32(_mm512_add_epi32(total, total), correction);
      _mm512_storeu_si512(out + t * tile_rows, total);
    }
  }
}

// Few rows, tile after tile: the weights are one stream, as they lie. The CPU's own prefetching follows it from memory
// at 31 GB/s on a Zen 4 core, where two tile rows side by side reached 10 to 14, and prefetch instructions take 10 to
// 25 % away. `chains` steps of a tile row take turns, so that dpbusd's 5 cycles pass unnoticed.
template <int bits, int rows>
void few_rows(const LinearArgs& a) {
  constexpr int planes = 8 / bits, tile_k = 4 * planes, base_mask = (1 << bits) - 1;
  constexpr int chains = rows * planes >= 8 ? 1 : 8 / (rows * planes);
  const int64_t tile_row_bytes = static_cast<int64_t>(a.k_padded) / tile_k * tile_bytes;
  const uint8_t* weight = a.weight + a.tile_begin * tile_row_bytes;
  int32_t* out = a.out;
  for (int tile = a.tile_begin; tile < a.tile_end; ++tile, out += tile_rows) {
    __m512i sum[rows][planes][chains];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
      for (int p = 0; p < planes; ++p) {
#pragma GCC unroll 8
        for (int c = 0; c < chains; ++c) sum[r][p][c] = _mm512_setzero_si512();
      }
    }
    const int8_t* x = a.x;
    const uint8_t* const row_end = weight + tile_row_bytes;
    const auto step = [&](int c) __attribute__((always_inline)) {
      const __m512i code = _mm512_loadu_si512(weight + c * tile_bytes);
#pragma GCC unroll 4
      for (int p = 0; p < planes; ++p) {
        const __m512i mask = _mm512_set1_epi8(static_cast<char>(base_mask << (bits * p)));
        const __m512i plane = bits < 8 ? _mm512_and_si512(code, mask) : code;
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
          const __m512i word = broadcast4(x + r * a.k_padded + c * tile_k + 4 * p);
          sum[r][p][c] = _mm512_dpbusd_epi32(sum[r][p][c], plane, word);
        }
      }
    };
    for (; weight + chains * tile_bytes <= row_end; weight += chains * tile_bytes, x += chains * tile_k) {
#pragma GCC unroll 8
      for (int c = 0; c < chains; ++c) step(c);
    }
    for (; weight != row_end; weight += tile_bytes, x += tile_k) step(0);
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      __m512i total = _mm512_setzero_si512();
#pragma GCC unroll 4
      for (int p = 0; p < planes; ++p) {
        __m512i plane = sum[r][p][0];
#pragma GCC unroll 8
        for (int c = 1; c < chains; ++c) plane = _mm512_add_epi32(plane, sum[r][p][c]);
        total = _mm512_add_epi32(total, _mm512_srai_epi32(plane, bits * p));
      }
      const __m512i correction = _mm512_set1_epi32(a.zero2 * a.x_sum[r]);
      _mm512_storeu_si512(out + static_cast<int64_t>(r) * a.out_stride,
                          _mm512_sub_epi32(_mm512_slli_epi32(total, 1), correction));
    }
  }
}

using Block = void (*)(const LinearArgs&, int row, int tile);

// As many planes apart as fit 16 accumulators (24 where that still leaves registers for the masks).
constexpr int sums_for(int bits, int rows, int tiles) {
  const int planes = 8 / bits;
  if (rows * tiles * planes <= 16) return planes;
  if (planes > 2 && rows * tiles * 2 <= 24) return 2;
  return 1;
}

template <int bits, int rows, int tiles>
constexpr Block block_of = block<bits, rows, tiles, sums_for(bits, rows, tiles)>;

// Blocks of more rows than few_rows takes: rows are dealt out evenly, so that none is smaller.
template <int bits, int tiles>
constexpr Block blocks[most_rows + 1] = {nullptr,
                                         nullptr,
                                         nullptr,
                                         nullptr,
                                         nullptr,
                                         block_of<bits, 5, tiles>,
                                         block_of<bits, 6, tiles>,
                                         block_of<bits, 7, tiles>,
                                         block_of<bits, 8, tiles>,
                                         block_of<bits, 9, tiles>,
                                         block_of<bits, 10, tiles>,
                                         block_of<bits, 11, tiles>,
                                         block_of<bits, 12, tiles>};

// Tiles outermost: two tile rows of weights stay in the L1 or L2 cache while all rows of x pass. The rows are dealt out
// evenly (49 = 10 + 10 + 10 + 10 + 9), because a last block of one row would run at a quarter of the speed.
template <int bits>
void linear(const LinearArgs& a) {
  switch (a.m) {
    case 1:
      return few_rows<bits, 1>(a);
    case 2:
      return few_rows<bits, 2>(a);
    case 3:
      return few_rows<bits, 3>(a);
    case 4:
      return few_rows<bits, 4>(a);
    default:
      break;
  }
  const int block_count = (a.m + most_rows - 1) / most_rows;
  int tile = a.tile_begin;
  while (tile < a.tile_end) {
    const int tiles = a.tile_end - tile >= 2 ? 2 : 1;
    int row = 0;
    for (int b = 0; b < block_count; ++b) {
      const int rows = (a.m - row) / (block_count - b);
      (tiles == 2 ? blocks<bits, 2> : blocks<bits, 1>)[rows](a, row, tile);
      row += rows;
    }
    tile += tiles;
  }
}

}  // namespace

void linear_w2a8_avx512_vnni(const LinearArgs& a) { linear<2>(a); }
void linear_w4a8_avx512_vnni(const LinearArgs& a) { linear<4>(a); }
void linear_w8a8_avx512_vnni(const LinearArgs& a) { linear<8>(a); }

}  // namespace mm::kernels
