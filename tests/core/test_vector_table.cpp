// Holds the search over int8 vectors to its plain twin, on every instruction set and past every boundary of its memory.
#include "ops/vector_table.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "check.h"
#include "guarded_buffer.h"

using mm::base::StatusCode;
using mm::kernels::KernelTable;
using mm::ops::ScoredRow;
using mm::ops::VectorTable;
using mm::test::Random;

namespace {

struct Problem {
  int width;
  int64_t rows;
  std::vector<int8_t> codes;
  std::vector<float> scales, query;
  VectorTable table;

  Problem(int width_, int64_t rows_, Random& random)
      : width(width_),
        rows(rows_),
        codes(static_cast<size_t>(width_) * static_cast<size_t>(rows_)),
        scales(static_cast<size_t>(rows_)),
        query(static_cast<size_t>(width_)),
        table(std::move(VectorTable::create(width_).value())) {
    for (auto& code : codes) code = static_cast<int8_t>(random.between(-128, 127));
    for (auto& scale : scales) scale = static_cast<float>(random.between(1, 1000)) / 1e5f;
    for (auto& value : query) value = static_cast<float>(random.between(-1000, 1000)) / 1000.0f;
  }

  void append_all() { MM_CHECK(table.append(codes.data(), scales.data(), rows).is_ok()); }

  // Written out over the codes as they were given: knows nothing of tiles.
  double product(int64_t row) const {
    double sum = 0;
    for (int i = 0; i < width; ++i)
      sum += static_cast<double>(query[static_cast<size_t>(i)]) * codes[static_cast<size_t>(row * width + i)];
    return sum * scales[static_cast<size_t>(row)];
  }

  // query_step / 2 * |scale * code|_1, and float32 rounding of the two parts of a score.
  double bound(int64_t row) const {
    double largest = 0, magnitude = 0;
    for (float value : query) largest = std::max(largest, std::fabs(static_cast<double>(value)));
    for (int i = 0; i < width; ++i) magnitude += std::abs(codes[static_cast<size_t>(row * width + i)]);
    magnitude *= scales[static_cast<size_t>(row)];
    return largest * magnitude * (0.5 / 32258 + 8 * std::numeric_limits<float>::epsilon());
  }
};

void check_hits(const Problem& problem, const std::vector<ScoredRow>& hits, size_t expected, const uint8_t* allowed,
                int64_t row_begin) {
  MM_CHECK(hits.size() == expected);
  std::vector<bool> was_hit(static_cast<size_t>(problem.rows));
  for (size_t i = 0; i < hits.size(); ++i) {
    const int64_t row = hits[i].row;
    MM_CHECK(row >= row_begin && row < problem.rows && (allowed == nullptr || allowed[row] != 0));
    MM_CHECK(std::fabs(hits[i].score - problem.product(row)) <= problem.bound(row));
    MM_CHECK(i == 0 || mm::ops::ranks_before(hits[i - 1], hits[i]));
    was_hit[static_cast<size_t>(row)] = true;
  }
  if (hits.empty()) return;
  for (int64_t row = row_begin; row < problem.rows; ++row) {  // nothing better was left out
    if (was_hit[static_cast<size_t>(row)] || (allowed != nullptr && allowed[row] == 0)) continue;
    MM_CHECK(problem.product(row) - problem.bound(row) <= hits.back().score);
  }
}

// Widths around the padding of 16; rows around a tile (16), a group of tiles (1024) and a chunk (4096).
void test_search_equals_the_plain_sum(const KernelTable& kernels) {
  Random random(1);
  for (int width : {1, 15, 16, 17, 100, 256}) {
    for (int64_t rows : {1, 15, 16, 17, 1023, 1025, 4096, 4097, 9000}) {
      if (width > 17 && rows > 1025 && rows != 4097) continue;
      Problem problem(width, rows, random);
      problem.append_all();
      for (int64_t k : {int64_t{1}, int64_t{10}, rows + 3}) {
        const auto hits = problem.table.search(kernels, problem.query.data(), k, nullptr, 0);
        MM_CHECK(hits.is_ok());
        check_hits(problem, hits.value(), static_cast<size_t>(std::min(k, rows)), nullptr, 0);
      }
    }
  }
}

void test_masks_and_first_rows(const KernelTable& kernels) {
  Random random(2);
  Problem problem(32, 4500, random);
  problem.append_all();
  mm::test::GuardedBuffer<uint8_t> allowed(4500);
  for (auto& flag : allowed) flag = static_cast<uint8_t>(random.between(0, 9) == 0);
  for (int64_t begin : {0, 1, 15, 16, 1024, 4095, 4096, 4499, 4500, 9999}) {
    const int64_t left = std::max<int64_t>(4500 - begin, 0);
    const auto all = problem.table.search(kernels, problem.query.data(), 20, nullptr, begin);
    check_hits(problem, all.value(), static_cast<size_t>(std::min<int64_t>(20, left)), nullptr, begin);
    const int64_t open = begin < 4500 ? std::count(allowed.begin() + begin, allowed.end(), uint8_t{1}) : 0;
    const auto some = problem.table.search(kernels, problem.query.data(), 20, allowed.data(), begin);
    check_hits(problem, some.value(), static_cast<size_t>(std::min<int64_t>(20, open)), allowed.data(), begin);
  }
}

// The largest magnitudes of both sides at the largest width: an accumulator that overflows, overflows here.
void test_saturating_values(const KernelTable& kernels) {
  for (int code : {-128, 127}) {
    for (float value : {-1.0f, 1.0f}) {
      Random random(3);
      Problem problem(4096, 17, random);
      std::fill(problem.codes.begin(), problem.codes.end(), static_cast<int8_t>(code));
      std::fill(problem.query.begin(), problem.query.end(), value);
      problem.append_all();
      const auto hits = problem.table.search(kernels, problem.query.data(), 17, nullptr, 0);
      check_hits(problem, hits.value(), 17, nullptr, 0);
    }
  }
}

void test_every_instruction_set_gives_the_same_bits() {
  Random random(4);
  Problem problem(256, 5000, random);
  problem.append_all();
  const auto expected =
      problem.table.search(*mm::kernels::reference_table(), problem.query.data(), 100, nullptr, 0).value();
  const auto list = mm::kernels::all_tables();
  for (int i = 0; i < list.count; ++i) {
    if (!list.tables[i]->is_supported()) continue;
    const auto found = problem.table.search(*list.tables[i], problem.query.data(), 100, nullptr, 0).value();
    MM_CHECK(found.size() == expected.size());
    for (size_t j = 0; j < found.size(); ++j)
      MM_CHECK(found[j].row == expected[j].row && found[j].score == expected[j].score);
  }
}

void test_equal_scores_keep_the_order_of_rows(const KernelTable& kernels) {
  Random random(5);
  Problem problem(16, 5000, random);
  for (size_t row = 0; row < 5000; ++row) {
    problem.scales[row] = row % 1000 == 7 ? 2.0f : 1.0f;
    std::copy(problem.codes.begin(), problem.codes.begin() + 16, problem.codes.begin() + 16 * static_cast<int>(row));
  }
  for (size_t i = 0; i < 16; ++i) problem.query[i] = problem.codes[i];  // the product is positive
  problem.append_all();
  const auto hits = problem.table.search(kernels, problem.query.data(), 8, nullptr, 0).value();
  const int64_t expected[] = {7, 1007, 2007, 3007, 4007, 0, 1, 2};
  for (size_t i = 0; i < 8; ++i) MM_CHECK(hits[i].row == expected[i]);
}

void test_rows_appended_in_pieces_are_the_same_rows() {
  Random random(6);
  Problem problem(48, 4200, random);
  for (int64_t row = 0, piece = 1; row < 4200; row += piece, piece = piece * 3 % 1000 + 1) {
    piece = std::min(piece, 4200 - row);
    MM_CHECK(problem.table.append(problem.codes.data() + row * 48, problem.scales.data() + row, piece).is_ok());
  }
  MM_CHECK(problem.table.rows() == 4200);
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < 4200; ++row) rows.push_back(4199 - row);
  std::vector<float> scores(4200);
  MM_CHECK(problem.table.score(problem.query.data(), rows.data(), 4200, scores.data()).is_ok());
  for (size_t i = 0; i < 4200; ++i) {
    const double expected = problem.product(rows[i]);
    MM_CHECK(std::fabs(scores[i] - expected) <= std::fabs(expected) * 1e-6);
  }
}

void test_refusals() {
  MM_CHECK(VectorTable::create(0).status().code() == StatusCode::invalid_input);
  MM_CHECK(VectorTable::create(4097).status().code() == StatusCode::invalid_input);
  Random random(7);
  Problem problem(16, 3, random);
  problem.append_all();
  const auto& kernels = *mm::kernels::reference_table();
  const float* query = problem.query.data();
  MM_CHECK(problem.table.search(kernels, query, 0, nullptr, 0).status().code() == StatusCode::invalid_input);
  MM_CHECK(problem.table.search(kernels, query, 1, nullptr, -1).status().code() == StatusCode::invalid_input);
  float score = 0;
  for (int64_t row : {int64_t{-1}, int64_t{3}})
    MM_CHECK(problem.table.score(query, &row, 1, &score).code() == StatusCode::invalid_input);
  for (float bad : {std::nanf(""), INFINITY, -1.0f}) {
    std::vector<float> scales = {1.0f, bad, 1.0f};
    MM_CHECK(problem.table.append(problem.codes.data(), scales.data(), 3).code() == StatusCode::invalid_input);
    MM_CHECK(problem.table.rows() == 3);
  }
  for (float bad : {std::nanf(""), -INFINITY}) {
    problem.query[5] = bad;
    MM_CHECK(problem.table.search(kernels, query, 1, nullptr, 0).status().code() == StatusCode::invalid_input);
  }
  const auto empty = VectorTable::create(16);
  const std::vector<float> zeros(16);
  MM_CHECK(empty.value().search(kernels, zeros.data(), 5, nullptr, 0).value().empty());
}

}  // namespace

int main() {
  const auto list = mm::kernels::all_tables();
  for (int i = 0; i < list.count; ++i) {
    if (!list.tables[i]->is_supported()) continue;
    test_search_equals_the_plain_sum(*list.tables[i]);
    test_masks_and_first_rows(*list.tables[i]);
    test_saturating_values(*list.tables[i]);
    test_equal_scores_keep_the_order_of_rows(*list.tables[i]);
  }
  test_every_instruction_set_gives_the_same_bits();
  test_rows_appended_in_pieces_are_the_same_rows();
  test_refusals();
  return mm::test::finish("vector_table");
}
