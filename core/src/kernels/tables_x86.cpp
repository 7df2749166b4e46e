// Offers the x86-64 tables; compiled with plain flags, so that it runs on every x86-64 CPU.
#include <cpuid.h>

#include "kernels/instruction_set.h"

namespace mm::kernels {
namespace {

// The compiler's run-time check reads CPUID and, through XGETBV, whether the operating system saves ymm and zmm
// registers.
bool has_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

#if defined(MM_HAS_AVX_VNNI)
bool has_avx_vnni() {  // asked of CPUID itself: compilers before gcc 12 do not know its name
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return has_avx2() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax >> 4 & 1) != 0;
}
#endif

bool has_avx512_vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

constexpr KernelTable avx2 = MM_KERNEL_TABLE(avx2, has_avx2);
#if defined(MM_HAS_AVX_VNNI)
constexpr KernelTable avx_vnni = [] {
  KernelTable table = avx2;
  table.name = "avx_vnni";
  table.isa = Isa::avx_vnni;
  table.is_supported = has_avx_vnni;
  table.linear_w2a8 = linear_w2a8_avx_vnni;
  table.linear_w4a8 = linear_w4a8_avx_vnni;
  table.linear_w8a8 = linear_w8a8_avx_vnni;
  return table;
}();
#endif
constexpr KernelTable avx512_vnni = MM_KERNEL_TABLE(avx512_vnni, has_avx512_vnni);

}  // namespace

const KernelTable* avx2_table() { return &avx2; }
const KernelTable* avx_vnni_table() {
#if defined(MM_HAS_AVX_VNNI)
  return &avx_vnni;
#else
  return nullptr;
#endif
}
const KernelTable* avx512_vnni_table() { return &avx512_vnni; }
const KernelTable* neon_dotprod_table() { return nullptr; }

}  // namespace mm::kernels
