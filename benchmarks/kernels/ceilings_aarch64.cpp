// The ceilings of AArch64 with NEON.
#include <arm_neon.h>

#include "ceilings.h"

namespace mm::bench {
namespace {

__attribute__((target("arch=armv8.2-a+dotprod"))) double dots_neon(int64_t rounds, uint64_t* sink) {
  int32x4_t sum[16];
  for (int i = 0; i < 16; ++i) sum[i] = vdupq_n_s32(0);
  int8x16_t code = vdupq_n_s8(3), x = vdupq_n_s8(5);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) sum[i] = vdotq_s32(sum[i], code, x);
    asm volatile("" : "+w"(code), "+w"(x));  // else the loop would be computed at once
  }
  for (int i = 1; i < 16; ++i) sum[0] = vaddq_s32(sum[0], sum[i]);
  *sink += static_cast<uint64_t>(vaddvq_s32(sum[0]));
  return static_cast<double>(rounds) * 16 * 16;
}

}  // namespace

uint64_t read_all(const uint8_t* data, size_t bytes) {
  uint8x16_t a = vdupq_n_u8(0), b = a, c = a, d = a;
  for (size_t i = 0; i < bytes; i += 64) {
    a = vorrq_u8(a, vld1q_u8(data + i));
    b = vorrq_u8(b, vld1q_u8(data + i + 16));
    c = vorrq_u8(c, vld1q_u8(data + i + 32));
    d = vorrq_u8(d, vld1q_u8(data + i + 48));
  }
  return vaddvq_u8(vorrq_u8(vorrq_u8(a, b), vorrq_u8(c, d)));
}

double dot_products(kernels::Isa isa, int64_t rounds, uint64_t* sink) {
  return isa == kernels::Isa::neon_dotprod ? dots_neon(rounds, sink) : 0;
}

}  // namespace mm::bench
