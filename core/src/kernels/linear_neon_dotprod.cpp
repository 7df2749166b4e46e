// Multiplies int8 activations with 2, 4 and 8-bit weights on AArch64 with dotprod: a quarter tile (4 rows) is one
// register.
#include <arm_neon.h>

#include "kernels/instruction_set.h"

namespace mm::kernels {
namespace {

constexpr int tile_rows = 16;    // as in quant/layout.h
constexpr int tile_bytes = 64;   // four registers of 4 rows each
constexpr int column_step = 16;  // one register of x: four groups of 4 columns, which sdot takes by lane

// `rows` rows of x times the 16 outputs of a tile row, over all columns.
//
// sdot multiplies signed bytes. Planes masked where they lie stay positive up to 2-bit's third (3 << 4 = 48) and are
// 2^(bits * plane) too large, exactly, which a shift of their own sum mends at the end; the top plane is shifted down
// instead. With `sums` = 1 all are shifted down to share one accumulator. An 8-bit code becomes code - 128 by flipping
// its top bit: 128 * sum(x) is added back at the end. The largest sum is 2-bit's third plane: 48 * 128 * (32768 / 4)
// = 5.0e7 < 2^31.
template <int bits, int rows, int sums>
void block(const LinearArgs& a, int row, int tile) {
  constexpr int planes = 8 / bits;
  constexpr int tile_k = 4 * planes;
  constexpr int step_tiles = column_step / tile_k;
  const int64_t stride = a.k_padded;
  const uint8_t* weight = a.weight + tile * (stride / tile_k * tile_bytes);
  const int8_t* x = a.x + row * stride;

  int32x4_t sum[rows][4][sums];
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
#pragma GCC unroll 3
      for (int s = 0; s < sums; ++s) sum[r][q][s] = vdupq_n_s32(0);
    }
  }

  for (int64_t k = 0; k < stride; k += column_step) {
    int8x16_t words[rows];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) words[r] = vld1q_s8(x + r * stride + k);
#pragma GCC unroll 4
    for (int t = 0; t < step_tiles; ++t, weight += tile_bytes) {
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) {
        const uint8x16_t code = vld1q_u8(weight + 16 * q);
#pragma GCC unroll 4
        for (int p = 0; p < planes; ++p) {
          const bool is_top = p == planes - 1;
          const int kept = sums > 1 && !is_top ? p : 0;  // the place this plane is masked at
          uint8x16_t plane = code;
          if (bits == 8) {
            plane = veorq_u8(code, vdupq_n_u8(0x80));
          } else {
            if (p != kept) plane = vshlq_u8(code, vdupq_n_s8(static_cast<int8_t>(-bits * (p - kept))));
            if (!is_top) plane = vandq_u8(plane, vdupq_n_u8(static_cast<uint8_t>(((1 << bits) - 1) << (bits * kept))));
          }
          const int8x16_t value = vreinterpretq_s8_u8(plane);
#pragma GCC unroll 4
          for (int r = 0; r < rows; ++r) {
            int32x4_t& target = sum[r][q][kept];
            switch (t * planes + p) {  // a lane number must be a constant; unrolled, one case is left
              case 0:
                target = vdotq_laneq_s32(target, value, words[r], 0);
                break;
              case 1:
                target = vdotq_laneq_s32(target, value, words[r], 1);
                break;
              case 2:
                target = vdotq_laneq_s32(target, value, words[r], 2);
                break;
              default:
                target = vdotq_laneq_s32(target, value, words[r], 3);
            }
          }
        }
      }
    }
  }

#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
    const int32_t zero2 = bits == 8 ? a.zero2 - 256 : a.zero2;
    const int32x4_t correction = vdupq_n_s32(zero2 * a.x_sum[row + r]);
    int32_t* out = a.out + static_cast<int64_t>(row + r) * a.out_stride + (tile - a.tile_begin) * tile_rows;
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
      int32x4_t total = sum[r][q][0];
#pragma GCC unroll 3
      for (int s = 1; s < sums; ++s) total = vaddq_s32(total, vshlq_s32(sum[r][q][s], vdupq_n_s32(-bits * s)));
      vst1q_s32(out + 4 * q, vsubq_s32(vaddq_s32(total, total), correction));
    }
  }
}

// Four rows fill 16 of 32 registers with accumulators. One row of 2-bit weights keeps three planes apart (12
// accumulators): three masks and one shift a register instead of three masks and three shifts.
template <int bits>
void linear(const LinearArgs& a) {
  for (int tile = a.tile_begin; tile < a.tile_end; ++tile) {
    int row = 0;
    while (row < a.m) {
      const int left = a.m - row;
      const int rows = left >= 8 || left == 4 ? 4
                       : left > 4             ? (left + 1) / 2
                                              : left;  // 5 = 3 + 2, 6 = 3 + 3, 7 = 4 + 3
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
          block<bits, 1, bits == 2 ? 3 : 1>(a, row, tile);
      }
      row += rows;
    }
  }
}

}  // namespace

void linear_w2a8_neon_dotprod(const LinearArgs& a) { linear<2>(a); }
void linear_w4a8_neon_dotprod(const LinearArgs& a) { linear<4>(a); }
void linear_w8a8_neon_dotprod(const LinearArgs& a) { linear<8>(a); }

}  // namespace mm::kernels
