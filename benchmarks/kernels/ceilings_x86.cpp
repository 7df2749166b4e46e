// The ceilings of x86-64; each function carries its own instruction set and is called only where the CPU has it.
#include <immintrin.h>

#include "ceilings.h"

namespace mm::bench {
namespace {

__attribute__((target("avx512f"))) uint64_t read_avx512(const uint8_t* data, size_t bytes) {
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  for (size_t i = 0; i < bytes; i += 256) {
    a = _mm512_or_si512(a, _mm512_loadu_si512(data + i));
    b = _mm512_or_si512(b, _mm512_loadu_si512(data + i + 64));
    c = _mm512_or_si512(c, _mm512_loadu_si512(data + i + 128));
    d = _mm512_or_si512(d, _mm512_loadu_si512(data + i + 192));
  }
  a = _mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d));
  return static_cast<uint64_t>(_mm512_reduce_add_epi64(a));
}

__attribute__((target("avx2"))) uint64_t read_avx2(const uint8_t* data, size_t bytes) {
  const auto at = [&](size_t i) __attribute__((target("avx2"))) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + i));
  };
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  for (size_t i = 0; i < bytes; i += 128) {
    a = _mm256_or_si256(a, at(i));
    b = _mm256_or_si256(b, at(i + 32));
    c = _mm256_or_si256(c, at(i + 64));
    d = _mm256_or_si256(d, at(i + 96));
  }
  a = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
  return static_cast<uint64_t>(_mm256_extract_epi64(a, 0) | _mm256_extract_epi64(a, 3));
}

uint64_t read_sse2(const uint8_t* data, size_t bytes) {
  __m128i a = _mm_setzero_si128(), b = a;
  for (size_t i = 0; i < bytes; i += 32) {
    a = _mm_or_si128(a, _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + i)));
    b = _mm_or_si128(b, _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + i + 16)));
  }
  return static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_or_si128(a, b)));
}

// 16 chains cover 2 instructions a cycle with a latency of 5.
__attribute__((target("avx512f,avx512vnni"))) double dots_avx512_vnni(int64_t rounds, uint64_t* sink) {
  __m512i sum[16];
  for (int i = 0; i < 16; ++i) sum[i] = _mm512_setzero_si512();
  __m512i code = _mm512_set1_epi8(3), x = _mm512_set1_epi8(5);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) sum[i] = _mm512_dpbusd_epi32(sum[i], code, x);
    asm volatile("" : "+v"(code), "+v"(x));  // else the loop would be computed at once
  }
  for (int i = 1; i < 16; ++i) sum[0] = _mm512_add_epi32(sum[0], sum[i]);
  *sink += static_cast<uint64_t>(_mm512_reduce_add_epi64(sum[0]));
  return static_cast<double>(rounds) * 16 * 64;
}

// 12 chains, because 16 registers hold no more beside the operands.
#if __GNUC__ >= 11
__attribute__((target("avx2,avxvnni"))) double dots_avx_vnni(int64_t rounds, uint64_t* sink) {
  __m256i sum[12];
  for (int i = 0; i < 12; ++i) sum[i] = _mm256_setzero_si256();
  __m256i code = _mm256_set1_epi8(3), x = _mm256_set1_epi8(5);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) sum[i] = _mm256_dpbusd_avx_epi32(sum[i], code, x);
    asm volatile("" : "+x"(code), "+x"(x));
  }
  for (int i = 1; i < 12; ++i) sum[0] = _mm256_add_epi32(sum[0], sum[i]);
  *sink += static_cast<uint64_t>(_mm256_extract_epi64(sum[0], 0));
  return static_cast<double>(rounds) * 12 * 32;
}
#endif

// Four sums of 16 x 16 outputs, each of 64 products, as many as two groups of rows and two of outputs keep.
#if __GNUC__ >= 11
__attribute__((target("amx-tile,amx-int8"))) double dots_amx(int64_t rounds, uint64_t* sink) {
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes_a_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  asm volatile("" : "+m"(config));  // gcc 12's intrinsic says that it reads the first 8 bytes alone
  _tile_loadconfig(&config);
  for (int64_t r = 0; r < rounds; ++r) {
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
  }
  _tile_release();
  *sink += static_cast<uint64_t>(rounds);
  return static_cast<double>(rounds) * 4 * 16 * 16 * 64;
}
#endif

// maddubs and its addition, folds left out.
__attribute__((target("avx2"))) double dots_avx2(int64_t rounds, uint64_t* sink) {
  __m256i sum[8];
  for (int i = 0; i < 8; ++i) sum[i] = _mm256_setzero_si256();
  __m256i code = _mm256_set1_epi8(3), x = _mm256_set1_epi8(5);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      sum[i] = _mm256_add_epi16(sum[i], _mm256_maddubs_epi16(code, x));
      asm volatile("" : "+x"(code), "+x"(x));
    }
  }
  for (int i = 1; i < 8; ++i) sum[0] = _mm256_add_epi16(sum[0], sum[i]);
  *sink += static_cast<uint64_t>(_mm256_extract_epi64(sum[0], 0));
  return static_cast<double>(rounds) * 8 * 32;
}

}  // namespace

uint64_t read_all(const uint8_t* data, size_t bytes) {
  if (__builtin_cpu_supports("avx512f")) return read_avx512(data, bytes);
  if (__builtin_cpu_supports("avx2")) return read_avx2(data, bytes);
  return read_sse2(data, bytes);
}

double dot_products(kernels::Isa isa, int64_t rounds, uint64_t* sink) {
  if (isa == kernels::Isa::avx512_vnni) return dots_avx512_vnni(rounds, sink);
#if __GNUC__ >= 11
  if (isa == kernels::Isa::amx) return dots_amx(rounds, sink);
  if (isa == kernels::Isa::avx_vnni) return dots_avx_vnni(rounds, sink);
#endif
  if (isa == kernels::Isa::avx2) return dots_avx2(rounds, sink);
  return 0;
}

}  // namespace mm::bench
