// Holds `linear_depthwise`, of floats and of codes, to the two operations it stands for, bit for bit, and the pass that
// fuses to what it may.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "check.h"
#include "ops/operations.h"
#include "program/fusion.h"
#include "quant/layout.h"

namespace {

using mm::kernels::KernelTable;
using mm::ops::Attributes;
using mm::ops::Inputs;
using mm::ops::Op;
using mm::tensor::DType;
using mm::tensor::Shape;
using mm::tensor::TensorView;

// Height and width of the pictures, channels in and between, the side of the kernel, how it moves and what lies around.
struct Layer {
  int64_t pictures;
  int height, width, in, between, side, stride, pad;
};

struct Weights {
  std::vector<float> x, scale, bias, depthwise, depthwise_bias, depthwise_scale;
  std::vector<uint8_t> packed, depthwise_codes;

  Weights(const Layer& l, std::mt19937& random) {
    std::uniform_real_distribution<float> value(-1, 1);
    const auto fill = [&](std::vector<float>& to, int64_t count) {
      to.resize(static_cast<size_t>(count));
      for (float& each : to) each = value(random);
    };
    fill(x, l.pictures * l.height * l.width * l.in);
    fill(scale, l.between);
    fill(bias, l.between);
    fill(depthwise, static_cast<int64_t>(l.side) * l.side * l.between);
    fill(depthwise_bias, l.between);
    packed.resize(mm::quant::packed_bytes(8, l.between, l.in));
    for (uint8_t& code : packed) code = static_cast<uint8_t>(random());
    fill(depthwise_scale, l.between);
    depthwise_codes.resize(depthwise.size());
    for (uint8_t& code : depthwise_codes) code = static_cast<uint8_t>(random());
  }

  // For results that are codes: the range between 0 and 127 is in use.
  void widen() {
    for (float& each : bias) each *= 100;
    for (float& each : depthwise_bias) each = 60 + 60 * each;
    for (float& each : depthwise_scale) each *= 0.003f;
  }
};

// What both kinds of linear layers read.
struct LinearInputs {
  TensorView x, packed, scale, bias;
};

LinearInputs linear_inputs(const Layer& l, Weights& w) {
  const Shape pictures =
      l.pictures == 1 ? Shape::of(l.height, l.width, l.in) : Shape::of(l.pictures, l.height, l.width, l.in);
  return {{w.x.data(), DType::f32, pictures},
          {w.packed.data(), DType::i8, Shape::of(static_cast<int64_t>(w.packed.size()))},
          {w.scale.data(), DType::f32, Shape::of(l.between)},
          {w.bias.data(), DType::f32, Shape::of(l.between)}};
}

struct Runner {
  const KernelTable& table;
  std::unique_ptr<mm::base::ThreadPool> pool;
  mm::ops::StateStore states{{}, 1, 1, 0};

  Runner(const KernelTable& kernels, int threads) : table(kernels), pool(mm::base::ThreadPool::create(threads)) {}

  // The output, and its shape in `shape`; scratch is filled with rubbish and followed by bytes that must stay.
  template <class T = float>
  std::vector<T> run(const Op& op, const std::vector<uint32_t>& words, const std::vector<const TensorView*>& inputs,
                     Shape& shape) {
    const Attributes attributes = {words.data(), static_cast<int>(words.size())};
    Inputs arguments;
    for (const TensorView* input : inputs) arguments.items[arguments.count++] = input;
    mm::ops::Inferred inferred;
    if (!MM_CHECK(op.infer({states, pool->threads()}, attributes, arguments, inferred).is_ok())) return {};
    shape = inferred.shape;
    constexpr size_t guard = 256;
    mm::ops::AlignedBuffer scratch;
    MM_CHECK(scratch.reserve(inferred.scratch_bytes + guard));
    std::memset(scratch.data(), 0x7F, inferred.scratch_bytes + guard);
    MM_CHECK(inferred.dtype == (sizeof(T) == 1 ? DType::i8 : DType::f32));
    std::vector<T> out(static_cast<size_t>(shape.elements()));
    std::memset(out.data(), 0xFF, out.size() * sizeof(T));
    mm::ops::Context context = {table, *pool, states, scratch.data()};
    MM_CHECK(op.run(context, attributes, arguments, {out.data(), inferred.dtype, shape}).is_ok());
    for (size_t i = 0; i < guard; ++i) MM_CHECK(scratch.data()[inferred.scratch_bytes + i] == 0x7F);
    return out;
  }
};

// The first six are large enough for bands of floats: one a picture and several, one row a band, with strides and large
// kernels; codes take bands in some of them and in the last two.
const Layer layers[] = {{1, 56, 56, 24, 96, 3, 1, 1},   {1, 57, 61, 16, 96, 3, 2, 1}, {2, 28, 40, 40, 240, 5, 1, 2},
                        {1, 12, 2000, 4, 16, 5, 2, 2},  {1, 3, 1500, 8, 64, 3, 1, 0}, {1, 40, 96, 8, 80, 7, 1, 6},
                        {1, 14, 14, 80, 96, 5, 1, 2},   {3, 7, 5, 12, 20, 3, 2, 1},   {1, 30, 300, 4, 40, 3, 1, 5},
                        {1, 112, 112, 16, 96, 3, 2, 1}, {1, 96, 130, 8, 112, 5, 1, 2}};

void test_both_ways_give_the_same_bits(const KernelTable& table) {
  std::mt19937 random(17);
  for (const Layer& l : layers) {
    Weights weights(l, random);
    const auto [x, packed, scale, bias] = linear_inputs(l, weights);
    const TensorView w = {weights.depthwise.data(), DType::f32, Shape::of(l.side, l.side, l.between)};
    const TensorView w_bias = {weights.depthwise_bias.data(), DType::f32, Shape::of(l.between)};
    const uint32_t side = static_cast<uint32_t>(l.stride), pad = static_cast<uint32_t>(l.pad);
    const std::vector<uint32_t> linear = {8, static_cast<uint32_t>(l.between), static_cast<uint32_t>(l.in), 256, 2};
    const std::vector<uint32_t> depthwise = {side, side, pad, pad, pad, pad, 4};
    std::vector<uint32_t> both = linear;
    both.insert(both.end(), depthwise.begin(), depthwise.end());

    std::vector<float> expected;
    Shape between_shape, expected_shape, shape;
    {
      Runner one(table, 1);
      std::vector<float> between =
          one.run(mm::ops::linear_op, linear, {&x, &packed, &scale, &bias, nullptr}, between_shape);
      const TensorView middle = {between.data(), DType::f32, between_shape};
      expected = one.run(mm::ops::conv2d_depthwise_op, depthwise, {&middle, &w, &w_bias}, expected_shape);
    }
    for (const int threads : {1, 2, 3}) {
      Runner runner(table, threads);
      const std::vector<float> found =
          runner.run(mm::ops::linear_depthwise_op, both, {&x, &packed, &scale, &bias, &w, &w_bias}, shape);
      MM_CHECK(shape == expected_shape);
      MM_CHECK(found.size() == expected.size() &&
               std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)) == 0);
    }
  }
}

void test_codes_both_ways(const KernelTable& table) {
  std::mt19937 random(18);
  for (const Layer& l : layers) {
    Weights weights(l, random);
    weights.widen();
    const auto [x, packed, scale, bias] = linear_inputs(l, weights);
    const TensorView w = {weights.depthwise_codes.data(), DType::i8, Shape::of(l.side, l.side, l.between)};
    const TensorView w_scale = {weights.depthwise_scale.data(), DType::f32, Shape::of(l.between)};
    const TensorView w_bias = {weights.depthwise_bias.data(), DType::f32, Shape::of(l.between)};
    const uint32_t stride = static_cast<uint32_t>(l.stride), pad = static_cast<uint32_t>(l.pad);
    const std::vector<uint32_t> linear = {8, static_cast<uint32_t>(l.between), static_cast<uint32_t>(l.in), 256};
    const std::vector<uint32_t> depthwise = {stride, stride, pad, pad, pad, pad};
    std::vector<uint32_t> both = linear;
    both.insert(both.end(), depthwise.begin(), depthwise.end());
    Shape between_shape, expected_shape, shape;
    Runner one(table, 1);
    std::vector<int8_t> between =
        one.run<int8_t>(mm::ops::linear_codes_op, linear, {&x, &packed, &scale, &bias}, between_shape);
    const TensorView middle = {between.data(), DType::i8, between_shape};
    const std::vector<int8_t> expected = one.run<int8_t>(mm::ops::conv2d_depthwise_codes_op, depthwise,
                                                         {&middle, &w, &w_scale, &w_bias}, expected_shape);
    MM_CHECK(std::count(expected.begin(), expected.end(), 0) < static_cast<long>(expected.size() / 2));
    for (const int threads : {1, 2, 3}) {
      Runner runner(table, threads);
      const std::vector<int8_t> found = runner.run<int8_t>(mm::ops::linear_depthwise_codes_op, both,
                                                           {&x, &packed, &scale, &bias, &w, &w_scale, &w_bias}, shape);
      MM_CHECK(shape == expected_shape);
      MM_CHECK(found == expected);
    }
  }
}

mm::program::Instruction instruction(const Op& op, const std::vector<int>& inputs, int output,
                                     const std::vector<uint32_t>& words) {
  mm::program::Instruction made;
  made.op = &op;
  for (const int slot : inputs) made.input_slots[made.input_count++] = slot;
  made.output_slot = output;
  made.attributes = {words.data(), static_cast<int>(words.size())};
  return made;
}

void test_what_may_be_fused() {
  const std::vector<uint32_t> first = {8, 32, 16, 256, 2}, second = {1, 1, 1, 1, 1, 1, 0};
  const auto linear = [&](const std::vector<int>& inputs) {
    return instruction(mm::ops::linear_op, inputs, 10, first);
  };
  const auto depthwise = [&](const std::vector<int>& inputs) {
    return instruction(mm::ops::conv2d_depthwise_op, inputs, 11, second);
  };
  const auto fused = [](const std::vector<mm::program::Instruction>& code, int reads_between,
                        mm::program::FusedAttributes& attributes) {
    std::vector<int> reads(16, 1);
    reads[10] = reads_between;
    return mm::program::fuse(code, reads, attributes);
  };
  mm::program::FusedAttributes attributes;
  const std::vector<mm::program::Instruction> made =
      fused({linear({0, 1, 2, 3}), depthwise({10, 4, 5})}, 1, attributes);
  if (MM_CHECK(made.size() == 1)) {
    const mm::program::Instruction& one = made[0];
    MM_CHECK(one.op == &mm::ops::linear_depthwise_op && one.output_slot == 11 && one.input_count == 6);
    for (int i = 0; i < 6; ++i) MM_CHECK(one.input_slots[i] == i);
    MM_CHECK(one.attributes.count == 12);
    for (int i = 0; i < 12; ++i)
      MM_CHECK(one.attributes.words[i] == (i < 5 ? first : second)[static_cast<size_t>(i < 5 ? i : i - 5)]);
  }
  const std::vector<mm::program::Instruction> bare = fused({linear({0, 1, 2}), depthwise({10, 4})}, 1, attributes);
  MM_CHECK(bare.size() == 1 && bare[0].input_slots[3] == -1 && bare[0].input_slots[5] == -1);
  const std::vector<uint32_t> codes_first = {8, 32, 16, 256}, codes_second = {1, 1, 1, 1, 1, 1};
  const std::vector<mm::program::Instruction> codes =
      fused({instruction(mm::ops::linear_codes_op, {0, 1, 2, 3}, 10, codes_first),
             instruction(mm::ops::conv2d_depthwise_codes_op, {10, 4, 5, 6}, 11, codes_second)},
            1, attributes);
  if (MM_CHECK(codes.size() == 1)) {
    MM_CHECK(codes[0].op == &mm::ops::linear_depthwise_codes_op && codes[0].output_slot == 11);
    MM_CHECK(codes[0].input_count == 7 && codes[0].attributes.count == 10);
    for (int i = 0; i < 7; ++i) MM_CHECK(codes[0].input_slots[i] == i);
  }
  // Floats and codes do not mix.
  MM_CHECK(
      fused({linear({0, 1, 2, 3}), instruction(mm::ops::conv2d_depthwise_codes_op, {10, 4, 5, 6}, 11, codes_second)}, 1,
            attributes)
          .size() == 2);
  // Somebody else reads what lies between; a residual is added; the convolution reads something else.
  MM_CHECK(fused({linear({0, 1, 2, 3}), depthwise({10, 4, 5})}, 2, attributes).size() == 2);
  MM_CHECK(fused({linear({0, 1, 2, 3, 6}), depthwise({10, 4, 5})}, 1, attributes).size() == 2);
  MM_CHECK(fused({linear({0, 1, 2, 3}), depthwise({9, 4, 10})}, 1, attributes).size() == 2);
  MM_CHECK(fused({depthwise({10, 4, 5}), linear({0, 1, 2, 3})}, 1, attributes).size() == 2);
  MM_CHECK(fused({linear({0, 1, 2, 3, -1}), depthwise({10, 4, 5})}, 1, attributes).size() == 1);
}

// No file may name it: what a file says is checked operation by operation.
void test_no_file_can_name_it() {
  MM_CHECK(mm::ops::find_op("linear_depthwise") == nullptr);
  MM_CHECK(mm::ops::find_op("linear_depthwise_codes") == nullptr);
}

}  // namespace

int main() {
  const mm::kernels::TableList tables = mm::kernels::all_tables();
  for (int t = 0; t < tables.count; ++t)
    if (tables.tables[t]->is_supported()) {
      test_both_ways_give_the_same_bits(*tables.tables[t]);
      test_codes_both_ways(*tables.tables[t]);
    }
  test_what_may_be_fused();
  test_no_file_can_name_it();
  return mm::test::finish("fusion");
}
