// Offers the x86-64 tables; compiled with plain flags, so that it runs on every x86-64 CPU.
#include "kernels/instruction_set.h"

namespace mm::kernels {
namespace {

// The compiler's run-time check reads CPUID and, through XGETBV, whether the operating system saves ymm and zmm
// registers.
bool has_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool has_avx512_vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

const KernelTable avx2 = MM_KERNEL_TABLE(avx2, has_avx2);
const KernelTable avx512_vnni = MM_KERNEL_TABLE(avx512_vnni, has_avx512_vnni);

}  // namespace

const KernelTable* avx2_table() { return &avx2; }
const KernelTable* avx512_vnni_table() { return &avx512_vnni; }
const KernelTable* neon_dotprod_table() { return nullptr; }

}  // namespace mm::kernels
