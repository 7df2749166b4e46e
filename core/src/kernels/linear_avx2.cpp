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

// `rows` rows of x times the 16 outputs of a tile, in two halves, with 2 or 4-bit codes. maddubs adds two products of
// code and x in 16 bits, which hold `fold` tiles before they must be folded into 32 bits:
//   2 bits, planes shifted down:  4 planes * 2 * 3 * 128 = 3072 a tile, so 10 tiles reach 30720 < 32768;
//   2 bits, two sums (odd planes stay 4 times too large): 2 planes * 2 * 12 * 128 = 6144 a tile, so 5 tiles reach
//   30720; 4 bits, planes shifted down:  2 planes * 2 * 15 * 128 = 7680 a tile, so 4 tiles reach 30720.
// Two sums spare two of three shifts, which pays for one row; with more rows the shifts are shared and registers are
// short.
template <int bits, int rows, int sums>
void block(const LinearArgs& a, int row, int tile) {
  constexpr int halves = 2;
  constexpr int planes = 8 / bits;
  constexpr int tile_k = 4 * planes;
  constexpr int fold = bits == 4 ? 4 : sums == 2 ? 5 : 10;
  const int64_t stride = a.k_padded;
  const int64_t tile_row_bytes = stride / tile_k * tile_bytes;
  const uint8_t* weight = a.weight + tile * tile_row_bytes;
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
    int32_t* out = a.out + static_cast<int64_t>(row + r) * a.out_stride + (tile - a.tile_begin) * tile_rows;
#pragma GCC unroll 2
    for (int h = 0; h < halves; ++h) {
      const __m256i value = _mm256_sub_epi32(_mm256_add_epi32(total[r][h], total[r][h]), correction);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8 * h), value);
    }
  }
}

// Three rows take both halves of a tile: six sums and their totals, which leave the registers between folds, share each
// load of x. More rows would push sums out of registers too.
template <int bits>
void linear(const LinearArgs& a) {
  for (int tile = a.tile_begin; tile < a.tile_end; ++tile) {
    if (a.m == 1) {
      block<bits, 1, bits == 2 ? 2 : 1>(a, 0, tile);
      continue;
    }
    for (int row = 0; row < a.m;) {
      const int left = a.m - row;
      const int rows = left == 4 || left < 3 ? left : 3;
      switch (rows) {
        case 4:
          block<bits, 4, 1>(a, row, tile);
          break;
        case 3:
          block<bits, 3, 1>(a, row, tile);
          break;
        case 2:
          block<bits, 2, 1>(a, row, tile);
          break;
        default:
          block<bits, 1, 1>(a, row, tile);
      }
      row += rows;
    }
  }
}

// 8-bit codes would saturate maddubs (255 * 127 * 2 > 32767), so codes and x are widened and multiplied by madd, in 32
// bits at once. One or two rows widen as they go, which leaves four sums a row: a quarter tile (4 rows x 4 k = 16
// bytes) fills a ymm; each output has two neighbouring lanes, added at the end.
template <int rows>
void few_rows_w8(const LinearArgs& a, int row, int tile) {
  constexpr int tile_k = 4;
  const int64_t stride = a.k_padded;
  const uint8_t* weight = a.weight + tile * (stride / tile_k * tile_bytes);
  const int8_t* x = a.x + row * stride;
  __m256i sum[rows][4];
#pragma GCC unroll 2
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) sum[r][q] = _mm256_setzero_si256();
  }
  for (int64_t k = 0; k < stride; k += tile_k, weight += tile_bytes) {
    if (rows == 1) _mm_prefetch(reinterpret_cast<const char*>(weight + prefetch_bytes), _MM_HINT_T0);
    __m256i wide_x[rows];
#pragma GCC unroll 2
    for (int r = 0; r < rows; ++r) {
      int word;
      __builtin_memcpy(&word, x + r * stride + k, sizeof word);
      wide_x[r] = _mm256_cvtepi8_epi16(_mm_set1_epi32(word));
    }
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
      const __m256i code = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weight + 16 * q)));
#pragma GCC unroll 2
      for (int r = 0; r < rows; ++r) sum[r][q] = _mm256_add_epi32(sum[r][q], _mm256_madd_epi16(code, wide_x[r]));
    }
  }
#pragma GCC unroll 2
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

// From three rows on it pays to widen x once for all tiles. Half a tile (8 rows x 4 k = 32 bytes) then unpacks to two
// ymm, inside their lanes: outputs 0 1 | 4 5 and 2 3 | 6 7, whose neighbouring lanes hadd joins in order.
constexpr int widened_columns = 1024;  // of 4 rows: 8 KB, a quarter of L1, stay while the tiles pass by

// Columns [column, column + columns) of `rows` rows as 16 bits: four columns of each row in turn.
template <int rows>
void widen(const LinearArgs& a, int row, int64_t column, int64_t columns, int16_t* out) {
  for (int r = 0; r < rows; ++r) {
    const int8_t* x = a.x + (row + r) * static_cast<int64_t>(a.k_padded) + column;
    int16_t* to = out + 4 * r;
    for (int64_t k = 0; k < columns; k += 8, to += 8 * rows) {
      const __m128i wide = _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x + k)));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(to), wide);
      _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 4 * rows), _mm_unpackhi_epi64(wide, wide));
    }
  }
}

template <int rows>
void block_w8(const LinearArgs& a, const int16_t* widened, int row, int tile, int64_t column, int64_t columns) {
  constexpr int tile_k = 4;
  const int64_t tile_row_bytes = static_cast<int64_t>(a.k_padded) / tile_k * tile_bytes;
  for (int half = 0; half < 2; ++half) {
    const uint8_t* weight = a.weight + tile * tile_row_bytes + column / tile_k * tile_bytes + half * 32;
    const int16_t* x = widened;
    const __m256i zero = _mm256_setzero_si256();
    __m256i sum[rows][2];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) sum[r][0] = sum[r][1] = zero;
    const uint8_t* const weight_end = weight + columns / tile_k * tile_bytes;
    for (; weight != weight_end; weight += tile_bytes, x += tile_k * rows) {
      const __m256i code = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weight));
      const __m256i low = _mm256_unpacklo_epi8(code, zero), high = _mm256_unpackhi_epi8(code, zero);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        long long four;
        __builtin_memcpy(&four, x + tile_k * r, sizeof four);
        const __m256i wide_x = _mm256_set1_epi64x(four);
        sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(low, wide_x));
        sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(high, wide_x));
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      int32_t* out =
          a.out + static_cast<int64_t>(row + r) * a.out_stride + (tile - a.tile_begin) * tile_rows + half * 8;
      const __m256i before = column == 0 ? _mm256_set1_epi32(-a.zero2 * a.x_sum[row + r])
                                         : _mm256_loadu_si256(reinterpret_cast<const __m256i*>(out));
      const __m256i total = _mm256_hadd_epi32(sum[r][0], sum[r][1]);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_add_epi32(before, _mm256_add_epi32(total, total)));
    }
  }
}

template <int rows>
void rows_w8(const LinearArgs& a, int row) {
  alignas(64) int16_t widened[rows * widened_columns];
  for (int64_t column = 0; column < a.k_padded; column += widened_columns) {
    const int64_t left = a.k_padded - column, columns = left < widened_columns ? left : widened_columns;
    widen<rows>(a, row, column, columns, widened);
    for (int tile = a.tile_begin; tile < a.tile_end; ++tile) block_w8<rows>(a, widened, row, tile, column, columns);
  }
}

void linear_w8(const LinearArgs& a) {
  if (a.m == 1) {
    for (int tile = a.tile_begin; tile < a.tile_end; ++tile) few_rows_w8<1>(a, 0, tile);
    return;
  }
  if (a.m == 2) {
    for (int tile = a.tile_begin; tile < a.tile_end; ++tile) few_rows_w8<2>(a, 0, tile);
    return;
  }
  for (int row = 0; row < a.m;) {
    const int left = a.m - row;
    const int rows = left == 5 || left == 6 ? 3 : left < 4 ? left : 4;  // 4 rows: 8 sums, 4 of x and codes
    switch (rows) {
      case 4:
        rows_w8<4>(a, row);
        break;
      case 3:
        rows_w8<3>(a, row);
        break;
      case 2:
        rows_w8<2>(a, row);
        break;
      default:
        rows_w8<1>(a, row);
    }
    row += rows;
  }
}

}  // namespace

void linear_w2a8_avx2(const LinearArgs& a) { linear<2>(a); }
void linear_w4a8_avx2(const LinearArgs& a) { linear<4>(a); }
void linear_w8a8_avx2(const LinearArgs& a) { linear_w8(a); }

}  // namespace mm::kernels
