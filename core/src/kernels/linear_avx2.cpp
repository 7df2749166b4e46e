// Multiplies int8 activations with 2, 4 and 8-bit weights on AVX2, where products must pass through 16 bits without
// overflow.
#include <immintrin.h>

#include "kernels/instruction_set.h"

namespace mm::kernels {
namespace {

constexpr int tile_rows = 16;   // as in quant/layout.h
constexpr int tile_bytes = 64;  // two ymm: rows 0-7 and rows 8-15
constexpr int prefetch_bytes = 1024;

inline __m256i broadcast4(const int8_t* x) {
  int word;
  __builtin_memcpy(&word, x, sizeof word);
  return _mm256_set1_epi32(word);
}

// `rows` rows of x times 8 * `halves` outputs with 2 or 4-bit codes. maddubs adds two products of code and x in 16
// bits, which hold `fold` tiles before they must be folded into 32 bits:
//   2 bits, planes shifted down:  4 planes * 2 * 3 * 128 = 3072 a tile, so 10 tiles reach 30720 < 32768;
//   2 bits, two sums (odd planes stay 4 times too large): 2 planes * 2 * 12 * 128 = 6144 a tile, so 5 tiles reach
//   30720; 4 bits, planes shifted down:  2 planes * 2 * 15 * 128 = 7680 a tile, so 4 tiles reach 30720.
// Two sums spare two of three shifts, which pays for one row; with more rows the shifts are shared and registers are
// short.
template <int bits, int rows, int halves, int sums>
void block(const LinearArgs& a, int row, int tile, int half) {
  constexpr int planes = 8 / bits;
  constexpr int tile_k = 4 * planes;
  constexpr int fold = bits == 4 ? 4 : sums == 2 ? 5 : 10;
  const int64_t stride = a.k_padded;
  const int64_t tile_row_bytes = stride / tile_k * tile_bytes;
  const uint8_t* weight = a.weight + tile * tile_row_bytes + half * 32;
  const uint8_t* const weight_end = weight + tile_row_bytes;
  const int8_t* x = a.x + row * stride;

  __m256i total[rows][halves];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < halves; ++h) total[r][h] = _mm256_setzero_si256();
  }

  while (weight != weight_end) {
    __m256i sum[rows][halves][sums];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int h = 0; h < halves; ++h) {
#pragma GCC unroll 2
        for (int s = 0; s < sums; ++s) sum[r][h][s] = _mm256_setzero_si256();
      }
    }
    const int64_t left = weight_end - weight;
    const uint8_t* const fold_end = weight + (left < fold * tile_bytes ? left : fold * tile_bytes);
    for (; weight != fold_end; weight += tile_bytes, x += tile_k) {
      __m256i code[halves];
      if (rows == 1) _mm_prefetch(reinterpret_cast<const char*>(weight + prefetch_bytes), _MM_HINT_T0);
#pragma GCC unroll 2
      for (int h = 0; h < halves; ++h) {
        code[h] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weight + 32 * h));
      }
#pragma GCC unroll 4
      for (int p = 0; p < planes; ++p) {
        const int kept = p % sums;
        const __m256i mask = _mm256_set1_epi8(static_cast<char>(((1 << bits) - 1) << (bits * kept)));
        __m256i plane[halves];
#pragma GCC unroll 2
        for (int h = 0; h < halves; ++h) {
          plane[h] = _mm256_and_si256(p == kept ? code[h] : _mm256_srli_epi16(code[h], bits * (p - kept)), mask);
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
          const __m256i word = broadcast4(x + r * stride + 4 * p);
#pragma GCC unroll 2
          for (int h = 0; h < halves; ++h) {
            sum[r][h][kept] = _mm256_add_epi16(sum[r][h][kept], _mm256_maddubs_epi16(plane[h], word));
          }
        }
      }
    }
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int h = 0; h < halves; ++h) {
        __m256i folded = sum[r][h][0];
        if (sums == 2) folded = _mm256_add_epi16(folded, _mm256_srai_epi16(sum[r][h][sums - 1], bits));
        total[r][h] = _mm256_add_epi32(total[r][h], _mm256_madd_epi16(folded, ones));
      }
    }
  }

#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
    const __m256i correction = _mm256_set1_epi32(a.zero2 * a.x_sum[row + r]);
    int32_t* out = a.out + static_cast<int64_t>(row + r) * a.out_stride + (tile - a.tile_begin) * tile_rows + half * 8;
#pragma GCC unroll 2
    for (int h = 0; h < halves; ++h) {
      const __m256i value = _mm256_sub_epi32(_mm256_add_epi32(total[r][h], total[r][h]), correction);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8 * h), value);
    }
  }
}

template <int bits>
void linear(const LinearArgs& a) {
  for (int tile = a.tile_begin; tile < a.tile_end; ++tile) {
    int row = 0;
    if (a.m == 1) block<bits, 1, 2, bits == 2 ? 2 : 1>(a, row++, tile, 0);
    if (a.m == 2) block<bits, 2, 2, 1>(a, row, tile, 0), row += 2;
    while (row < a.m) {
      const int left = a.m - row;
      const int rows = left >= 8 || left == 4 ? 4
                       : left > 4             ? (left + 1) / 2
                                              : left;  // 5 = 3 + 2, 6 = 3 + 3, 7 = 4 + 3
      for (int half = 0; half < 2; ++half) {
        switch (rows) {
          case 4:
            block<bits, 4, 1, 1>(a, row, tile, half);
            break;
          case 3:
            block<bits, 3, 1, 1>(a, row, tile, half);
            break;
          case 2:
            block<bits, 2, 1, 1>(a, row, tile, half);
            break;
          default:
            block<bits, 1, 1, 1>(a, row, tile, half);
        }
      }
      row += rows;
    }
  }
}

// 8-bit codes would saturate maddubs (255 * 127 * 2 > 32767), so codes and x are widened and multiplied by madd, in 32
// bits at once. A quarter tile (4 rows x 4 k = 16 bytes) fills a ymm; each output has two neighbouring lanes, added at
// the end.
template <int rows>
void block_w8(const LinearArgs& a, int row, int tile) {
  constexpr int tile_k = 4;
  const int64_t stride = a.k_padded;
  const uint8_t* weight = a.weight + tile * (stride / tile_k * tile_bytes);
  const int8_t* x = a.x + row * stride;
  __m256i sum[rows][4];
#pragma GCC unroll 3
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) sum[r][q] = _mm256_setzero_si256();
  }
  for (int64_t k = 0; k < stride; k += tile_k, weight += tile_bytes) {
    if (rows == 1) _mm_prefetch(reinterpret_cast<const char*>(weight + prefetch_bytes), _MM_HINT_T0);
    __m256i wide_x[rows];
#pragma GCC unroll 3
    for (int r = 0; r < rows; ++r) {
      int word;
      __builtin_memcpy(&word, x + r * stride + k, sizeof word);
      wide_x[r] = _mm256_cvtepi8_epi16(_mm_set1_epi32(word));
    }
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
      const __m256i code = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weight + 16 * q)));
#pragma GCC unroll 3
      for (int r = 0; r < rows; ++r) sum[r][q] = _mm256_add_epi32(sum[r][q], _mm256_madd_epi16(code, wide_x[r]));
    }
  }
#pragma GCC unroll 3
  for (int r = 0; r < rows; ++r) {
    const __m256i correction = _mm256_set1_epi32(a.zero2 * a.x_sum[row + r]);
    int32_t* out = a.out + static_cast<int64_t>(row + r) * a.out_stride + (tile - a.tile_begin) * tile_rows;
#pragma GCC unroll 2
    for (int q = 0; q < 4; q += 2) {
      // hadd leaves outputs 0 1 4 5 | 2 3 6 7 of the two quarters.
      const __m256i pairs = _mm256_hadd_epi32(sum[r][q], sum[r][q + 1]);
      const __m256i total = _mm256_permute4x64_epi64(pairs, 0xD8);
      const __m256i value = _mm256_sub_epi32(_mm256_add_epi32(total, total), correction);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 4 * q), value);
    }
  }
}

void linear_w8(const LinearArgs& a) {
  for (int tile = a.tile_begin; tile < a.tile_end; ++tile) {
    int row = 0;
    for (; a.m - row > 4 || a.m - row == 3; row += 3) block_w8<3>(a, row, tile);
    for (; a.m - row >= 2; row += 2) block_w8<2>(a, row, tile);
    if (row < a.m) block_w8<1>(a, row, tile);
  }
}

}  // namespace

void linear_w2a8_avx2(const LinearArgs& a) { linear<2>(a); }
void linear_w4a8_avx2(const LinearArgs& a) { linear<4>(a); }
void linear_w8a8_avx2(const LinearArgs& a) { linear_w8(a); }

}  // namespace mm::kernels
