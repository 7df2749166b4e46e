// Lists the tables of this build and picks the one to run on, once.
#include <cstdlib>
#include <cstring>

#include "kernels/kernels.h"

namespace mm::kernels {
namespace {

struct Registry {
  const KernelTable* tables[6];
  int count = 0;
  const KernelTable* best;
  const char* forced_error = nullptr;

  Registry() {
    const KernelTable* known[] = {reference_table(),   avx2_table(), avx_vnni_table(),
                                  avx512_vnni_table(), amx_table(),  neon_dotprod_table()};
    for (const KernelTable* table : known) {
      if (table != nullptr) tables[count++] = table;
    }
    best = tables[0];
    for (int i = 1; i < count; ++i) {
      if (tables[i]->is_supported()) best = tables[i];
    }
    const char* forced = std::getenv("MM_FORCE_ISA");
    if (forced == nullptr || *forced == '\0') return;
    forced_error = "MM_FORCE_ISA names no instruction set of this build";
    for (int i = 0; i < count; ++i) {
      if (std::strcmp(tables[i]->name, forced) != 0) continue;
      if (tables[i]->is_supported()) {
        best = tables[i];
        forced_error = nullptr;
      } else {
        forced_error = "MM_FORCE_ISA names an instruction set that this CPU does not support";
      }
    }
  }
};

// Built on first use, under the lock that C++ gives a local static: safe from any thread.
const Registry& registry() {
  static const Registry instance;
  return instance;
}

}  // namespace

TableList all_tables() { return {registry().tables, registry().count}; }
const KernelTable& best_table() { return *registry().best; }
const char* forced_isa_error() { return registry().forced_error; }

}  // namespace mm::kernels
