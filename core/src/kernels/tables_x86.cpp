// Offers the x86-64 tables; compiled with plain flags, so that it runs on every x86-64 CPU.
#include <cpuid.h>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

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

#if defined(MM_HAS_AMX)
// Tiles are 8 KB of registers, which Linux hands to a process that asks for them (arch_prctl, since 5.16). It refuses
// where the CPU or the hypervisor has none, and where a thread's alternate signal stack is too small to save them.
bool has_amx() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned tile_bit = 1u << 24, int8_bit = 1u << 25;
  if (!has_avx512_vnni() || __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & tile_bit) == 0 ||
      (edx & int8_bit) == 0)
    return false;
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM of asm/prctl.h
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}
#endif

using Linear = void (*)(const LinearArgs&);

// A table with the float kernels of another one and integer kernels of its own.
constexpr KernelTable derived(KernelTable table, const char* name, Isa isa, bool (*is_supported)(), Linear w2a8,
                              Linear w4a8, Linear w8a8) {
  table.name = name;
  table.isa = isa;
  table.is_supported = is_supported;
  table.linear_w2a8 = w2a8;
  table.linear_w4a8 = w4a8;
  table.linear_w8a8 = w8a8;
  return table;
}

constexpr KernelTable avx2 = MM_KERNEL_TABLE(avx2, has_avx2);
constexpr KernelTable avx512_vnni = MM_KERNEL_TABLE(avx512_vnni, has_avx512_vnni);
#if defined(MM_HAS_AVX_VNNI)
constexpr KernelTable avx_vnni = derived(avx2, "avx_vnni", Isa::avx_vnni, has_avx_vnni, linear_w2a8_avx_vnni,
                                         linear_w4a8_avx_vnni, linear_w8a8_avx_vnni);
#endif
#if defined(MM_HAS_AMX)
constexpr KernelTable amx =
    derived(avx512_vnni, "amx", Isa::amx, has_amx, linear_w2a8_amx, linear_w4a8_amx, linear_w8a8_amx);
#endif

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
const KernelTable* amx_table() {
#if defined(MM_HAS_AMX)
  return &amx;
#else
  return nullptr;
#endif
}
const KernelTable* neon_dotprod_table() { return nullptr; }

}  // namespace mm::kernels
