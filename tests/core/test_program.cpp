// Checks that programs are refused when wrong, share memory rightly, and give the same bits on any number of threads.
#include <cmath>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "gguf_writer.h"
#include "program/interpreter.h"
#include "quant/layout.h"

using namespace mm;
using program::Interpreter;
using program::Program;
using tensor::DType;
using tensor::Shape;

namespace {

const std::vector<std::string> op_names = {"add",         "linear",           "rms_norm", "attention_cached",
                                           "state_write", "attention_memory", "reshape",  "silu_mul",
                                           "no_such_op"};
enum : uint32_t {
  op_add,
  op_linear,
  op_rms_norm,
  op_attention_cached,
  op_state_write,
  op_attention_memory,
  op_reshape,
  op_silu_mul,
  op_unknown
};

struct ProgramText {
  std::vector<std::string> inputs, input_types, tensors, outputs;
  std::vector<uint32_t> output_slots, code;
  uint32_t slots = 0;
};

void add_program(test::GgufWriter& writer, const std::string& name, const ProgramText& text) {
  const std::string prefix = "mm.program." + name + ".";
  writer.strings(prefix + "inputs", text.inputs);
  writer.strings(prefix + "input_types", text.input_types);
  writer.strings(prefix + "tensors", text.tensors);
  writer.strings(prefix + "outputs", text.outputs);
  writer.array<uint32_t>(prefix + "output_slots", 4, text.output_slots);
  writer.array<uint32_t>(prefix + "code", 4, text.code);
  writer.u32(prefix + "slots", text.slots);
}

std::shared_ptr<const tensor::ModelFile> file_of(test::GgufWriter& writer) {
  writer.u32("general.alignment", 64);
  writer.strings("mm.op_names", op_names);
  const std::string bytes = writer.file();
  auto file = tensor::ModelFile::from_bytes(bytes.data(), bytes.size());
  if (!MM_CHECK(file.is_ok())) {
    std::fprintf(stderr, "%s\n", file.status().message().c_str());
    std::exit(1);
  }
  return file.value();
}

// y = (a + b) + a, then wrong in one way at a time.
ProgramText right_program() {
  ProgramText text;
  text.inputs = {"a", "b"};
  text.input_types = {"f32", "f32"};
  text.outputs = {"y"};
  text.slots = 4;
  text.output_slots = {3};
  text.code = {op_add, 2, 1, 0, 0, 1, 2, op_add, 2, 1, 0, 2, 0, 3};
  return text;
}

base::StatusCode load_code(const ProgramText& text) {
  test::GgufWriter writer;
  add_program(writer, "p", text);
  return Program::load(file_of(writer), "p").status().code();
}

void test_wrong_programs_are_refused() {
  MM_CHECK(load_code(right_program()) == base::StatusCode::ok);
  const auto refused = [](auto change) {
    ProgramText text = right_program();
    change(text);
    return load_code(text) == base::StatusCode::model_format;
  };
  MM_CHECK(refused([](ProgramText& t) { t.code[0] = op_unknown; }));
  MM_CHECK(refused([](ProgramText& t) { t.code[0] = 0xFFFFFFFFu; }));
  MM_CHECK(refused([](ProgramText& t) { t.code[1] = 3; }));  // one input too many
  MM_CHECK(refused([](ProgramText& t) { t.code[1] = 0xFFFFFFFFu; }));
  MM_CHECK(refused([](ProgramText& t) { t.code[2] = 0; }));            // no output
  MM_CHECK(refused([](ProgramText& t) { t.code[3] = 1; }));            // an attribute that add does not have
  MM_CHECK(refused([](ProgramText& t) { t.code[4] = 3; }));            // reads what is written later
  MM_CHECK(refused([](ProgramText& t) { t.code[4] = 4; }));            // beyond the slots
  MM_CHECK(refused([](ProgramText& t) { t.code[4] = ops::absent; }));  // a required input
  MM_CHECK(refused([](ProgramText& t) { t.code[6] = 1; }));            // writes an input
  MM_CHECK(refused([](ProgramText& t) {
    t.code[6] = 3;
    t.code[11] = 3;
  }));  // writes twice
  MM_CHECK(refused([](ProgramText& t) { t.slots = 0; }));
  MM_CHECK(refused([](ProgramText& t) { t.slots = 1; }));  // fewer than the inputs
  MM_CHECK(refused([](ProgramText& t) { t.slots = 1u << 30; }));
  MM_CHECK(refused([](ProgramText& t) { t.output_slots = {9}; }));
  MM_CHECK(refused([](ProgramText& t) { t.output_slots = {}; }));
  MM_CHECK(refused([](ProgramText& t) { t.input_types = {"f32", "f64"}; }));
  MM_CHECK(refused([](ProgramText& t) { t.input_types = {"f32"}; }));
  MM_CHECK(refused([](ProgramText& t) { t.tensors = {"absent"}; }));
  for (size_t cut = 1; cut < right_program().code.size(); ++cut)
    if (cut != 7)
      MM_CHECK(refused([&](ProgramText& t) { t.code.resize(cut); }));  // 7 words are one whole instruction...
  MM_CHECK(refused([](ProgramText& t) { t.code.resize(7); }));         // ... but then nothing writes the output
}

constexpr size_t state_bytes = 4096;

struct Machine {
  Machine(std::shared_ptr<const tensor::ModelFile> file, const std::vector<std::string>& names, int threads)
      : pool(base::ThreadPool::create(threads)) {
    for (const std::string& name : names) {
      auto loaded = Program::load(file, name);
      MM_CHECK(loaded.is_ok());
      programs.push_back(loaded.value());
    }
    auto states = program::load_states(*file);
    MM_CHECK(states.is_ok());
    interpreter = std::make_unique<Interpreter>(programs, ops::StateStore(states.value(), 8, 3, state_bytes), *pool,
                                                kernels::best_table());
  }
  std::unique_ptr<base::ThreadPool> pool;
  std::vector<std::shared_ptr<const Program>> programs;
  std::unique_ptr<Interpreter> interpreter;
};

program::NamedTensor input(const char* name, std::vector<float>& values, Shape shape) {
  return {name, {values.data(), DType::f32, shape}};
}
program::NamedTensor input(const char* name, std::vector<int32_t>& values) {
  return {name, {values.data(), DType::i32, Shape::of(values.size())}};
}

// Random straight-line programs of adds against the same sums in plain code: an arena that shares too much shows at
// once.
void test_arena_never_shares_living_memory() {
  std::mt19937 random(5);
  const auto below = [&](uint32_t limit) { return static_cast<uint32_t>(random() % limit); };
  for (int round = 0; round < 100; ++round) {
    const uint32_t steps = 3 + below(30);
    ProgramText text = right_program();
    text.code.clear();
    text.slots = 2 + steps;
    std::vector<std::pair<uint32_t, uint32_t>> operands;
    for (uint32_t step = 0; step < steps; ++step) {
      const uint32_t a = below(2 + step), b = below(2 + step);
      operands.emplace_back(a, b);
      text.code.insert(text.code.end(), {op_add, 2, 1, 0, a, b, 2 + step});
    }
    text.output_slots = {1 + steps, 2 + below(steps)};
    text.outputs = {"y", "z"};
    test::GgufWriter writer;
    add_program(writer, "p", text);
    Machine machine(file_of(writer), {"p"}, 1);
    std::vector<float> a = {1, 2, 3}, b = {0.5f, -1, 4};
    for (int size = 3; size <= 40; size += 37) {  // a second shape: its own plan
      a.resize(static_cast<size_t>(size), 0.25f);
      b.resize(static_cast<size_t>(size), -0.125f);
      std::vector<std::vector<float>> slots = {a, b};
      for (const auto& [left, right] : operands) {
        std::vector<float> sum(a.size());
        for (size_t i = 0; i < sum.size(); ++i) sum[i] = slots[left][i] + slots[right][i];
        slots.push_back(sum);
      }
      auto outputs = machine.interpreter->run("p", {input("a", a, Shape::of(size)), input("b", b, Shape::of(size))});
      MM_CHECK(outputs.is_ok());
      for (size_t o = 0; o < 2; ++o)
        MM_CHECK(std::memcmp(outputs.value()[o].view.data, slots[text.output_slots[o]].data(),
                             a.size() * sizeof(float)) == 0);
    }
  }
}

void test_wrong_inputs_are_refused() {
  test::GgufWriter writer;
  add_program(writer, "p", right_program());
  Machine machine(file_of(writer), {"p"}, 1);
  std::vector<float> a(6, 1), b(6, 2);
  std::vector<int32_t> integers(6, 1);
  const auto code = [&](std::vector<program::NamedTensor> inputs) {
    return machine.interpreter->run("p", inputs).status().code();
  };
  MM_CHECK(code({input("a", a, Shape::of(2, 3)), input("b", b, Shape::of(3))}) == base::StatusCode::ok);  // b repeats
  MM_CHECK(code({input("a", a, Shape::of(2, 3)), input("b", b, Shape::of(2))}) == base::StatusCode::invalid_input);
  MM_CHECK(code({input("a", a, Shape::of(6))}) == base::StatusCode::invalid_input);
  MM_CHECK(code({input("a", a, Shape::of(6)), input("a", a, Shape::of(6))}) == base::StatusCode::invalid_input);
  MM_CHECK(code({input("a", a, Shape::of(6)), input("b", integers)}) == base::StatusCode::invalid_input);
  MM_CHECK(code({input("a", a, Shape::of(6)), input("b", b, Shape::of(0))}) == base::StatusCode::invalid_input);
  MM_CHECK(machine.interpreter->run("q", {}).status().code() == base::StatusCode::not_found);
  machine.interpreter->set_limits(std::chrono::steady_clock::now() - std::chrono::seconds(1), nullptr);
  MM_CHECK(code({input("a", a, Shape::of(6)), input("b", b, Shape::of(6))}) == base::StatusCode::deadline_exceeded);
  std::atomic<bool> is_cancelled{true};
  machine.interpreter->set_limits(std::chrono::steady_clock::time_point::max(), &is_cancelled);
  MM_CHECK(code({input("a", a, Shape::of(6)), input("b", b, Shape::of(6))}) == base::StatusCode::cancelled);
  is_cancelled = false;
  MM_CHECK(code({input("a", a, Shape::of(6)), input("b", b, Shape::of(6))}) == base::StatusCode::ok);
}

struct LowBitWeight {
  std::string packed;
  std::vector<float> scale;
};

LowBitWeight random_weight(std::mt19937& random, int bits, int n, int k) {
  LowBitWeight weight;
  weight.packed.assign(quant::packed_bytes(bits, n, k), '\0');
  for (char& byte : weight.packed) byte = static_cast<char>(random());
  weight.scale.resize(static_cast<size_t>(n));
  for (float& scale : weight.scale) scale = 0.001f + static_cast<float>(random() % 1000) * 1e-5f;
  return weight;
}

// One linear layer with bias, activation and residual: every number of threads and both ways to split give the same
// bits, near the float result. The bound is the rounding of the activations: half a step of max|x| / 127 for each of k
// columns.
void test_linear_is_the_same_on_any_threads() {
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  for (int bits : {2, 4, 8}) {
    for (const auto& [m, n, k] : {std::tuple{1, 40, 48}, {3, 512, 512}, {49, 70, 24}, {700, 17, 40}}) {
      const int zero2 = bits == 2 ? 3 : bits == 4 ? 15 : 256;
      const LowBitWeight weight = random_weight(random, bits, n, k);
      std::vector<float> bias(static_cast<size_t>(n)), x(static_cast<size_t>(m * k)),
          residual(static_cast<size_t>(m * n));
      for (auto* values : {&bias, &x, &residual})
        for (float& value : *values) value = normal(random);
      ProgramText text;
      text.inputs = {"x", "residual"};
      text.input_types = {"f32", "f32"};
      text.tensors = {"w", "s", "b"};
      text.outputs = {"y"};
      text.slots = 6;
      text.output_slots = {5};
      text.code = {op_linear,
                   5,
                   1,
                   5,
                   0,
                   2,
                   3,
                   4,
                   1,
                   5,
                   static_cast<uint32_t>(bits),
                   static_cast<uint32_t>(n),
                   static_cast<uint32_t>(k),
                   static_cast<uint32_t>(zero2),
                   1};
      test::GgufWriter writer;
      const uint64_t k_tiles = static_cast<uint64_t>(quant::round_up(k, 16) / quant::tile_columns(bits));
      writer.tensors.push_back(
          {"w", {64, k_tiles, static_cast<uint64_t>(quant::round_up(n, 16) / 16)}, 24, weight.packed});
      writer.tensors.push_back({"s", {static_cast<uint64_t>(n)}, 0, test::raw_bytes(weight.scale)});
      writer.tensors.push_back({"b", {static_cast<uint64_t>(n)}, 0, test::raw_bytes(bias)});
      add_program(writer, "p", text);
      const auto file = file_of(writer);
      std::vector<float> first;
      for (int threads : {1, 2, 3, 5}) {
        Machine machine(file, {"p"}, threads);
        auto outputs = machine.interpreter->run(
            "p", {input("x", x, Shape::of(m, k)), input("residual", residual, Shape::of(m, n))});
        if (!MM_CHECK(outputs.is_ok())) continue;
        const float* y = outputs.value()[0].view.as<const float>();
        MM_CHECK(outputs.value()[0].view.shape == Shape::of(m, n));
        if (first.empty()) first.assign(y, y + m * n);
        MM_CHECK(std::memcmp(first.data(), y, first.size() * sizeof(float)) == 0);
      }
      for (int r = 0; r < m; ++r) {
        float largest = 0;
        for (int c = 0; c < k; ++c) largest = std::max(largest, std::fabs(x[static_cast<size_t>(r * k + c)]));
        for (int o = 0; o < n; ++o) {
          double sum = 0, magnitude = 0;
          for (int c = 0; c < k; ++c) {
            const double w = static_cast<double>(weight.scale[static_cast<size_t>(o)]) *
                             (quant::code_at(reinterpret_cast<const uint8_t*>(weight.packed.data()), bits,
                                             quant::round_up(k, 16), o, c) -
                              zero2 / 2.0);
            sum += w * static_cast<double>(x[static_cast<size_t>(r * k + c)]);
            magnitude += std::fabs(w);
          }
          const double expected = std::max(0.0, sum + static_cast<double>(bias[static_cast<size_t>(o)])) +
                                  static_cast<double>(residual[static_cast<size_t>(r * n + o)]);
          const double bound = magnitude * static_cast<double>(largest) / 127 * 0.5 + 1e-4;
          MM_CHECK(std::fabs(static_cast<double>(first[static_cast<size_t>(r * n + o)]) - expected) <= bound);
        }
      }
    }
  }
}

// Two beams that part, swap and share a past, against attention over each beam's own rows in plain code.
void test_beams_share_their_past() {
  constexpr int heads = 4, kv_heads = 2, head_dim = 8, positions = 6;
  constexpr int q_width = heads * head_dim, kv_width = kv_heads * head_dim, width = q_width + 2 * kv_width;
  test::GgufWriter writer;
  ProgramText text;
  text.inputs = {"qkv", "positions", "sequences"};
  text.input_types = {"f32", "i32", "i32"};
  text.outputs = {"y"};
  text.slots = 4;
  text.output_slots = {3};
  text.code = {op_attention_cached, 3, 1, 5, 0, 1, 2, 3, 0, 1, heads, kv_heads, head_dim};
  add_program(writer, "decode", text);
  writer.strings("mm.states", {"k", "v"});
  writer.strings("mm.state.kinds", {"cache", "cache"});
  writer.array<uint32_t>("mm.state.widths", 4, {kv_width, kv_width});
  writer.array<uint32_t>("mm.state.rows", 4, {positions, positions});
  const auto file = file_of(writer);
  Machine machine(file, {"decode"}, 2);
  std::mt19937 random(21);
  std::normal_distribution<float> normal;
  using Past = std::vector<std::vector<float>>;
  std::vector<Past> pasts(1);
  for (int position = 0; position < positions; ++position) {
    const int beams = static_cast<int>(pasts.size());
    std::vector<float> qkv(static_cast<size_t>(beams * width));
    for (float& value : qkv) value = normal(random);
    std::vector<int32_t> at(static_cast<size_t>(beams), position), sequences;
    for (int b = 0; b < beams; ++b) {
      sequences.push_back(b);
      pasts[static_cast<size_t>(b)].emplace_back(qkv.begin() + b * width + q_width, qkv.begin() + (b + 1) * width);
    }
    auto outputs = machine.interpreter->run(
        "decode", {input("qkv", qkv, Shape::of(beams, width)), input("positions", at), input("sequences", sequences)});
    if (!MM_CHECK(outputs.is_ok())) return;
    for (int b = 0; b < beams; ++b) {
      for (int h = 0; h < heads; ++h) {
        const int kv = h / (heads / kv_heads) * head_dim;
        std::vector<double> weights;
        double total = 0;
        for (const auto& row : pasts[static_cast<size_t>(b)]) {
          double dot = 0;
          for (int i = 0; i < head_dim; ++i)
            dot += static_cast<double>(qkv[static_cast<size_t>(b * width + h * head_dim + i)] *
                                       row[static_cast<size_t>(kv + i)]);
          weights.push_back(std::exp(dot / std::sqrt(static_cast<double>(head_dim))));
          total += weights.back();
        }
        for (int i = 0; i < head_dim; ++i) {
          double expected = 0;
          for (size_t p = 0; p < weights.size(); ++p)
            expected += weights[p] / total *
                        static_cast<double>(pasts[static_cast<size_t>(b)][p][static_cast<size_t>(kv_width + kv + i)]);
          const double got = static_cast<double>(outputs.value()[0].view.as<float>()[b * q_width + h * head_dim + i]);
          MM_CHECK(std::fabs(got - expected) < 1e-4);
        }
      }
    }
    const std::vector<int32_t> parents = position == 0   ? std::vector<int32_t>{0, 0, 0}
                                         : position == 1 ? std::vector<int32_t>{2, 0, 1}
                                                         : std::vector<int32_t>{1, 1, 2};
    MM_CHECK(machine.interpreter->states().reorder(parents.data(), 3).is_ok());
    std::vector<Past> next;
    for (int32_t parent : parents) next.push_back(pasts[static_cast<size_t>(parent)]);
    pasts = next;
  }
  // The cache is full; a position out of turn, a sequence too many and a parent that is none are refused.
  std::vector<float> qkv(width, 0.5f);
  std::vector<int32_t> at = {positions}, sequence = {0};
  const auto code = [&] {
    return machine.interpreter
        ->run("decode", {input("qkv", qkv, Shape::of(1, width)), input("positions", at), input("sequences", sequence)})
        .status()
        .code();
  };
  MM_CHECK(code() == base::StatusCode::invalid_input);
  machine.interpreter->states().reset();
  MM_CHECK(code() == base::StatusCode::invalid_input);
  at = {0};
  for (int32_t wrong : {-1, 8}) {
    sequence = {wrong};
    MM_CHECK(code() == base::StatusCode::invalid_input);
  }
  const int32_t wrong_parent = 8;
  MM_CHECK(machine.interpreter->states().reorder(&wrong_parent, 1).code() == base::StatusCode::invalid_input);
}

// The memory of test_memory_is_written_before_it_is_read, whose place 0 holds a mean of 2 in its first value column.
void test_memory_places(Machine& machine) {
  std::vector<float> q(8, 0.0f), memory(24, 1.0f);
  const auto write = [&](int place, float value, int rows) {
    for (int row = 0; row < rows; ++row) memory[static_cast<size_t>(8 * row + 4)] = value;
    return machine.interpreter->run("write", {input("x", memory, Shape::of(rows, 8))}, {place, {}}).status();
  };
  const auto read = [&](std::vector<int> places) {
    return machine.interpreter->run("read", {input("q", q, Shape::of(2, 4))}, {0, std::move(places)});
  };
  const auto refused = [&](std::vector<int> places) {
    return read(std::move(places)).status().code() == base::StatusCode::invalid_input;
  };
  MM_CHECK(refused({0, 2}));  // not written yet
  MM_CHECK(write(2, 5, 3).is_ok());
  for (const auto& [places, first, second] :
       {std::tuple{std::vector<int>{0, 2}, 2.0f, 5.0f}, {{2, 0}, 5.0f, 2.0f}, {{2, 2}, 5.0f, 5.0f}, {{}, 2.0f, 2.0f}}) {
    const auto outputs = read(places);
    if (!MM_CHECK(outputs.is_ok())) continue;
    MM_CHECK(std::fabs(outputs.value()[0].view.as<float>()[0] - first) < 1e-6f);
    MM_CHECK(std::fabs(outputs.value()[0].view.as<float>()[4] - second) < 1e-6f);
  }
  MM_CHECK(refused({0}));  // two rows
  MM_CHECK(refused({0, 1}));
  MM_CHECK(refused({0, 3}));
  MM_CHECK(refused({-1, 0}));
  MM_CHECK(write(3, 1, 1).code() == base::StatusCode::invalid_input);
  MM_CHECK(write(-1, 1, 1).code() == base::StatusCode::invalid_input);
  machine.interpreter->states().reset();
  MM_CHECK(refused({2, 2}));
}

// Two searches of two sequences each: the reorder of one leaves the other alone, and states stay within their bytes.
void test_sequences_are_reordered_apart() {
  const ops::StateInfo cache = {"k", ops::StateKind::cache, 1, 8};
  const auto value_of = [](int sequence, int position) { return static_cast<float>(10 * sequence + position); };
  ops::StateStore states({cache}, 4, 1, 4 * 8 * sizeof(float));
  const auto append = [&](int position) {
    for (int sequence = 0; sequence < 4; ++sequence) {
      const float value = value_of(sequence, position);
      MM_CHECK(states.append(0, sequence, position, &value).is_ok());
    }
  };
  append(0);
  const std::vector<int32_t> swap = {1, 0}, both_second = {1, 1};
  MM_CHECK(states.reorder(swap.data(), 2, 2).is_ok());
  append(1);
  MM_CHECK(states.reorder(both_second.data(), 2, 0).is_ok());
  const float expected[4][2] = {{10, 11}, {10, 11}, {30, 21}, {20, 31}};
  for (int sequence = 0; sequence < 4; ++sequence)
    for (int position = 0; position < 2; ++position)
      MM_CHECK(*states.cache_row(0, sequence, position) == expected[sequence][position]);
  for (const int first : {-1, 3, 4, 1 << 30})
    MM_CHECK(states.reorder(swap.data(), 2, first).code() == base::StatusCode::invalid_input);
  MM_CHECK(states.reorder(std::vector<int32_t>{2, 0}.data(), 2, 2).code() == base::StatusCode::invalid_input);
  MM_CHECK(states.bytes() == 4 * 8 * sizeof(float));

  ops::StateStore tight({cache}, 4, 1, 3 * 8 * sizeof(float));  // room for three sequences
  const float value = 1;
  for (int sequence = 0; sequence < 3; ++sequence) MM_CHECK(tight.append(0, sequence, 0, &value).is_ok());
  MM_CHECK(tight.append(0, 3, 0, &value).code() == base::StatusCode::out_of_memory);
  MM_CHECK(tight.append(0, 0, 1, &value).is_ok());
}

void test_memory_is_written_before_it_is_read() {
  test::GgufWriter writer;
  ProgramText write, read;
  write.inputs = {"x"};
  write.input_types = {"f32"};
  write.slots = 1;
  write.code = {op_state_write, 1, 0, 1, 0, 0};
  read.inputs = {"q"};
  read.input_types = {"f32"};
  read.outputs = {"y"};
  read.slots = 2;
  read.output_slots = {1};
  read.code = {op_attention_memory, 1, 1, 4, 0, 1, 0, 1, 1, 4};
  add_program(writer, "write", write);
  add_program(writer, "read", read);
  writer.strings("mm.states", {"m"});
  writer.strings("mm.state.kinds", {"memory"});
  writer.array<uint32_t>("mm.state.widths", 4, {8});
  writer.array<uint32_t>("mm.state.rows", 4, {3});
  Machine machine(file_of(writer), {"write", "read"}, 1);
  std::vector<float> q(4, 0.0f), memory(16, 1.0f), long_memory(32, 1.0f);
  MM_CHECK(machine.interpreter->run("read", {input("q", q, Shape::of(1, 4))}).status().code() ==
           base::StatusCode::invalid_input);
  MM_CHECK(machine.interpreter->run("write", {input("x", long_memory, Shape::of(4, 8))}).status().code() ==
           base::StatusCode::invalid_input);
  memory[12] = 3.0f;  // first value column of row 1; a zero query weighs both rows alike
  MM_CHECK(machine.interpreter->run("write", {input("x", memory, Shape::of(2, 8))}).is_ok());
  auto outputs = machine.interpreter->run("read", {input("q", q, Shape::of(1, 4))});
  MM_CHECK(outputs.is_ok());
  MM_CHECK(std::fabs(outputs.value()[0].view.as<float>()[0] - 2.0f) < 1e-6f);
  MM_CHECK(std::fabs(outputs.value()[0].view.as<float>()[1] - 1.0f) < 1e-6f);
  test_memory_places(machine);
}

}  // namespace

int main() {
  test_wrong_programs_are_refused();
  test_arena_never_shares_living_memory();
  test_wrong_inputs_are_refused();
  test_linear_is_the_same_on_any_threads();
  test_beams_share_their_past();
  test_memory_is_written_before_it_is_read();
  test_sequences_are_reordered_apart();
  return mm::test::finish("program");
}
