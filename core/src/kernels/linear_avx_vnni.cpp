// Multiplies int8 activations with 2, 4 and 8-bit weights on AVX-VNNI (CPUs without AVX-512): a ymm is half a tile.
#include <immintrin.h>

#include "kernels/instruction_set.h"

namespace mm::kernels {
namespace {

constexpr int tile_rows = 16;   // as in quant/layout.h
constexpr int tile_bytes = 64;  // two ymm: rows 0-7 and rows 8-15
constexpr int most_rows = 6;    // 6 rows x 2 halves = 12 of 16 registers, and 12 chains hide dpbusd's 5 cycles
constexpr int most_sums = 12;
constexpr int prefetch_bytes = 1024;

inline __m256i broadcast4(const int8_t* x) {
  int word;
  __builtin_memcpy(&word, x, sizeof word);
  return _mm256_set1_epi32(word);
}

// `rows` rows of x times `tiles` tiles of outputs, over all columns. Planes are kept in place in `sums` accumulators an
// output, or shifted down to share one, exactly as in linear_avx512_vnni.cpp, which has the bounds.
template <int bits, int rows, int tiles, int sums>
void block(const LinearArgs& a, int row, int tile) {
  constexpr int planes = 8 / bits;
  constexpr int tile_k = 4 * planes;
  constexpr int halves = 2 * tiles;
  const int64_t stride = a.k_padded;
  const int64_t tile_row_bytes = stride / tile_k * tile_bytes;
  const uint8_t* weight = a.weight + tile * tile_row_bytes;
  const uint8_t* const weight_end = weight + tile_row_bytes;
  const int8_t* x = a.x + row * stride;

  __m256i sum[rows][halves][sums];
#pragma GCC unroll 6
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
    for (int h = 0; h < halves; ++h) {
#pragma GCC unroll 4
      for (int s = 0; s < sums; ++s) sum[r][h][s] = _mm256_setzero_si256();
    }
  }

  for (; weight != weight_end; weight += tile_bytes, x += tile_k) {
    if (rows <= 3) {
#pragma GCC unroll 4
      for (int t = 0; t < tiles; ++t) {
        _mm_prefetch(reinterpret_cast<const char*>(weight + t * tile_row_bytes + prefetch_bytes), _MM_HINT_T0);
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < planes; ++p) {
      const int kept = p % sums;  // the place this plane is masked at
      const __m256i mask = _mm256_set1_epi8(static_cast<char>(((1 << bits) - 1) << (bits * kept)));
      __m256i plane[halves];
#pragma GCC unroll 8
      for (int h = 0; h < halves; ++h) {
        plane[h] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weight + h / 2 * tile_row_bytes + h % 2 * 32));
        if (p != kept) plane[h] = _mm256_srli_epi16(plane[h], bits * (p - kept));
        if (bits < 8) plane[h] = _mm256_and_si256(plane[h], mask);
      }
#pragma GCC unroll 6
      for (int r = 0; r < rows; ++r) {
        const __m256i word = broadcast4(x + r * stride + 4 * p);
#pragma GCC unroll 8
        for (int h = 0; h < halves; ++h) {
          sum[r][h][kept] = _mm256_dpbusd_avx_epi32(sum[r][h][kept], plane[h], word);
        }
      }
    }
  }

#pragma GCC unroll 6
  for (int r = 0; r < rows; ++r) {
    const __m256i correction = _mm256_set1_epi32(a.zero2 * a.x_sum[row + r]);
    int32_t* out = a.out + static_cast<int64_t>(row + r) * a.out_stride + (tile - a.tile_begin) * tile_rows;
#pragma GCC unroll 8
    for (int h = 0; h < halves; ++h) {
      __m256i total = sum[r][h][0];
#pragma GCC unroll 4
      for (int s = 1; s < sums; ++s) total = _mm256_add_epi32(total, _mm256_srai_epi32(sum[r][h][s], bits * s));
      total = _mm256_sub_epi32(_mm256_add_epi32(total, total), correction);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8 * h), total);
    }
  }
}

using Block = void (*)(const LinearArgs&, int row, int tile);

constexpr int sums_for(int bits, int rows, int tiles) {
  const int planes = 8 / bits, outputs = rows * tiles * 2;
  if (outputs * planes <= 8) return planes;
  if (planes > 2 && outputs * 2 <= most_sums) return 2;
  return 1;
}

template <int bits, int rows, int tiles>
constexpr Block block_of = block<bits, rows, tiles, sums_for(bits, rows, tiles)>;

template <int bits>
constexpr Block one_tile[most_rows + 1] = {nullptr,
                                           block_of<bits, 1, 1>,
                                           block_of<bits, 2, 1>,
                                           block_of<bits, 3, 1>,
                                           block_of<bits, 4, 1>,
                                           block_of<bits, 5, 1>,
                                           block_of<bits, 6, 1>};

// Rows are dealt out evenly to blocks; a single block of few rows takes more tiles at once, for as many chains.
template <int bits>
void linear(const LinearArgs& a) {
  const int block_count = (a.m + most_rows - 1) / most_rows;
  int tile = a.tile_begin;
  while (tile < a.tile_end) {
    const int left = a.tile_end - tile;
    if (bits == 8 && a.m == 1 && left >= 4) {
      block_of<bits, 1, 4>(a, 0, tile);
      tile += 4;
    } else if (bits > 2 && a.m <= 3 && left >= 2) {
      constexpr Block two_tiles[4] = {nullptr, block_of<bits, 1, 2>, block_of<bits, 2, 2>, block_of<bits, 3, 2>};
      two_tiles[a.m](a, 0, tile);
      tile += 2;
    } else {
      int row = 0;
      for (int b = 0; b < block_count; ++b) {
        const int rows = (a.m - row) / (block_count - b);
        one_tile<bits>[rows](a, row, tile);
        row += rows;
      }
      ++tile;
    }
  }
}

}  // namespace

void linear_w2a8_avx_vnni(const LinearArgs& a) { linear<2>(a); }
void linear_w4a8_avx_vnni(const LinearArgs& a) { linear<4>(a); }
void linear_w8a8_avx_vnni(const LinearArgs& a) { linear<8>(a); }

}  // namespace mm::kernels
