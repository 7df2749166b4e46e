// Gives the shared float kernels 8 lanes and 16 registers: AVX2 with FMA.
#include <immintrin.h>

#include "kernels/instruction_set.h"

#define MM_NAME(kernel) kernel##_avx2

namespace mm::kernels {
namespace {

constexpr int lanes = 8;
typedef __m256 Vec;
typedef int IntVec __attribute__((vector_size(32), may_alias));

struct Full {};
struct Some {
  explicit Some(int n) : count(n), mask((__m256i)(IntVec{0, 1, 2, 3, 4, 5, 6, 7} < n)) {}
  int count;
  __m256i mask;
};

constexpr int block_rows = 6;  // 6 x 2 accumulators, 2 weights, 1 input of 16 registers
constexpr int block_vectors = 2;
constexpr int depthwise_pixels = 7;  // and 5 weights, 1 input; 7 divides 112, 56, 28, 14

inline Vec splat(float x) { return _mm256_set1_ps(x); }
inline Vec load(const float* p, Full) { return _mm256_loadu_ps(p); }
inline Vec load(const float* p, Some s) { return _mm256_maskload_ps(p, s.mask); }
inline void store(float* p, Vec x, Full) { _mm256_storeu_ps(p, x); }
inline void store(float* p, Vec x, Some s) { _mm256_maskstore_ps(p, s.mask, x); }
inline IntVec load_int(const int32_t* p, Full) {
  return (IntVec)_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline IntVec load_int(const int32_t* p, Some s) { return (IntVec)_mm256_maskload_epi32(p, s.mask); }
inline __m128i narrow(IntVec x) {  // values fit int8, so nothing saturates
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128((__m256i)x), _mm256_extracti128_si256((__m256i)x, 1));
  return _mm_packs_epi16(words, words);
}
inline void store_bytes(int8_t* p, IntVec x, Full) { _mm_storel_epi64(reinterpret_cast<__m128i*>(p), narrow(x)); }
inline void store_bytes(int8_t* p, IntVec x, Some s) {
  for (int i = 0; i < s.count; ++i) p[i] = static_cast<int8_t>(x[i]);
}
// Four vectors at once: four shuffles, where one by one each takes three.
inline void store_bytes(int8_t* p, const IntVec (&x)[4]) {
  const __m256i left = _mm256_packs_epi32((__m256i)x[0], (__m256i)x[1]);
  const __m256i right = _mm256_packs_epi32((__m256i)x[2], (__m256i)x[3]);
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm256_permutevar8x32_epi32(_mm256_packs_epi16(left, right), in_order));
}
inline IntVec load_bytes(const uint8_t* p) {
  return (IntVec)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline Vec fused(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec maximum(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline IntVec maximum(IntVec a, IntVec b) { return (IntVec)_mm256_max_epi32((__m256i)a, (__m256i)b); }
inline Vec minimum(Vec a, Vec b) { return _mm256_min_ps(a, b); }
inline IntVec round_to_int(Vec x) { return (IntVec)_mm256_cvtps_epi32(x); }
inline Vec to_float(IntVec x) { return _mm256_cvtepi32_ps((__m256i)x); }
inline IntVec lanes_below(Some s) { return (IntVec)s.mask; }

// Halves on halves, until one lane is left.
inline float sum_of(Vec x) {
  __m128 v = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  v = _mm_add_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}
// The sums of four vectors: three hadd for four, where one by one would take four shuffles each.
inline void store_sums(float* p, const Vec (&x)[4]) {
  const __m256 both = _mm256_hadd_ps(_mm256_hadd_ps(x[0], x[1]), _mm256_hadd_ps(x[2], x[3]));
  _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1)));
}
inline void store_sums(int32_t* p, const IntVec (&x)[4]) {
  const __m256i both = _mm256_hadd_epi32(_mm256_hadd_epi32((__m256i)x[0], (__m256i)x[1]),
                                         _mm256_hadd_epi32((__m256i)x[2], (__m256i)x[3]));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1)));
}
inline __m256i largest_pairs(IntVec a, IntVec b) {
  return _mm256_max_epi32(_mm256_unpacklo_epi32((__m256i)a, (__m256i)b), _mm256_unpackhi_epi32((__m256i)a, (__m256i)b));
}
inline void store_largest(int32_t* p, const IntVec (&x)[4]) {
  const __m256i left = largest_pairs(x[0], x[1]), right = largest_pairs(x[2], x[3]);
  const __m256i both = _mm256_max_epi32(_mm256_unpacklo_epi64(left, right), _mm256_unpackhi_epi64(left, right));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_max_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1)));
}

constexpr int narrow_lanes = 0;
using Narrow = Some;
// Lanes `step` apart change places.
template <int step>
inline Vec exchanged(Vec x) {
  if constexpr (step < 4) return _mm256_permute_ps(x, step == 1 ? 0xB1 : 0x4E);
  return _mm256_permute2f128_ps(x, x, 0x01);
}
inline float largest_of(Vec x) {
  __m128 v = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  v = _mm_max_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)));
}

// Codes: 32 channels a vector; interleaved, the four taps of a channel are one lane.
typedef int8_t CodeVec __attribute__((vector_size(32), may_alias));
inline CodeVec load_codes(const int8_t* p) { return (CodeVec)_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline void store_codes(int8_t* p, CodeVec x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)x); }
inline void interleave(const CodeVec (&x)[4], CodeVec (&y)[4]) {
  const __m256i low = _mm256_unpacklo_epi8((__m256i)x[0], (__m256i)x[1]);
  const __m256i high = _mm256_unpackhi_epi8((__m256i)x[0], (__m256i)x[1]);
  const __m256i next_low = _mm256_unpacklo_epi8((__m256i)x[2], (__m256i)x[3]);
  const __m256i next_high = _mm256_unpackhi_epi8((__m256i)x[2], (__m256i)x[3]);
  y[0] = (CodeVec)_mm256_unpacklo_epi16(low, next_low);
  y[1] = (CodeVec)_mm256_unpackhi_epi16(low, next_low);
  y[2] = (CodeVec)_mm256_unpacklo_epi16(high, next_high);
  y[3] = (CodeVec)_mm256_unpackhi_epi16(high, next_high);
}
inline CodeVec joined(const IntVec (&x)[4]) {
  const __m256i left = _mm256_packs_epi32((__m256i)x[0], (__m256i)x[1]);
  const __m256i right = _mm256_packs_epi32((__m256i)x[2], (__m256i)x[3]);
  return (CodeVec)_mm256_max_epi8(_mm256_packs_epi16(left, right), _mm256_setzero_si256());
}
// Two products of a code and a weight stay below 2^15: 2 * 127 * 128.
inline IntVec dot4(IntVec sum, CodeVec x, CodeVec w) {
  const __m256i pairs = _mm256_maddubs_epi16((__m256i)x, (__m256i)w);
  return sum + (IntVec)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

}  // namespace
}  // namespace mm::kernels

#include "kernels/float_kernels.inc"
// The blocks build on the rows.
#include "kernels/float_blocks.inc"
#include "kernels/float_pictures.inc"
// The codes build on the blocks.
#include "kernels/codes.inc"
