// Holds the integer linear kernels of every table to the same bits as plain arithmetic, up to the limits of the layout.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "check.h"
#include "guarded_buffer.h"
#include "kernels/kernels.h"
#include "quant/layout.h"

using mm::kernels::KernelTable;
using mm::kernels::LinearArgs;
using mm::test::GuardedBuffer;
using mm::test::Random;

namespace {

using Linear = void (*)(const LinearArgs&);

Linear linear_of(const KernelTable& table, int bits) {
  return bits == 2 ? table.linear_w2a8 : bits == 4 ? table.linear_w4a8 : table.linear_w8a8;
}

enum class Fill { random, codes_highest_x_highest, codes_highest_x_lowest, codes_zero_x_lowest };

// A matrix and the rows to multiply it with; every buffer ends at a forbidden page.
struct Problem {
  int bits, n, k, m, k_padded, tiles, zero2;
  GuardedBuffer<uint8_t> weight;
  GuardedBuffer<int8_t> x;
  GuardedBuffer<int32_t> x_sum;
  std::vector<uint8_t> codes;  // [n, k], the independent twin of `weight`

  Problem(int bits_, int n_, int k_, int m_, Fill fill, Random& random)
      : bits(bits_),
        n(n_),
        k(k_),
        m(m_),
        k_padded(mm::quant::round_up(k_, mm::quant::column_step)),
        tiles(mm::quant::round_up(n_, mm::quant::tile_rows) / mm::quant::tile_rows),
        zero2(bits_ == 2   ? 3
              : bits_ == 4 ? 15
                           : 256),
        weight(mm::quant::packed_bytes(bits_, n_, k_)),
        x(static_cast<size_t>(m_) * static_cast<size_t>(k_padded)),
        x_sum(static_cast<size_t>(m_)),
        codes(static_cast<size_t>(n_) * static_cast<size_t>(k_)) {
    const int highest = (1 << bits) - 1;
    for (auto& code : codes) {
      code = static_cast<uint8_t>(fill == Fill::random                ? random.between(0, highest)
                                  : fill == Fill::codes_zero_x_lowest ? 0
                                                                      : highest);
    }
    pack();
    for (int r = 0; r < m; ++r) {
      for (int i = 0; i < k; ++i) {
        x[at(r, i)] = static_cast<int8_t>(fill == Fill::random                    ? random.between(-128, 127)
                                          : fill == Fill::codes_highest_x_highest ? 127
                                                                                  : -128);
        x_sum[static_cast<size_t>(r)] += x[at(r, i)];
      }
    }
  }

  size_t at(int r, int i) const {
    return static_cast<size_t>(r) * static_cast<size_t>(k_padded) + static_cast<size_t>(i);
  }

  // Written from the text of layout.h, not with its code_at.
  void pack() {
    const int tile_k = 32 / bits;
    for (int row = 0; row < n; ++row) {
      for (int column = 0; column < k; ++column) {
        const int plane = column % tile_k / 4;
        const size_t tile = static_cast<size_t>(row / 16) * static_cast<size_t>(k_padded / tile_k) +
                            static_cast<size_t>(column / tile_k);
        uint8_t& byte = weight[tile * 64 + static_cast<size_t>(row % 16 * 4 + column % 4)];
        const int code = codes[static_cast<size_t>(row) * static_cast<size_t>(k) + static_cast<size_t>(column)];
        byte = static_cast<uint8_t>(byte | code << (plane * bits));
      }
    }
  }

  LinearArgs args(int tile_begin, int tile_end, int32_t* out, int out_stride) const {
    return {x.data(), x_sum.data(), weight.data(), m, k_padded, zero2, tile_begin, tile_end, out, out_stride};
  }

  std::vector<int32_t> run(const KernelTable& table, int tile_begin, int tile_end) const {
    const int stride = (tile_end - tile_begin) * 16;
    GuardedBuffer<int32_t> out(static_cast<size_t>(m) * static_cast<size_t>(stride));
    std::memset(out.data(), 0x5A, out.size() * sizeof(int32_t));
    linear_of(table, bits)(args(tile_begin, tile_end, out.data(), stride));
    return {out.begin(), out.end()};
  }
};

std::vector<const KernelTable*> supported_tables() {
  std::vector<const KernelTable*> supported;
  const auto list = mm::kernels::all_tables();
  for (int i = 0; i < list.count; ++i) {
    if (list.tables[i]->is_supported()) {
      supported.push_back(list.tables[i]);
    } else {
      std::printf("skipped: %s is not supported by this CPU\n", list.tables[i]->name);
    }
  }
  return supported;
}

const KernelTable& reference() { return *mm::kernels::reference_table(); }

// The reference itself, against sums written out over the codes, by both readings of the layout.
void test_reference_is_the_plain_sum() {
  Random random(1);
  for (int bits : {2, 4, 8}) {
    const Problem problem(bits, 37, 75, 3, Fill::random, random);
    const std::vector<int32_t> out = problem.run(reference(), 0, problem.tiles);
    for (int r = 0; r < problem.m; ++r) {
      for (int row = 0; row < problem.tiles * 16; ++row) {
        int64_t by_codes = 0, by_code_at = 0;
        for (int i = 0; i < problem.k; ++i) {
          const int xi = problem.x[problem.at(r, i)];
          if (row < problem.n) by_codes += problem.codes[static_cast<size_t>(row * problem.k + i)] * xi;
          by_code_at += mm::quant::code_at(problem.weight.data(), bits, problem.k_padded, row, i) * xi;
        }
        const int64_t correction = int64_t{problem.zero2} * problem.x_sum[static_cast<size_t>(r)];
        const int32_t value = out[static_cast<size_t>(r * problem.tiles * 16 + row)];
        MM_CHECK(value == 2 * by_codes - correction);
        MM_CHECK(value == 2 * by_code_at - correction);
      }
    }
  }
}

// k from one step to past every fold (5 and 10 tiles of 16, 4 of 8) and to the layout's limit; n with and without a
// last part tile.
void test_shapes(const KernelTable& table) {
  Random random(2);
  const int shapes[][3] = {{16, 16, 1},   {16, 16, 12},  {16, 16, 13},  {48, 32, 5},   {33, 40, 7},    {96, 16, 49},
                           {24, 144, 25}, {80, 576, 3},  {40, 240, 31}, {17, 1280, 2}, {112, 672, 14}, {15, 4096, 4},
                           {1, 80, 9},    {70, 160, 11}, {128, 96, 1},  {145, 176, 1}, {64, 32752, 1}, {16, 32752, 13}};
  for (int bits : {2, 4, 8}) {
    for (const auto& shape : shapes) {
      const Problem problem(bits, shape[0], shape[1], shape[2], Fill::random, random);
      MM_CHECK(problem.run(table, 0, problem.tiles) == problem.run(reference(), 0, problem.tiles));
    }
  }
}

void test_every_row_count(const KernelTable& table) {
  Random random(3);
  for (int bits : {2, 4, 8}) {
    for (int m = 1; m <= 40; ++m) {
      const Problem problem(bits, 16 * 5, 112, m, Fill::random, random);
      MM_CHECK(problem.run(table, 0, problem.tiles) == problem.run(reference(), 0, problem.tiles));
    }
  }
}

void test_every_depth(const KernelTable& table) {
  Random random(4);
  for (int bits : {2, 4, 8}) {
    for (int k = 16; k <= 1024; k += 16) {
      const Problem problem(bits, 32, k, k % 3 + 1, Fill::random, random);
      MM_CHECK(problem.run(table, 0, problem.tiles) == problem.run(reference(), 0, problem.tiles));
    }
  }
}

// Every product at its largest, with either sign: what overflows, overflows here.
void test_saturating_inputs(const KernelTable& table) {
  Random random(5);
  for (int bits : {2, 4, 8}) {
    for (Fill fill : {Fill::codes_highest_x_highest, Fill::codes_highest_x_lowest, Fill::codes_zero_x_lowest}) {
      for (int k : {16, 32, 64, 80, 96, 160, 176, 576, 4096, 32768}) {
        for (int m : {1, 2, 3, 5, 12}) {
          if (k > 4096 && m == 5) continue;
          const Problem problem(bits, 32, k, m, fill, random);
          const std::vector<int32_t> out = problem.run(table, 0, problem.tiles);
          const int64_t code = fill == Fill::codes_zero_x_lowest ? 0 : (1 << bits) - 1;
          const int64_t x = fill == Fill::codes_highest_x_highest ? 127 : -128;
          const int64_t expected = k * x * (2 * code - problem.zero2);
          bool all_equal = true;
          for (int32_t value : out) all_equal = all_equal && value == expected;
          MM_CHECK(all_equal);
        }
      }
    }
  }
}

// Threads split the tiles: any split gives the same bits, and nothing but the asked-for columns is written.
void test_tile_ranges(const KernelTable& table) {
  Random random(6);
  for (int bits : {2, 4, 8}) {
    for (int m : {1, 4, 13, 49}) {
      const Problem problem(bits, 16 * 7 - 3, 208, m, Fill::random, random);
      const std::vector<int32_t> whole = problem.run(table, 0, problem.tiles);
      for (int begin = 0; begin < problem.tiles; ++begin) {
        for (int end = begin + 1; end <= problem.tiles; ++end) {
          const std::vector<int32_t> part = problem.run(table, begin, end);
          const size_t width = static_cast<size_t>(end - begin) * 16;
          for (size_t r = 0; r < static_cast<size_t>(m); ++r) {
            MM_CHECK(
                std::equal(part.begin() + static_cast<std::ptrdiff_t>(r * width),
                           part.begin() + static_cast<std::ptrdiff_t>((r + 1) * width),
                           whole.begin() + static_cast<std::ptrdiff_t>(r * static_cast<size_t>(problem.tiles) * 16 +
                                                                       static_cast<size_t>(begin) * 16)));
          }
        }
      }
      const int stride = problem.tiles * 16 + 5;  // a wider stride leaves its gap alone
      std::vector<int32_t> out(static_cast<size_t>(m) * static_cast<size_t>(stride), 12345);
      linear_of(table, bits)(problem.args(0, problem.tiles, out.data(), stride));
      for (int r = 0; r < m; ++r) {
        for (int c = problem.tiles * 16; c < stride; ++c) MM_CHECK(out[static_cast<size_t>(r * stride + c)] == 12345);
      }
    }
  }
}

// Activations by range: kernels may take shorter ways for those that are not negative, barely negative or mostly small,
// and must leave them where only one of a row's neighbours is too large.
void test_ranges_of_activations(const KernelTable& table) {
  Random random(8);
  struct Range {
    int low, high, outlier_of;  // one in `outlier_of` is anything from low to 127
  };
  for (int bits : {2, 4, 8}) {
    for (const Range& range : {Range{0, 127, 1}, Range{0, 60, 40}, Range{0, 3, 9}, Range{-6, 40, 30},
                               Range{-64, 63, 99}, Range{-65, 20, 50}, Range{127, 127, 1}, Range{-1, 127, 1}}) {
      for (int k : {16, 40, 512, 528, 1040, 1200}) {
        for (int m : {3, 7, 25, 50}) {
          Problem problem(bits, 32, k, m, Fill::random, random);
          for (int r = 0; r < m; ++r) {
            problem.x_sum[static_cast<size_t>(r)] = 0;
            for (int i = 0; i < k; ++i) {
              const int high = random.between(1, range.outlier_of) == 1 ? 127 : range.high;
              problem.x[problem.at(r, i)] = static_cast<int8_t>(random.between(range.low, high));
              problem.x_sum[static_cast<size_t>(r)] += problem.x[problem.at(r, i)];
            }
          }
          MM_CHECK(problem.run(table, 0, problem.tiles) == problem.run(reference(), 0, problem.tiles));
        }
      }
    }
  }
}

// Zero points other than SEQ's: ternary (z = 1) and the ends of the range.
void test_zero_points(const KernelTable& table) {
  Random random(7);
  for (int bits : {2, 4, 8}) {
    for (int zero2 : {0, 1, 2, 255, 510}) {
      Problem problem(bits, 48, 96, 3, Fill::random, random);
      problem.zero2 = zero2;
      MM_CHECK(problem.run(table, 0, problem.tiles) == problem.run(reference(), 0, problem.tiles));
    }
  }
}

}  // namespace

int main() {
  test_reference_is_the_plain_sum();
  const auto tables = supported_tables();
  for (const KernelTable* table : tables) {
    const int before = mm::test::failures;
    if (table->isa != mm::kernels::Isa::reference) {
      test_shapes(*table);
      test_every_row_count(*table);
      test_every_depth(*table);
    }
    test_saturating_inputs(*table);
    test_tile_ranges(*table);
    test_ranges_of_activations(*table);
    test_zero_points(*table);
    std::printf("%s: %d failed\n", table->name, mm::test::failures - before);
  }
#if defined(__x86_64__)
  // Silence must not pass for success: a CPU with AVX2 has run at least one fast table.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) MM_CHECK(tables.size() >= 2);
#endif
  return mm::test::finish("linear");
}
