// Times one program of a model file and shows where the time goes:
// `bench_program MODEL PROGRAM [THREADS [REPEATS [HEIGHT WIDTH]]]`, the last two for programs of any picture size;
// programs that take tokens read them as ROWS PAST: rows of one sequence after so many positions of it (without them,
// three beams at position 0). Prints one JSON line: median and fastest run in milliseconds, the fastest in time of the
// CPU (all threads), and shares of the sum of each instruction's fastest run: by operation, and by part (output head:
// the last linear layer of a program with logits; linear: all other low-bit ones; convolutions: float; small
// operations: the rest). Barriers are estimated: how many jobs went to several threads, times what an empty job takes,
// which the parts include. With MM_BENCH_INSTRUCTIONS set, also each instruction's fastest run.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "program/interpreter.h"

using namespace mm;

namespace {

struct Sample {
  std::vector<uint8_t> bytes;
  tensor::TensorView view;
};

// A picture of noise, features of noise, or three beams at position 0: what the programs of a captioning model take.
Sample sample_input(const program::ProgramInput& input, int height, int width, int rows) {
  Sample sample;
  sample.view.dtype = input.dtype;
  sample.view.shape = input.name == "pixels"     ? tensor::Shape::of(height, width, 3)
                      : input.name == "features" ? tensor::Shape::of(49, 1280)
                                                 : tensor::Shape::of(rows > 0 ? rows : 3);
  std::mt19937 random(1);
  sample.bytes.resize(sample.view.bytes());
  if (input.dtype == tensor::DType::u8)
    for (uint8_t& byte : sample.bytes) byte = static_cast<uint8_t>(random());
  if (input.dtype == tensor::DType::f32)
    for (size_t i = 0; i < sample.bytes.size() / 4; ++i)
      reinterpret_cast<float*>(sample.bytes.data())[i] = static_cast<float>(random() % 600) * 0.01f;
  if (input.name == "sequences" && rows == 0)
    for (int i = 0; i < 3; ++i) reinterpret_cast<int32_t*>(sample.bytes.data())[i] = i;
  sample.view.data = sample.bytes.data();
  return sample;
}

// Rows of one sequence: its positions from `first` on, and tokens that differ.
void set_rows(const std::vector<program::ProgramInput>& names, std::vector<Sample>& samples, int first) {
  for (size_t i = 0; i < names.size(); ++i) {
    int32_t* values = reinterpret_cast<int32_t*>(samples[i].bytes.data());
    for (size_t row = 0; row < samples[i].bytes.size() / sizeof *values; ++row) {
      if (names[i].name == "positions") values[row] = first + static_cast<int32_t>(row);
      if (names[i].name == "tokens") values[row] = static_cast<int32_t>((row * 37 + static_cast<size_t>(first)) % 256);
    }
  }
}

// Counts the jobs that meet at a barrier.
class CountingPool final : public base::ThreadPool {
 public:
  explicit CountingPool(std::unique_ptr<base::ThreadPool> pool) : pool_(std::move(pool)) {}
  int threads() const override { return pool_->threads(); }
  void run(size_t count, size_t grain, Body body, void* context) override {
    jobs += threads() > 1 && count > grain ? 1 : 0;
    pool_->run(count, grain, body, context);
  }
  int64_t jobs = 0;

 private:
  std::unique_ptr<base::ThreadPool> pool_;
};

// Seconds of a job without work: the median, because the fastest are those where the caller does all pieces.
double barrier_seconds(base::ThreadPool& pool) {
  if (pool.threads() == 1) return 0;
  std::vector<double> seconds(2001);
  for (double& one : seconds) {
    const auto start = std::chrono::steady_clock::now();
    pool.parallel_for(static_cast<size_t>(pool.threads()), 1, [](size_t, size_t, int) {});
    one = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

bool starts_with(const std::string& text, const char* start) { return text.rfind(start, 0) == 0; }

// The part of each instruction.
std::vector<std::string> parts_of(const program::Program& program) {
  std::vector<std::string> parts;
  int head = -1;
  bool has_logits = false;
  for (const program::ProgramOutput& output : program.outputs()) has_logits |= output.name == "logits";
  for (const program::Instruction& instruction : program.instructions()) {
    const std::string name = instruction.op->name;
    if (name == "linear") head = static_cast<int>(parts.size());
    const bool is_linear = name == "conv2d_packed" || (starts_with(name, "linear") && name != "linear_f32");
    parts.push_back(is_linear ? "linear" : starts_with(name, "conv2d") ? "convolutions" : "small_operations");
  }
  if (has_logits && head >= 0) parts[static_cast<size_t>(head)] = "output_head";
  return parts;
}

int fail(const base::Status& status) {
  std::fprintf(stderr, "%s\n", status.message().c_str());
  return 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    std::fprintf(stderr, "usage: bench_program MODEL PROGRAM [THREADS [REPEATS [HEIGHT WIDTH]]]\n");
    return 2;
  }
  auto file = tensor::ModelFile::open(arguments[1]);
  if (!file.is_ok()) return fail(file.status());
  auto states = program::load_states(*file.value());
  if (!states.is_ok()) return fail(states.status());
  const std::string wanted = arguments[2];
  const auto names = file.value()->strings("mm.programs");
  if (!names.is_ok()) return fail(names.status());
  std::vector<std::shared_ptr<const program::Program>> programs;
  const program::Program* chosen = nullptr;
  for (std::string_view name : names.value()) {
    auto loaded = program::Program::load(file.value(), name);
    if (!loaded.is_ok()) return fail(loaded.status());
    programs.push_back(loaded.value());
    if (name == wanted) chosen = programs.back().get();
  }
  if (chosen == nullptr) {
    std::fprintf(stderr, "no program `%s` in %s\n", arguments[2], arguments[1]);
    return 1;
  }
  CountingPool pool(base::ThreadPool::create(count > 3 ? std::atoi(arguments[3]) : 1));
  const int repeats = count > 4 ? std::max(1, std::atoi(arguments[4])) : 50;
  program::Interpreter interpreter(programs, ops::StateStore(states.value(), 16, 1, size_t{1} << 30), pool,
                                   kernels::best_table());
  const auto stored = file.value()->integer("mm.image.size");
  const int side = stored.is_ok() ? static_cast<int>(stored.value()) : 224;
  const int height = count > 6 ? std::atoi(arguments[5]) : side, width = count > 6 ? std::atoi(arguments[6]) : side;
  std::vector<Sample> samples;
  std::vector<program::NamedTensor> inputs;
  bool takes_tokens = false;
  for (const program::ProgramInput& input : chosen->inputs()) takes_tokens |= input.name == "tokens";
  const int rows = takes_tokens && count > 5 ? std::max(1, std::atoi(arguments[5])) : 0;
  const int past = takes_tokens && count > 6 ? std::max(0, std::atoi(arguments[6])) : 0;
  for (const program::ProgramInput& input : chosen->inputs())
    samples.push_back(sample_input(input, height, width, rows));
  for (size_t i = 0; i < samples.size(); ++i)
    inputs.push_back(
        {chosen->inputs()[i].name, {samples[i].bytes.data(), samples[i].view.dtype, samples[i].view.shape}});
  if (wanted == "decode") {  // its cross-attention reads what prefill wrote
    Sample features = sample_input({"features", tensor::DType::f32}, 0, 0, 0);
    const auto status =
        interpreter.run("prefill", {{"features", {features.bytes.data(), tensor::DType::f32, features.view.shape}}})
            .status();
    if (!status.is_ok()) return fail(status);
  }
  int64_t jobs = 0;
  // The fastest run of each instruction: what disturbs one only makes it slower.
  std::vector<double> milliseconds, seconds, fastest_seconds;
  double fastest_cpu_ms = 1e300;
  for (int repeat = -5; repeat < repeats; ++repeat) {  // five to warm up
    interpreter.states().reset_sequences();
    for (int position = 0; rows > 0 && position < past; position += rows) {  // what went before, in runs of that shape
      set_rows(chosen->inputs(), samples, position);
      const auto status = interpreter.run(wanted, inputs).status();
      if (!status.is_ok()) return fail(status);
    }
    if (rows > 0) set_rows(chosen->inputs(), samples, (past + rows - 1) / rows * rows);
    pool.jobs = 0;
    if (repeat == 0) interpreter.set_profile(&seconds);
    std::fill(seconds.begin(), seconds.end(), 0.0);
    const std::clock_t cpu_start = std::clock();
    const auto start = std::chrono::steady_clock::now();
    const auto status = interpreter.run(wanted, inputs).status();
    if (!status.is_ok()) return fail(status);
    jobs = pool.jobs;
    if (repeat < 0) continue;
    milliseconds.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    fastest_cpu_ms =
        std::min(fastest_cpu_ms, 1e3 * static_cast<double>(std::clock() - cpu_start) / double{CLOCKS_PER_SEC});
    if (repeat == 0) fastest_seconds = seconds;
    for (size_t i = 0; i < seconds.size(); ++i) fastest_seconds[i] = std::min(fastest_seconds[i], seconds[i]);
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  std::map<std::string, double> shares, part_shares;
  const std::vector<std::string> parts = parts_of(*chosen);
  double total = 0;
  for (size_t i = 0; i < fastest_seconds.size(); ++i) {
    shares[chosen->instructions()[i].op->name] += fastest_seconds[i];
    part_shares[parts[i]] += fastest_seconds[i];
    total += fastest_seconds[i];
    if (std::getenv("MM_BENCH_INSTRUCTIONS") != nullptr)
      std::fprintf(stderr, "%3zu %-20s %.4f ms\n", i, chosen->instructions()[i].op->name, fastest_seconds[i] * 1e3);
  }
  std::printf(
      "{\"program\": \"%s\", \"isa\": \"%s\", \"threads\": %d, \"median_ms\": %.4f, \"fastest_ms\": %.4f, "
      "\"fastest_cpu_ms\": %.4f, \"shares\": {",
      arguments[2], kernels::best_table().name, pool.threads(), milliseconds[milliseconds.size() / 2], milliseconds[0],
      fastest_cpu_ms);
  const auto print_shares = [total](const std::map<std::string, double>& all) {
    const char* comma = "";
    for (const auto& [name, spent] : all) {
      std::printf("%s\"%s\": %.4f", comma, name.c_str(), spent / total);
      comma = ", ";
    }
  };
  print_shares(shares);
  std::printf("}, \"parts\": {");
  print_shares(part_shares);
  const double barrier = barrier_seconds(pool);
  std::printf("}, \"barriers\": {\"jobs\": %lld, \"microseconds_each\": %.2f, \"share\": %.4f}}\n",
              static_cast<long long>(jobs), barrier * 1e6, static_cast<double>(jobs) * barrier / total);
  return 0;
}
