// Offers the AArch64 table; compiled with plain flags, so that it runs on every AArch64 CPU.
#include "kernels/instruction_set.h"

#if defined(__linux__)
#include <sys/auxv.h>
#endif

namespace mm::kernels {
namespace {

bool has_neon_dotprod() {
#if defined(__linux__)
  constexpr unsigned long asimddp =
      1UL << 20;  // HWCAP_ASIMDDP of the Linux AArch64 ABI; not every libc's header has it
  return (getauxval(AT_HWCAP) & asimddp) != 0;
#else
  return true;  // Apple's AArch64 computers all have it
#endif
}

const KernelTable neon_dotprod = MM_KERNEL_TABLE(neon_dotprod, has_neon_dotprod);

}  // namespace

const KernelTable* avx2_table() { return nullptr; }
const KernelTable* avx_vnni_table() { return nullptr; }
const KernelTable* avx512_vnni_table() { return nullptr; }
const KernelTable* amx_table() { return nullptr; }
const KernelTable* neon_dotprod_table() { return &neon_dotprod; }

}  // namespace mm::kernels
