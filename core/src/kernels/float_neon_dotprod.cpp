// Gives the shared float kernels 4 lanes and 32 registers: AArch64 NEON.
#include <arm_neon.h>

#include "kernels/instruction_set.h"

#define MM_NAME(kernel) kernel##_neon_dotprod

namespace mm::kernels {
namespace {

constexpr int lanes = 4;
typedef float32x4_t Vec;
typedef int32x4_t IntVec;

struct Full {};
struct Some {
  explicit Some(int n) : count(n) {}
  int count;  // 1..3
};

constexpr int block_rows = 4;  // 4 x 4 accumulators, 4 weights, 1 input of 32 registers
constexpr int block_vectors = 4;
constexpr int depthwise_pixels = 7;  // and 5 weights, 1 input; 7 divides 112, 56, 28, 14

inline Vec splat(float x) { return vdupq_n_f32(x); }
inline IntVec lanes_below(Some s) { return (IntVec)(IntVec{0, 1, 2, 3} < s.count); }
inline Vec load(const float* p, Full) { return vld1q_f32(p); }
inline Vec load(const float* p, Some s) {
  return Vec{p[0], s.count > 1 ? p[1] : 0.0f, s.count > 2 ? p[2] : 0.0f, 0.0f};
}
inline void store(float* p, Vec x, Full) { vst1q_f32(p, x); }
inline void store(float* p, Vec x, Some s) {
  for (int i = 0; i < s.count; ++i) p[i] = x[i];
}
inline IntVec load_int(const int32_t* p, Full) { return vld1q_s32(p); }
inline IntVec load_int(const int32_t* p, Some s) {
  return IntVec{p[0], s.count > 1 ? p[1] : 0, s.count > 2 ? p[2] : 0, 0};
}
inline void store_bytes(int8_t* p, IntVec x, Some s) {
  for (int i = 0; i < s.count; ++i) p[i] = static_cast<int8_t>(x[i]);
}
inline void store_bytes(int8_t* p, IntVec x, Full) {
  const int16x4_t words = vmovn_s32(x);
  const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
  __builtin_memcpy(p, &bytes, 4);
}
inline void store_bytes(int8_t* p, const IntVec (&x)[4]) {
  const int16x8_t left = vcombine_s16(vmovn_s32(x[0]), vmovn_s32(x[1]));
  const int16x8_t right = vcombine_s16(vmovn_s32(x[2]), vmovn_s32(x[3]));
  vst1q_s8(p, vcombine_s8(vmovn_s16(left), vmovn_s16(right)));
}
inline IntVec load_bytes(const uint8_t* p) {
  uint32_t four;
  __builtin_memcpy(&four, p, sizeof four);
  return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four)))));
}
inline Vec fused(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }
// Comparisons, because fmax and fmin return NaN where x86 returns the second operand.
inline Vec maximum(Vec a, Vec b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
inline IntVec maximum(IntVec a, IntVec b) { return vmaxq_s32(a, b); }
inline Vec minimum(Vec a, Vec b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
inline IntVec round_to_int(Vec x) { return vcvtnq_s32_f32(x); }
inline Vec to_float(IntVec x) { return vcvtq_f32_s32(x); }
inline float sum_of(Vec x) { return vaddvq_f32(x); }
inline void store_sums(float* p, const Vec (&x)[4]) {
  vst1q_f32(p, vpaddq_f32(vpaddq_f32(x[0], x[1]), vpaddq_f32(x[2], x[3])));
}
inline void store_sums(int32_t* p, const IntVec (&x)[4]) {
  vst1q_s32(p, vpaddq_s32(vpaddq_s32(x[0], x[1]), vpaddq_s32(x[2], x[3])));
}
inline void store_largest(int32_t* p, const IntVec (&x)[4]) {
  vst1q_s32(p, vpmaxq_s32(vpmaxq_s32(x[0], x[1]), vpmaxq_s32(x[2], x[3])));
}

constexpr int narrow_lanes = 0;
using Narrow = Some;
// Lanes `step` apart change places.
template <int step>
inline Vec exchanged(Vec x) {
  return step == 1 ? vrev64q_f32(x) : vextq_f32(x, x, 2);
}
inline float largest_of(Vec x) { return vmaxvq_f32(x); }

// Codes: 16 channels a vector; interleaved, the four taps of a channel are one lane.
typedef int8x16_t CodeVec;
inline CodeVec load_codes(const int8_t* p) { return vld1q_s8(p); }
inline void store_codes(int8_t* p, CodeVec x) { vst1q_s8(p, x); }
inline void interleave(const CodeVec (&x)[4], CodeVec (&y)[4]) {
  const int16x8_t low = vreinterpretq_s16_s8(vzip1q_s8(x[0], x[1]));
  const int16x8_t high = vreinterpretq_s16_s8(vzip2q_s8(x[0], x[1]));
  const int16x8_t next_low = vreinterpretq_s16_s8(vzip1q_s8(x[2], x[3]));
  const int16x8_t next_high = vreinterpretq_s16_s8(vzip2q_s8(x[2], x[3]));
  y[0] = vreinterpretq_s8_s16(vzip1q_s16(low, next_low));
  y[1] = vreinterpretq_s8_s16(vzip2q_s16(low, next_low));
  y[2] = vreinterpretq_s8_s16(vzip1q_s16(high, next_high));
  y[3] = vreinterpretq_s8_s16(vzip2q_s16(high, next_high));
}
inline CodeVec joined(const IntVec (&x)[4]) {
  const int16x8_t left = vcombine_s16(vqmovn_s32(x[0]), vqmovn_s32(x[1]));
  const int16x8_t right = vcombine_s16(vqmovn_s32(x[2]), vqmovn_s32(x[3]));
  return vmaxq_s8(vcombine_s8(vqmovn_s16(left), vqmovn_s16(right)), vdupq_n_s8(0));
}
inline IntVec dot4(IntVec sum, CodeVec x, CodeVec w) { return vdotq_s32(sum, x, w); }

}  // namespace
}  // namespace mm::kernels

#include "kernels/float_kernels.inc"
// The blocks build on the rows.
#include "kernels/float_blocks.inc"
#include "kernels/float_pictures.inc"
// The codes build on the blocks.
#include "kernels/codes.inc"
