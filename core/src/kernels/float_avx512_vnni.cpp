// Gives the shared float kernels 16 lanes and 32 registers: AVX-512.
#include <immintrin.h>

#include "kernels/instruction_set.h"

#define MM_NAME(kernel) kernel##_avx512_vnni

namespace mm::kernels {
namespace {

constexpr int lanes = 16;
typedef __m512 Vec;
typedef int IntVec __attribute__((vector_size(64), may_alias));

struct Full {};
struct Some {
  explicit Some(int count) : mask(static_cast<__mmask16>((1u << count) - 1)) {}
  __mmask16 mask;
};

constexpr int block_rows = 8;  // 8 x 2 accumulators, 2 weights, 1 input of 32 registers
constexpr int block_vectors = 2;
constexpr int depthwise_pixels = 7;  // and 5 weights, 1 input; 7 divides 112, 56, 28, 14

inline Vec splat(float x) { return _mm512_set1_ps(x); }
inline Vec load(const float* p, Full) { return _mm512_loadu_ps(p); }
inline Vec load(const float* p, Some s) { return _mm512_maskz_loadu_ps(s.mask, p); }
inline void store(float* p, Vec x, Full) { _mm512_storeu_ps(p, x); }
inline void store(float* p, Vec x, Some s) { _mm512_mask_storeu_ps(p, s.mask, x); }
inline IntVec load_int(const int32_t* p, Full) { return (IntVec)_mm512_loadu_si512(p); }
inline IntVec load_int(const int32_t* p, Some s) { return (IntVec)_mm512_maskz_loadu_epi32(s.mask, p); }
inline void store_bytes(int8_t* p, IntVec x, Full) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8((__m512i)x));
}
inline void store_bytes(int8_t* p, IntVec x, Some s) { _mm512_mask_cvtepi32_storeu_epi8(p, s.mask, (__m512i)x); }
// Four vectors at once: four shuffles, where one by one each takes two.
inline void store_bytes(int8_t* p, const IntVec (&x)[4]) {
  const __m512i left = _mm512_packs_epi32((__m512i)x[0], (__m512i)x[1]);
  const __m512i right = _mm512_packs_epi32((__m512i)x[2], (__m512i)x[3]);
  const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(p, _mm512_permutexvar_epi32(in_order, _mm512_packs_epi16(left, right)));
}
inline IntVec load_bytes(const uint8_t* p) {
  return (IntVec)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Vec fused(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec maximum(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline IntVec maximum(IntVec a, IntVec b) { return (IntVec)_mm512_max_epi32((__m512i)a, (__m512i)b); }
inline Vec minimum(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline IntVec round_to_int(Vec x) { return (IntVec)_mm512_cvtps_epi32(x); }
inline Vec to_float(IntVec x) { return _mm512_cvtepi32_ps((__m512i)x); }
inline IntVec lanes_below(Some s) { return (IntVec)_mm512_movm_epi32(s.mask); }
inline float sum_of(Vec x) { return _mm512_reduce_add_ps(x); }
inline __m256 fold(Vec x) { return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1)); }
// The sums of four vectors: three hadd for four, where one by one would take four shuffles each.
inline void store_sums(float* p, const Vec (&x)[4]) {
  const __m256 left = _mm256_hadd_ps(fold(x[0]), fold(x[1])), right = _mm256_hadd_ps(fold(x[2]), fold(x[3]));
  const __m256 both = _mm256_hadd_ps(left, right);
  _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1)));
}
inline __m256i high_half(IntVec x) { return _mm512_extracti32x8_epi32((__m512i)x, 1); }
inline __m256i fold(IntVec x) { return _mm256_add_epi32(_mm512_castsi512_si256((__m512i)x), high_half(x)); }
inline void store_sums(int32_t* p, const IntVec (&x)[4]) {
  const __m256i left = _mm256_hadd_epi32(fold(x[0]), fold(x[1])), right = _mm256_hadd_epi32(fold(x[2]), fold(x[3]));
  const __m256i both = _mm256_hadd_epi32(left, right);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1)));
}
inline __m256i fold_largest(IntVec x) { return _mm256_max_epi32(_mm512_castsi512_si256((__m512i)x), high_half(x)); }
inline void store_largest(int32_t* p, const IntVec (&x)[4]) {
  const __m256i a = fold_largest(x[0]), b = fold_largest(x[1]), c = fold_largest(x[2]), d = fold_largest(x[3]);
  const __m256i left = _mm256_max_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
  const __m256i right = _mm256_max_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
  const __m256i both = _mm256_max_epi32(_mm256_unpacklo_epi64(left, right), _mm256_unpackhi_epi64(left, right));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_max_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1)));
}

// 8 lanes: a convolution with 8 outputs does two of these a cycle where a zmm, half of it unused, takes one (Zen 4).
constexpr int narrow_lanes = 8;
struct Narrow {
  explicit Narrow(int count) : mask(static_cast<__mmask8>((1u << count) - 1)) {}
  __mmask8 mask;
};
inline Narrow whole(Narrow) { return Narrow(narrow_lanes); }
inline __m256 splat(float x, Narrow) { return _mm256_set1_ps(x); }
inline __m256 load(const float* p, Narrow n) { return _mm256_maskz_loadu_ps(n.mask, p); }
inline void store(float* p, __m256 x, Narrow n) { _mm256_mask_storeu_ps(p, n.mask, x); }
inline __m256 fused(__m256 a, __m256 b, __m256 c) { return _mm256_fmadd_ps(a, b, c); }
inline __m256 maximum(__m256 a, __m256 b) { return _mm256_max_ps(a, b); }
inline __m256 minimum(__m256 a, __m256 b) { return _mm256_min_ps(a, b); }
// Lanes `step` apart change places.
template <int step>
inline Vec exchanged(Vec x) {
  if constexpr (step < 4) return _mm512_permute_ps(x, step == 1 ? 0xB1 : 0x4E);
  return _mm512_shuffle_f32x4(x, x, step == 4 ? 0xB1 : 0x4E);
}
inline float largest_of(Vec x) { return _mm512_reduce_max_ps(x); }

// Codes: 64 channels a vector; interleaved, the four taps of a channel are one lane.
typedef int8_t CodeVec __attribute__((vector_size(64), may_alias));
inline CodeVec load_codes(const int8_t* p) { return (CodeVec)_mm512_loadu_si512(p); }
inline void store_codes(int8_t* p, CodeVec x) { _mm512_storeu_si512(p, (__m512i)x); }
inline void interleave(const CodeVec (&x)[4], CodeVec (&y)[4]) {
  const __m512i low = _mm512_unpacklo_epi8((__m512i)x[0], (__m512i)x[1]);
  const __m512i high = _mm512_unpackhi_epi8((__m512i)x[0], (__m512i)x[1]);
  const __m512i next_low = _mm512_unpacklo_epi8((__m512i)x[2], (__m512i)x[3]);
  const __m512i next_high = _mm512_unpackhi_epi8((__m512i)x[2], (__m512i)x[3]);
  y[0] = (CodeVec)_mm512_unpacklo_epi16(low, next_low);
  y[1] = (CodeVec)_mm512_unpackhi_epi16(low, next_low);
  y[2] = (CodeVec)_mm512_unpacklo_epi16(high, next_high);
  y[3] = (CodeVec)_mm512_unpackhi_epi16(high, next_high);
}
inline CodeVec joined(const IntVec (&x)[4]) {
  const __m512i left = _mm512_packs_epi32((__m512i)x[0], (__m512i)x[1]);
  const __m512i right = _mm512_packs_epi32((__m512i)x[2], (__m512i)x[3]);
  return (CodeVec)_mm512_max_epi8(_mm512_packs_epi16(left, right), _mm512_setzero_si512());
}
inline IntVec dot4(IntVec sum, CodeVec x, CodeVec w) {
  return (IntVec)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)w);
}

}  // namespace
}  // namespace mm::kernels

#include "kernels/float_kernels.inc"
// The blocks build on the rows.
#include "kernels/float_blocks.inc"
#include "kernels/float_pictures.inc"
// The codes build on the blocks.
#include "kernels/codes.inc"
