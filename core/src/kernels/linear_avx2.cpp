// Multiplies int8 activations with 2 and 4-bit weights on AVX2, where products must pass through 16 bits without
// overflow.
#include <immintrin.h>

#include "kernels/instruction_set.h"

namespace mm::kernels {
namespace {

constexpr int tile_rows = 16;  // as in quant/layout.h
constexpr int tile_bytes = 64;
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

// Up to four rows: codes are unpacked where they are used. Three rows take both halves of a tile: six sums and their
// totals, which leave the registers between folds, share each load of x.
template <int bits>
void few_rows(const LinearArgs& a) {
  for (int tile = a.tile_begin; tile < a.tile_end; ++tile) {
    switch (a.m) {
      case 4:
        block<bits, 4, 1>(a, 0, tile);
        break;
      case 3:
        block<bits, 3, 1>(a, 0, tile);
        break;
      case 2:
        block<bits, 2, 1>(a, 0, tile);
        break;
      default:
        block<bits, 1, bits == 2 ? 2 : 1>(a, 0, tile);
    }
  }
}

// More rows unpack a chunk of a tile once, to a byte a code in L1, and share it: 12 sums of 16 bits stay in registers.
constexpr int most_rows = 6;
constexpr int chunk_columns = 512;  // 8 KB of bytes, which leave room for 48 rows of x
constexpr int quad_columns = 4;     // 4 columns of 16 outputs: 64 bytes unpacked

template <int bits>
void unpack(const uint8_t* packed, int columns, uint8_t* codes) {
  constexpr int planes = 8 / bits;
  const __m256i mask = _mm256_set1_epi8((1 << bits) - 1);
  for (int column = 0; column < columns; column += 4 * planes, packed += tile_bytes) {
    __m256i code[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) code[h] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(packed + 32 * h));
#pragma GCC unroll 4
    for (int p = 0; p < planes; ++p, codes += 64) {
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h)
        _mm256_store_si256(reinterpret_cast<__m256i*>(codes + 32 * h),
                           _mm256_and_si256(_mm256_srli_epi16(code[h], bits * p), mask));
    }
  }
}

// Adds a chunk's products of `rows` rows with the 16 outputs to `out`, which the first chunk begins. 16 bits hold 42
// quads of 2-bit codes (2 * 3 * 128 each) and 8 quads of 4-bit codes (2 * 15 * 128 each).
template <int bits, int rows>
void unpacked_block(const LinearArgs& a, const uint8_t* codes, int row, int column, int columns, int32_t* out) {
  constexpr int fold = bits == 2 ? 42 : 8;
  const int64_t stride = a.k_padded;
  const int8_t* x = a.x + row * stride + column;
  __m256i total[rows][2];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
    total[r][0] = column == 0 ? _mm256_set1_epi32(-a.zero2 * a.x_sum[row + r]) : _mm256_setzero_si256();
    total[r][1] = total[r][0];
  }
  const __m256i twos = _mm256_set1_epi16(2);  // out is twice the sum
  for (int left = columns / quad_columns; left > 0;) {
    int quads = left < fold ? left : fold;
    left -= quads;
    __m256i sum[rows][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
    for (; quads > 0; --quads, codes += 64, x += quad_columns) {
      const __m256i low = _mm256_load_si256(reinterpret_cast<const __m256i*>(codes));
      const __m256i high = _mm256_load_si256(reinterpret_cast<const __m256i*>(codes + 32));
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) {
        const __m256i word = broadcast4(x + r * stride);
        sum[r][0] = _mm256_add_epi16(sum[r][0], _mm256_maddubs_epi16(low, word));
        sum[r][1] = _mm256_add_epi16(sum[r][1], _mm256_maddubs_epi16(high, word));
        // Ends a row's work: gcc would load the x of all rows first and push sums out of registers.
        asm volatile("" : "+x"(sum[r][0]), "+x"(sum[r][1]));
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      total[r][0] = _mm256_add_epi32(total[r][0], _mm256_madd_epi16(sum[r][0], twos));
      total[r][1] = _mm256_add_epi32(total[r][1], _mm256_madd_epi16(sum[r][1], twos));
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r, out += a.out_stride) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      __m256i* to = reinterpret_cast<__m256i*>(out + 8 * h);
      _mm256_storeu_si256(to, column == 0 ? total[r][h] : _mm256_add_epi32(_mm256_loadu_si256(to), total[r][h]));
    }
  }
}

template <int bits>
void many_rows(const LinearArgs& a) {
  alignas(64) uint8_t codes[chunk_columns * tile_rows];
  for (int column = 0; column < a.k_padded; column += chunk_columns) {
    const int left = a.k_padded - column, columns = left < chunk_columns ? left : chunk_columns;
    for (int tile = a.tile_begin; tile < a.tile_end; ++tile) {
      unpack<bits>(a.weight + (tile * static_cast<int64_t>(a.k_padded) + column) * 2 * bits, columns, codes);
      int32_t* out = a.out + (tile - a.tile_begin) * tile_rows;
      for (int row = 0, blocks = (a.m + most_rows - 1) / most_rows; blocks > 0; --blocks) {
        const int rows = (a.m - row + blocks - 1) / blocks;  // dealt out evenly
        switch (rows) {
          case 6:
            unpacked_block<bits, 6>(a, codes, row, column, columns, out);
            break;
          case 5:
            unpacked_block<bits, 5>(a, codes, row, column, columns, out);
            break;
          case 4:
            unpacked_block<bits, 4>(a, codes, row, column, columns, out);
            break;
          default:
            unpacked_block<bits, 3>(a, codes, row, column, columns, out);
        }
        row += rows;
        out += rows * static_cast<int64_t>(a.out_stride);
      }
    }
  }
}

template <int bits>
void linear(const LinearArgs& a) {
  a.m <= 4 ? few_rows<bits>(a) : many_rows<bits>(a);
}

}  // namespace

void linear_w2a8_avx2(const LinearArgs& a) { linear<2>(a); }
void linear_w4a8_avx2(const LinearArgs& a) { linear<4>(a); }

}  // namespace mm::kernels
