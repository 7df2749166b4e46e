// Checks which table is picked: the best one the CPU supports, or the one that MM_FORCE_ISA names.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "check.h"
#include "kernels/kernels.h"

using namespace mm::kernels;

namespace {

// The environment is read once a process, so every case runs in a child of its own, made before anybody asked for a
// table.
template <class Case>
void in_child(const char* forced_isa, Case run) {
  const pid_t child = fork();
  if (child == 0) {
    if (forced_isa) {
      setenv("MM_FORCE_ISA", forced_isa, 1);
    } else {
      unsetenv("MM_FORCE_ISA");
    }
    run();
    _exit(mm::test::failures == 0 ? 0 : 1);
  }
  int status = 1;
  MM_CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// The tables in order; the best is the last one supported.
void check_best() {
  const TableList list = all_tables();
  const KernelTable* best = list.tables[0];
  for (int i = 1; i < list.count; ++i) {
    if (list.tables[i]->is_supported()) best = list.tables[i];
  }
  MM_CHECK(&best_table() == best);
}

void test_tables_are_complete() {
  in_child(nullptr, [] {
    const TableList list = all_tables();
    MM_CHECK(list.count >= 1 && list.tables[0] == reference_table());
    MM_CHECK(reference_table()->is_supported());
    for (int i = 0; i < list.count; ++i) {
      const KernelTable& t = *list.tables[i];
      for (int j = 0; j < i; ++j) MM_CHECK(std::strcmp(t.name, list.tables[j]->name) != 0);
      MM_CHECK(t.is_supported && t.linear_w2a8 && t.linear_w4a8 && t.linear_w8a8 && t.quantize_rows &&
               t.largest_magnitude && t.quantize_scaled && t.linear_epilogue && t.normalize_bytes);
      MM_CHECK(t.max_pool2d_f32 && t.average_pool2d_f32 && t.copy_rows_f32 && t.sum_rows_f32 && t.hadamard_f32);
      MM_CHECK(t.linear_epilogue_codes && t.spread_codes && t.conv2d_depthwise_codes);
      MM_CHECK(t.linear_f32 && t.conv2d_f32 && t.conv2d_depthwise_f32 && t.attention_f32 && t.rms_norm_f32);
      MM_CHECK(t.layer_norm_f32 && t.activation_f32 && t.silu_mul_f32 && t.softmax_f32 && t.log_softmax_f32);
      MM_CHECK(t.add_f32 && t.mul_f32);
    }
    check_best();
    MM_CHECK(forced_isa_error() == nullptr);
  });
}

void test_every_supported_table_can_be_forced() {
  const char* const names[] = {"reference", "avx2", "avx_vnni", "avx512_vnni", "amx", "neon_dotprod"};
  for (const char* name : names) {
    in_child(name, [&] {
      const TableList list = all_tables();
      const KernelTable* named = nullptr;
      for (int i = 0; i < list.count; ++i) {
        if (std::strcmp(list.tables[i]->name, name) == 0 && list.tables[i]->is_supported()) named = list.tables[i];
      }
      if (named != nullptr) {
        MM_CHECK(&best_table() == named && forced_isa_error() == nullptr);
      } else {
        check_best();
        MM_CHECK(forced_isa_error() != nullptr);
      }
    });
  }
}

void test_an_unknown_name_falls_back() {
  const char* const names[] = {"avx9000", "AVX2", " "};
  for (const char* name : names) {
    in_child(name, [] {
      check_best();
      MM_CHECK(forced_isa_error() != nullptr && std::strstr(forced_isa_error(), "MM_FORCE_ISA") != nullptr);
    });
  }
  in_child("", [] {  // empty counts as unset
    check_best();
    MM_CHECK(forced_isa_error() == nullptr);
  });
}

}  // namespace

int main() {
  test_tables_are_complete();
  test_every_supported_table_can_be_forced();
  test_an_unknown_name_falls_back();
  return mm::test::finish("registry");
}
