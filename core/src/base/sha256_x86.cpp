// SHA-256's block function with the SHA extensions of x86; built with -msha -msse4.1, called after a run-time check.
#include <cpuid.h>
#include <immintrin.h>

#include "base/sha256_blocks.h"

namespace mm::base {

bool sha256_x86_supported() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return false;
  const bool has_sse41 = (ecx & (1u << 19)) != 0;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  return has_sse41 && (ebx & (1u << 29)) != 0;
}

void sha256_blocks_x86(uint32_t* state, const uint8_t* blocks, size_t count) {
  const __m128i to_big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
  // The instructions want the state as (a b e f) and (c d g h), highest lane first.
  const __m128i abcd = _mm_shuffle_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(state)), 0x1B);
  const __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(state + 4)), 0x1B);
  __m128i abef = _mm_unpackhi_epi64(efgh, abcd);
  __m128i cdgh = _mm_unpacklo_epi64(efgh, abcd);

  for (; count > 0; --count, blocks += 64) {
    const __m128i abef_before = abef;
    const __m128i cdgh_before = cdgh;
    __m128i w[4];
    for (int i = 0; i < 4; ++i) {
      w[i] = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(blocks + 16 * i)), to_big_endian);
    }
    for (int group = 0; group < 16; ++group) {  // four rounds each
      const __m128i words = w[group % 4];
      const __m128i constants = _mm_load_si128(reinterpret_cast<const __m128i*>(sha256_round_constants + 4 * group));
      const __m128i sum = _mm_add_epi32(words, constants);
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0E));
      if (group < 12) {  // the words 16 places on, from the last 16
        const __m128i w1 = w[(group + 1) % 4];
        const __m128i w2 = w[(group + 2) % 4];
        const __m128i w3 = w[(group + 3) % 4];
        const __m128i seven_back = _mm_alignr_epi8(w3, w2, 4);
        w[group % 4] = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(words, w1), seven_back), w3);
      }
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }

  _mm_storeu_si128(reinterpret_cast<__m128i*>(state), _mm_shuffle_epi32(_mm_unpackhi_epi64(cdgh, abef), 0x1B));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state + 4), _mm_shuffle_epi32(_mm_unpacklo_epi64(cdgh, abef), 0x1B));
}

}  // namespace mm::base
