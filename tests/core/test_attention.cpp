// Holds the operation `attention` to plain sums in double, on every instruction set and number of threads.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "check.h"
#include "ops/operations.h"

namespace {

using mm::tensor::DType;
using mm::tensor::Shape;
using mm::tensor::TensorView;

struct Heads {
  int heads, kv_heads, head_dim;
  int width() const { return (heads + 2 * kv_heads) * head_dim; }
};

std::vector<float> run(const mm::kernels::KernelTable& table, int threads, const Heads& heads, std::vector<float>& qkv,
                       int rows) {
  const uint32_t words[] = {static_cast<uint32_t>(heads.heads), static_cast<uint32_t>(heads.kv_heads),
                            static_cast<uint32_t>(heads.head_dim)};
  const mm::ops::Attributes attributes = {words, 3};
  mm::ops::StateStore states({}, 1, 1, 0);
  const std::unique_ptr<mm::base::ThreadPool> pool = mm::base::ThreadPool::create(threads);
  TensorView x = {qkv.data(), DType::f32, Shape::of(rows, heads.width())};
  mm::ops::Inputs inputs;
  inputs.items[0] = &x;
  inputs.count = 1;
  mm::ops::Inferred inferred;
  if (!MM_CHECK(mm::ops::attention_op.infer({states, threads}, attributes, inputs, inferred).is_ok())) return {};
  MM_CHECK(inferred.shape == Shape::of(rows, heads.heads * heads.head_dim));
  mm::ops::AlignedBuffer scratch;
  MM_CHECK(scratch.reserve(inferred.scratch_bytes));
  std::vector<float> out(static_cast<size_t>(inferred.shape.elements()), std::nanf(""));
  mm::ops::Context context = {table, *pool, states, scratch.data()};
  MM_CHECK(mm::ops::attention_op.run(context, attributes, inputs, {out.data(), DType::f32, inferred.shape}).is_ok());
  return out;
}

std::vector<double> plain(const Heads& h, const std::vector<float>& qkv, int rows) {
  const int width = h.width(), q_width = h.heads * h.head_dim, kv_width = h.kv_heads * h.head_dim;
  const auto at = [&](int row, int column) {
    return static_cast<double>(qkv[static_cast<size_t>(row * width + column)]);
  };
  std::vector<double> out(static_cast<size_t>(rows * q_width));
  std::vector<double> weights(static_cast<size_t>(rows));
  for (int r = 0; r < rows; ++r)
    for (int head = 0; head < h.heads; ++head) {
      const int q = head * h.head_dim, k = q_width + head / (h.heads / h.kv_heads) * h.head_dim, v = k + kv_width;
      double largest = -1e300, sum = 0;
      for (int p = 0; p < rows; ++p) {
        double score = 0;
        for (int c = 0; c < h.head_dim; ++c) score += at(r, q + c) * at(p, k + c);
        weights[static_cast<size_t>(p)] = score / std::sqrt(h.head_dim);
        largest = std::max(largest, weights[static_cast<size_t>(p)]);
      }
      for (double& weight : weights) sum += weight = std::exp(weight - largest);
      for (int c = 0; c < h.head_dim; ++c) {
        double mixed = 0;
        for (int p = 0; p < rows; ++p) mixed += weights[static_cast<size_t>(p)] / sum * at(p, v + c);
        out[static_cast<size_t>(r * q_width + q + c)] = mixed;
      }
    }
  return out;
}

// Values and scores are within +-1 and +-sqrt(head_dim): a score of head_dim float32 terms is off by at most
// head_dim * 2^-24 of their magnitudes, a weight by as much again and by exp's own 2^-22, a sum of `rows` weights of
// sum 1 by rows * 2^-24.
double bound_of(const Heads& h, int rows) {
  return (h.head_dim * std::sqrt(h.head_dim) * 2 + rows + 8) * std::ldexp(1.0, -24) + std::ldexp(1.0, -21);
}

void test_every_table() {
  std::mt19937 random(11);
  std::uniform_real_distribution<float> value(-1, 1);
  const mm::kernels::TableList tables = mm::kernels::all_tables();
  for (const Heads& heads : {Heads{12, 12, 32}, Heads{4, 2, 16}, Heads{3, 1, 12}, Heads{1, 1, 4}})
    for (const int rows : {1, 2, 7, 49, 64, 131}) {
      std::vector<float> qkv(static_cast<size_t>(rows * heads.width()));
      for (float& x : qkv) x = value(random);
      const std::vector<double> expected = plain(heads, qkv, rows);
      for (int t = 0; t < tables.count; ++t) {
        if (!tables.tables[t]->is_supported()) continue;
        const std::vector<float> found = run(*tables.tables[t], 1, heads, qkv, rows);
        double worst = 0;
        for (size_t i = 0; i < expected.size(); ++i)
          worst = std::max(worst, std::abs(static_cast<double>(found[i]) - expected[i]));
        if (!MM_CHECK(worst <= bound_of(heads, rows)))
          std::fprintf(stderr, "  %s, %d rows: off by %g\n", tables.tables[t]->name, rows, worst);
        for (const int threads : {2, 3}) {
          const std::vector<float> split = run(*tables.tables[t], threads, heads, qkv, rows);
          MM_CHECK(std::memcmp(split.data(), found.data(), found.size() * sizeof(float)) == 0);
        }
      }
    }
}

bool is_refused(const Heads& heads, DType type, const Shape& shape, mm::base::StatusCode code) {
  const uint32_t words[] = {static_cast<uint32_t>(heads.heads), static_cast<uint32_t>(heads.kv_heads),
                            static_cast<uint32_t>(heads.head_dim)};
  mm::ops::StateStore states({}, 1, 1, 0);
  TensorView x = {nullptr, type, shape};
  mm::ops::Inputs inputs;
  inputs.items[0] = &x;
  inputs.count = 1;
  mm::ops::Inferred inferred;
  return mm::ops::attention_op.infer({states, 4}, {words, 3}, inputs, inferred).code() == code;
}

void test_wrong_shapes_are_refused() {
  using mm::base::StatusCode;
  const Heads right = {2, 1, 8};
  MM_CHECK(is_refused(right, DType::f32, Shape::of(3, 32), StatusCode::ok));
  MM_CHECK(is_refused(right, DType::f32, Shape::of(4096, 32), StatusCode::ok));
  MM_CHECK(is_refused(right, DType::f32, Shape::of(4097, 32), StatusCode::invalid_input));
  MM_CHECK(is_refused(right, DType::f32, Shape::of(3, 31), StatusCode::invalid_input));
  MM_CHECK(is_refused(right, DType::f32, Shape::of(3, 33), StatusCode::invalid_input));
  MM_CHECK(!is_refused(right, DType::i32, Shape::of(3, 32), StatusCode::ok));
  for (const Heads& wrong : {Heads{0, 1, 8}, Heads{-1, 1, 8}, Heads{2, 0, 8}, Heads{2, 3, 8}, Heads{3, 2, 8},
                             Heads{2, 1, 0}, Heads{2, 1, 6}, Heads{2, 1, 1 << 30}, Heads{1 << 30, 1, 8}})
    MM_CHECK(is_refused(wrong, DType::f32, Shape::of(3, 32), StatusCode::model_format));
}

}  // namespace

int main() {
  test_every_table();
  test_wrong_shapes_are_refused();
  return mm::test::finish("attention");
}
