// Multiplies int8 activations with 8-bit weights on AVX2, through 16-bit sums wherever the activations allow it.
#include <immintrin.h>

#include "kernels/instruction_set.h"

namespace mm::kernels {
namespace {

constexpr int tile_rows = 16;   // as in quant/layout.h
constexpr int tile_bytes = 64;  // 16 outputs x 4 columns; two halves of 8 outputs
constexpr int tile_k = 4;
constexpr int panel_rows = 48;      // what the operations hand over at once
constexpr int block_rows = 8;       // 8 sums, 2 of codes, 2 of x, 2 of products, 1 constant of 16 registers
constexpr int chunk_columns = 512;  // 48 rows as bytes: 24 KB, they and a tile's 8 KB stay in L1
constexpr int unit_columns = 16;    // what one 128-bit load of a row holds
constexpr int group_columns = 8;    // two quads, whose products may share a 16-bit sum
constexpr int pair_most = 255;      // 255 * 128 = 32640 fits 16 bits

inline __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store(void* p, __m256i value) { _mm256_storeu_si256(static_cast<__m256i*>(p), value); }
// Ends a row's work: gcc would load the x of all rows first and push sums out of registers.
inline void finish_row(__m256i& sum) { asm volatile("" : "+x"(sum)); }
inline __m256i splat4(const void* x) {
  int word;
  __builtin_memcpy(&word, x, sizeof word);
  return _mm256_set1_epi32(word);
}

// One or two rows widen codes and x to 16 bits as they go and multiply by madd, in 32 bits at once: a quarter tile (4
// outputs x 4 columns = 16 bytes) fills a ymm; each output has two neighbouring lanes, added at the end.
template <int rows>
void few_rows(const LinearArgs& a, int tile) {
  const int64_t stride = a.k_padded;
  const uint8_t* weight = a.weight + tile * (stride / tile_k * tile_bytes);
  __m256i sum[rows][4];
#pragma GCC unroll 2
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) sum[r][q] = _mm256_setzero_si256();
  }
  for (int64_t k = 0; k < stride; k += tile_k, weight += tile_bytes) {
    __m256i wide_x[rows];
#pragma GCC unroll 2
    for (int r = 0; r < rows; ++r) {
      int word;
      __builtin_memcpy(&word, a.x + r * stride + k, sizeof word);
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
    const __m256i correction = _mm256_set1_epi32(a.zero2 * a.x_sum[r]);
    int32_t* out = a.out + static_cast<int64_t>(r) * a.out_stride + (tile - a.tile_begin) * tile_rows;
#pragma GCC unroll 2
    for (int q = 0; q < 4; q += 2) {
      // hadd leaves outputs 0 1 4 5 | 2 3 6 7 of the two quarters.
      const __m256i pairs = _mm256_hadd_epi32(sum[r][q], sum[r][q + 1]);
      const __m256i total = _mm256_permute4x64_epi64(pairs, 0xD8);
      store(out + 4 * q, _mm256_sub_epi32(_mm256_add_epi32(total, total), correction));
    }
  }
}

// More rows are packed once for all tiles. Two ways lead to the exact sum over a chunk of columns:
//
// bytes: maddubs adds two products in 16 bits, which hold u * w + v * x for unsigned u + v <= 255 and signed w, x.
// Where
//   activations are not negative (after a ReLU) or barely (after a GELU), they become u = x + shift, and w = code -
//   128: sum(code * x) = sum(w * u) - shift * sum(w) + 128 * sum(x). Where even four of them stay below 256, as nine
//   tenths of an encoder's do, two quads share their 16-bit sum: 5 instructions for 64 products, not 8.
// words: any activations, as 16 bits and madd. Of a quad's four columns the even two are one operand, the odd two the
//   other, as a mask and a shift leave the codes.
struct Group {
  int32_t weight, x;  // where its bytes begin, counted from the chunk and from the block
};

struct Block {
  int rows;
  bool is_bytes;
  int shift;
  int groups, joint_groups;  // the first `joint_groups` of the list share their sums
  Group list[chunk_columns / group_columns];
  uint32_t start[block_rows];  // what each row adds to twice its products, modulo 2^32 as vectors count
  alignas(
      64) int8_t x[block_rows * chunk_columns * 2];  // bytes: [units, rows, 16]; words: [units, rows, 16] of 16 bits
};

struct Panel {
  int blocks;
  bool has_shift;
  Block block[panel_rows / block_rows];
};

inline int smallest(__m128i x) {
  x = _mm_min_epi8(x, _mm_srli_si128(x, 8));
  x = _mm_min_epi8(x, _mm_srli_si128(x, 4));
  x = _mm_min_epi8(x, _mm_srli_si128(x, 2));
  x = _mm_min_epi8(x, _mm_srli_si128(x, 1));
  return static_cast<int8_t>(_mm_cvtsi128_si32(x));
}

inline __m128i load16(const int8_t* x) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(x)); }

// Writes the block as bytes and lists its groups; false: two neighbours exceed what maddubs holds.
bool pack_bytes(const int8_t* x, int64_t stride, int columns, Block& block) {
  const __m128i shift = _mm_set1_epi8(static_cast<char>(block.shift)), ones = _mm_set1_epi8(1);
  const __m128i most = _mm_set1_epi16(pair_most);
  Group apart[chunk_columns / group_columns];
  int apart_count = 0;
  block.joint_groups = 0;
  int8_t* to = block.x;
  for (int column = 0; column < columns; column += unit_columns) {
    __m128i pair = _mm_setzero_si128(), four = pair;  // the largest sums of two and of four, over the rows
    for (int r = 0; r < block.rows; ++r) {
      const __m128i u = _mm_add_epi8(load16(x + r * stride + column), shift);
      _mm_store_si128(reinterpret_cast<__m128i*>(to + unit_columns * r), u);
      const __m128i two = _mm_maddubs_epi16(u, ones);
      pair = _mm_max_epi16(pair, two);
      four = _mm_max_epi16(four, _mm_add_epi16(two, _mm_shuffle_epi32(two, 0xB1)));
    }
    if (_mm_movemask_epi8(_mm_cmpgt_epi16(pair, most)) != 0) return false;
    const int too_large = _mm_movemask_epi8(_mm_cmpgt_epi16(four, most));
    for (int half = 0; half < 2; ++half) {
      const Group group = {(column + half * group_columns) / tile_k * tile_bytes,
                           column * block.rows + half * group_columns};
      if ((too_large >> (8 * half) & 255) == 0) {
        block.list[block.joint_groups++] = group;
      } else {
        apart[apart_count++] = group;
      }
    }
    to += unit_columns * block.rows;
  }
  block.groups = block.joint_groups + apart_count;
  for (int i = 0; i < apart_count; ++i) block.list[block.joint_groups + i] = apart[i];
  return true;
}

// Writes the block as words: the even and the odd columns of each quad.
void pack_words(const int8_t* x, int64_t stride, int columns, Block& block) {
  int8_t* to = block.x;
  for (int column = 0; column < columns; column += unit_columns) {
    for (int r = 0; r < block.rows; ++r, to += 2 * unit_columns) {
      const __m128i both = load16(x + r * stride + column);
      const __m128i even = _mm_srai_epi16(_mm_slli_epi16(both, 8), 8), odd = _mm_srai_epi16(both, 8);
      _mm_store_si128(reinterpret_cast<__m128i*>(to), _mm_unpacklo_epi32(even, odd));
      _mm_store_si128(reinterpret_cast<__m128i*>(to + unit_columns), _mm_unpackhi_epi32(even, odd));
    }
  }
}

// `x_sum` of the block's rows for the first chunk, nullptr for the others.
void pack_block(const int8_t* x, int64_t stride, int columns, const int32_t* x_sum, int zero2, Block& block) {
  __m128i low = _mm_setzero_si128();
  for (int r = 0; r < block.rows; ++r) {
    for (int column = 0; column < columns; column += unit_columns)
      low = _mm_min_epi8(low, load16(x + r * stride + column));
  }
  block.shift = -smallest(low);
  // Beyond 64, two neighbours would rarely stay below 256.
  for (int r = 0; r < block.rows; ++r)
    block.start[r] = x_sum != nullptr ? 0u - static_cast<uint32_t>(zero2) * static_cast<uint32_t>(x_sum[r]) : 0;
  block.is_bytes = block.shift <= 64 && pack_bytes(x, stride, columns, block);
  if (!block.is_bytes) {
    pack_words(x, stride, columns, block);
    return;
  }
  const __m256i ones = _mm256_set1_epi16(1);
  for (int r = 0; r < block.rows; ++r) {
    __m256i sum = _mm256_setzero_si256();
    for (int column = 0; column < columns; column += unit_columns)
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_cvtepi8_epi16(load16(x + r * stride + column)), ones));
    uint32_t lanes[8];
    store(lanes, sum);
    for (uint32_t lane : lanes) block.start[r] += 2 * 128 * lane;
  }
}

// The sums of code - 128 of 8 outputs over a chunk.
__m256i weight_sums(const uint8_t* weight, int columns) {
  const __m256i ones = _mm256_set1_epi8(1), middle = _mm256_set1_epi8(-128);
  __m256i sum = _mm256_setzero_si256();
  for (const uint8_t* const end = weight + columns / tile_k * tile_bytes; weight != end; weight += tile_bytes) {
    const __m256i pairs = _mm256_maddubs_epi16(ones, _mm256_xor_si256(load(weight), middle));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  return sum;
}

template <int rows>
inline void multiply_bytes(const Block& block, const uint8_t* weight, __m256i (&sum)[rows]) {
  const __m256i middle = _mm256_set1_epi8(-128), ones = _mm256_set1_epi16(1);
  const int8_t* const x_begin = block.x;
  const Group* group = block.list;
  for (const Group* const end = group + block.joint_groups; group != end; ++group) {
    const uint8_t* w = weight + group->weight;
    const int8_t* x = x_begin + group->x;
    const __m256i first = _mm256_xor_si256(load(w), middle), second = _mm256_xor_si256(load(w + tile_bytes), middle);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const __m256i joint = _mm256_add_epi16(_mm256_maddubs_epi16(splat4(x + unit_columns * r), first),
                                             _mm256_maddubs_epi16(splat4(x + unit_columns * r + tile_k), second));
      sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(joint, ones));
      finish_row(sum[r]);
    }
  }
  for (const Group* const end = block.list + block.groups; group != end; ++group) {
    const uint8_t* w = weight + group->weight;
    const int8_t* x = x_begin + group->x;
#pragma GCC unroll 2
    for (int quad = 0; quad < 2; ++quad, w += tile_bytes, x += tile_k) {
      const __m256i code = _mm256_xor_si256(load(w), middle);
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) {
        const __m256i pairs = _mm256_maddubs_epi16(splat4(x + unit_columns * r), code);
        sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(pairs, ones));
        finish_row(sum[r]);
      }
    }
  }
}

template <int rows>
inline void multiply_words(const Block& block, const uint8_t* weight, int columns, __m256i (&sum)[rows]) {
  const __m256i even_mask = _mm256_set1_epi16(255);
  const int8_t* x = block.x;
  for (int column = 0; column < columns; column += unit_columns, x += 2 * unit_columns * rows) {
#pragma GCC unroll 4
    for (int quad = 0; quad < 4; ++quad, weight += tile_bytes) {
      const __m256i code = load(weight);
      const __m256i even = _mm256_and_si256(code, even_mask), odd = _mm256_srli_epi16(code, 8);
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) {
        const int8_t* both = x + 2 * unit_columns * r + 8 * quad;
        sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(even, splat4(both)));
        sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(odd, splat4(both + 4)));
        finish_row(sum[r]);
      }
    }
  }
}

// Adds a chunk's products of one block with 8 outputs to `out`, which the first chunk begins.
template <int rows>
__attribute__((noinline)) void multiply_half(const Block& block, const uint8_t* weight, __m256i weight_sum,
                                             bool is_first, int columns, int32_t* out, int64_t out_stride) {
  __m256i sum[rows];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) sum[r] = _mm256_setzero_si256();
  if (block.is_bytes) {
    multiply_bytes<rows>(block, weight, sum);
  } else {
    multiply_words<rows>(block, weight, columns, sum);
  }
  if (block.is_bytes && block.shift > 0) {
    const __m256i shifted = _mm256_mullo_epi32(weight_sum, _mm256_set1_epi32(block.shift));
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) sum[r] = _mm256_sub_epi32(sum[r], shifted);
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
    sum[r] = _mm256_add_epi32(_mm256_add_epi32(sum[r], sum[r]), _mm256_set1_epi32(static_cast<int>(block.start[r])));
  if (is_first) {
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r, out += out_stride) store(out, sum[r]);
  } else {
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r, out += out_stride) store(out, _mm256_add_epi32(load(out), sum[r]));
  }
}

void multiply_block(const Block& block, const uint8_t* weight, __m256i weight_sum, bool is_first, int columns,
                    int32_t* out, int64_t out_stride) {
  switch (block.rows) {
#define MM_ROWS(n) \
  case n:          \
    return multiply_half<n>(block, weight, weight_sum, is_first, columns, out, out_stride)
    MM_ROWS(1);
    MM_ROWS(2);
    MM_ROWS(3);
    MM_ROWS(4);
    MM_ROWS(5);
    MM_ROWS(6);
    MM_ROWS(7);
    MM_ROWS(8);
#undef MM_ROWS
  }
}

// Rows [row, row + rows), packed chunk by chunk, times every tile.
void multiply_panel(const LinearArgs& a, Panel& panel, int row, int rows) {
  const int64_t stride = a.k_padded;
  panel.blocks = (rows + block_rows - 1) / block_rows;
  for (int column = 0; column < a.k_padded; column += chunk_columns) {
    const int left = a.k_padded - column, columns = left < chunk_columns ? left : chunk_columns;
    panel.has_shift = false;
    for (int i = 0, first = row; i < panel.blocks; ++i) {
      Block& block = panel.block[i];
      const int blocks_left = panel.blocks - i;  // dealt out evenly
      block.rows = (row + rows - first + blocks_left - 1) / blocks_left;
      pack_block(a.x + first * stride + column, stride, columns, column == 0 ? a.x_sum + first : nullptr, a.zero2,
                 block);
      panel.has_shift |= block.is_bytes && block.shift > 0;
      first += block.rows;
    }
    for (int tile = a.tile_begin; tile < a.tile_end; ++tile) {
      for (int half = 0; half < 2; ++half) {
        const uint8_t* weight = a.weight + (tile * stride + column) / tile_k * tile_bytes + half * 32;
        const __m256i weight_sum = panel.has_shift ? weight_sums(weight, columns) : _mm256_setzero_si256();
        for (int i = 0, first = row; i < panel.blocks; first += panel.block[i++].rows) {
          int32_t* out =
              a.out + static_cast<int64_t>(first) * a.out_stride + (tile - a.tile_begin) * tile_rows + half * 8;
          multiply_block(panel.block[i], weight, weight_sum, column == 0, columns, out, a.out_stride);
        }
      }
    }
  }
}

}  // namespace

void linear_w8a8_avx2(const LinearArgs& a) {
  if (a.m <= 2) {
    for (int tile = a.tile_begin; tile < a.tile_end; ++tile) a.m == 1 ? few_rows<1>(a, tile) : few_rows<2>(a, tile);
    return;
  }
  Panel panel;
  for (int row = 0; row < a.m; row += panel_rows)
    multiply_panel(a, panel, row, a.m - row < panel_rows ? a.m - row : panel_rows);
}

}  // namespace mm::kernels
