// Offers no table beyond the reference, for CPUs without kernels of their own.
#include "kernels/kernels.h"

namespace mm::kernels {

const KernelTable* avx2_table() { return nullptr; }
const KernelTable* avx_vnni_table() { return nullptr; }
const KernelTable* avx512_vnni_table() { return nullptr; }
const KernelTable* amx_table() { return nullptr; }
const KernelTable* neon_dotprod_table() { return nullptr; }

}  // namespace mm::kernels
