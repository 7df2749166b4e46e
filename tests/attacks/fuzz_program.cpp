// Runs changed programs on odd inputs: each is refused when loaded, refused when planned, or done; sanitizers watch the
// rest. Usage: fuzz_program [runs [seed]]
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "check.h"
#include "gguf_writer.h"
#include "mutation.h"
#include "ops/op.h"
#include "tasks/session.h"

namespace {

using mm::attacks::Random;
using mm::base::StatusCode;
using mm::tensor::DType;
using mm::tensor::Shape;

struct ProgramText {
  std::string name;
  std::vector<std::string> inputs, input_types, tensors, outputs;
  std::vector<uint32_t> output_slots, code;
  uint32_t slots = 0;
};

struct StateText {
  std::string name, kind;
  uint32_t width, rows;
};

struct Model {
  std::vector<std::string> op_names;
  std::vector<ProgramText> programs;
  std::vector<StateText> states;
  std::vector<mm::test::GgufTensor> tensors;

  uint32_t op(const std::string& name) {
    for (size_t i = 0; i < op_names.size(); ++i) {
      if (op_names[i] == name) return static_cast<uint32_t>(i);
    }
    op_names.push_back(name);
    return static_cast<uint32_t>(op_names.size() - 1);
  }
  // dims as in the file: innermost first.
  void floats(const std::string& name, std::vector<uint64_t> dims) {
    uint64_t n = 1;
    for (const uint64_t dim : dims) n *= dim;
    tensors.push_back({name, dims, 0, mm::test::raw_bytes(std::vector<float>(n, 0.125f))});
  }
  void packed(const std::string& name, uint64_t bits, uint64_t n, uint64_t k) {
    const uint64_t bytes = (n + 15) / 16 * 16 * ((k + 15) / 16 * 16) * bits / 8;
    tensors.push_back({name + ".w" + std::to_string(bits), {bytes}, 24, std::string(bytes, '\x1B')});
    floats(name + ".scale", {n});
  }
  std::string file() const {
    mm::test::GgufWriter writer;
    writer.string("general.architecture", "mobile-mm");
    writer.u32("general.alignment", 64);
    writer.u32("mm.format_version", 1);
    writer.strings("mm.op_names", op_names);
    std::vector<std::string> names, state_names, kinds;
    std::vector<uint32_t> widths, rows;
    for (const ProgramText& program : programs) names.push_back(program.name);
    writer.strings("mm.programs", names);
    for (const ProgramText& program : programs) {
      const std::string prefix = "mm.program." + program.name + ".";
      writer.strings(prefix + "inputs", program.inputs);
      writer.strings(prefix + "input_types", program.input_types);
      writer.strings(prefix + "tensors", program.tensors);
      writer.u32(prefix + "slots", program.slots);
      writer.strings(prefix + "outputs", program.outputs);
      writer.array<uint32_t>(prefix + "output_slots", 4, program.output_slots);
      writer.array<uint32_t>(prefix + "code", 4, program.code);
    }
    for (const StateText& state : states) {
      state_names.push_back(state.name);
      kinds.push_back(state.kind);
      widths.push_back(state.width);
      rows.push_back(state.rows);
    }
    writer.strings("mm.states", state_names);
    writer.strings("mm.state.kinds", kinds);
    writer.array<uint32_t>("mm.state.widths", 4, widths);
    writer.array<uint32_t>("mm.state.rows", 4, rows);
    writer.tensors = tensors;
    return writer.file();
  }
};

uint32_t bits_of(float value) {
  uint32_t word;
  std::memcpy(&word, &value, 4);
  return word;
}

// Writes a program instruction by instruction: slots are inputs, then tensors, then results.
class Builder {
 public:
  Builder(Model& model, const std::string& name, std::vector<std::string> inputs, std::vector<std::string> types,
          std::vector<std::string> tensors)
      : model_(model) {
    text_.name = name;
    text_.inputs = std::move(inputs);
    text_.input_types = std::move(types);
    text_.tensors = std::move(tensors);
    text_.slots = static_cast<uint32_t>(text_.inputs.size() + text_.tensors.size());
  }
  uint32_t weight(uint32_t i) const { return static_cast<uint32_t>(text_.inputs.size()) + i; }
  uint32_t add(const std::string& op, const std::vector<uint32_t>& inputs, const std::vector<uint32_t>& attributes,
               uint32_t outputs = 1) {
    text_.code.insert(text_.code.end(), {model_.op(op), static_cast<uint32_t>(inputs.size()), outputs,
                                         static_cast<uint32_t>(attributes.size())});
    text_.code.insert(text_.code.end(), inputs.begin(), inputs.end());
    if (outputs == 1) text_.code.push_back(text_.slots);
    text_.code.insert(text_.code.end(), attributes.begin(), attributes.end());
    if (outputs == 1) return text_.slots++;
    return 0;
  }
  void finish(const std::vector<uint32_t>& outputs) {
    for (const uint32_t slot : outputs) {
      text_.outputs.push_back("y" + std::to_string(slot));
      text_.output_slots.push_back(slot);
    }
    model_.programs.push_back(text_);
  }

 private:
  Model& model_;
  ProgramText text_;
};

// Every operation of the core at least once, in five programs that run as they are.
Model seed_model() {
  Model model;
  const uint32_t none = mm::ops::absent;
  model.floats("v.conv", {4, 3, 3, 3});
  model.floats("v.bias", {4});
  model.floats("v.depthwise", {4, 3, 3});
  model.packed("v.head", 8, 20, 4);
  model.packed("d.table", 2, 5, 16);
  model.floats("d.rows", {16, 7});
  model.floats("d.norm", {16});
  model.packed("d.qkv", 4, 48, 16);
  model.floats("d.out", {16, 16});
  model.packed("d.up", 2, 32, 16);
  model.states = {{"keys", "cache", 16, 8}, {"values", "cache", 16, 8}, {"picture", "memory", 32, 4}};

  Builder vision(model, "vision", {"pixels"}, {"u8"}, {"v.conv", "v.bias", "v.depthwise", "v.head.w8", "v.head.scale"});
  const auto w = [&](uint32_t i) { return vision.weight(i); };
  uint32_t x = vision.add("image_normalize", {0},
                          {bits_of(127), bits_of(127), bits_of(127), bits_of(0.01f), bits_of(0.01f), bits_of(0.01f)});
  x = vision.add("conv2d", {x, w(0), w(1)}, {1, 1, 1, 1, 1, 1, 2});
  x = vision.add("conv2d_depthwise", {x, w(2), none}, {2, 2, 0, 0, 1, 1, 6});
  x = vision.add("linear", {x, w(3), w(4), none, none}, {8, 20, 4, 255, 4});
  x = vision.add("activation", {x}, {3});
  x = vision.add("global_average_pool", {x}, {});
  x = vision.add("reshape", {x}, {4, 0xFFFFFFFFu});
  vision.finish({vision.add("softmax", {x}, {})});

  model.packed("p.conv", 8, 6, 36);
  model.packed("p.up", 4, 16, 6);
  model.packed("p.down", 8, 12, 16);
  model.floats("p.gate", {6});
  Builder pages(model, "pages", {"pixels"}, {"u8"},
                {"p.conv.w8", "p.conv.scale", "p.up.w4", "p.up.scale", "p.down.w8", "p.down.scale", "p.gate"});
  const auto p = [&](uint32_t i) { return pages.weight(i); };
  x = pages.add("image_normalize", {0},
                {bits_of(127), bits_of(127), bits_of(127), bits_of(0.01f), bits_of(0.01f), bits_of(0.01f)});
  const uint32_t large = pages.add("upsample_nearest", {x, none}, {2, 3});
  x = pages.add("max_pool2d", {x}, {2, 2, 1, 1, 0, 0, 1, 1});
  const uint32_t joined = pages.add("concat", {x, x}, {});
  const uint32_t mean = pages.add("average_pool2d", {joined}, {2, 2, 1, 1, 1, 1, 0, 0});
  x = pages.add("conv2d_packed", {large, p(0), p(1), none, mean}, {8, 6, 255, 2, 2, 2, 3, 1, 1, 1, 1, 1});
  x = pages.add("linear_pair", {x, p(2), p(3), p(4), p(5), none, none, p(6)}, {6, 16, 12, 4, 15, 4, 8, 255, 0, 0});
  pages.finish({pages.add("depth_to_space", {x}, {2})});

  // Channels enough for the kernels that take whole vectors of codes.
  model.packed("c.wide", 8, 80, 3);
  model.tensors.push_back({"c.taps", {80, 3, 3}, 24, std::string(720, '\x1B')});
  model.floats("c.scale", {80});
  model.packed("c.narrow", 4, 5, 80);
  Builder codes(model, "codes", {"pixels"}, {"u8"},
                {"c.wide.w8", "c.wide.scale", "c.taps", "c.scale", "c.narrow.w4", "c.narrow.scale"});
  const auto c = [&](uint32_t i) { return codes.weight(i); };
  x = codes.add("image_normalize", {0},
                {bits_of(127), bits_of(127), bits_of(127), bits_of(0.01f), bits_of(0.01f), bits_of(0.01f)});
  x = codes.add("linear_codes", {x, c(0), c(1), none}, {8, 80, 3, 256});
  x = codes.add("conv2d_depthwise_codes", {x, c(2), c(3), c(3)}, {1, 1, 1, 1, 1, 1});
  codes.finish({codes.add("linear", {x, c(4), c(5), none, none}, {4, 5, 80, 15, 0})});

  Builder prefill(model, "prefill", {"features"}, {"f32"}, {});
  prefill.add("state_write", {0}, {2}, 0);
  prefill.finish({});

  Builder decode(
      model, "decode", {"tokens", "positions", "sequences"}, {"i32", "i32", "i32"},
      {"d.table.w2", "d.table.scale", "d.rows", "d.norm", "d.qkv.w4", "d.qkv.scale", "d.out", "d.up.w2", "d.up.scale"});
  const auto v = [&](uint32_t i) { return decode.weight(i); };
  const uint32_t a = decode.add("embedding", {0, v(0), v(1)}, {2, 5, 16, 3});
  const uint32_t b = decode.add("embedding_f32", {0, v(2)}, {});
  x = decode.add("add", {a, b}, {});
  x = decode.add("rms_norm", {x, v(3)}, {bits_of(1e-5f)});
  x = decode.add("layer_norm", {x, v(3), v(3)}, {bits_of(1e-5f)});
  uint32_t qkv = decode.add("linear", {x, v(4), v(5), none, none}, {4, 48, 16, 15, 0});
  qkv = decode.add("rope", {qkv, 1}, {4, 8, bits_of(10000)});
  uint32_t y = decode.add("attention_cached", {qkv, 1, 2}, {0, 1, 2, 2, 8});
  y = decode.add("add", {y, decode.add("attention", {qkv}, {2, 2, 8})}, {});
  y = decode.add("linear_f32", {y, v(6), none, x}, {1});
  y = decode.add("attention_memory", {y}, {2, 2, 2, 8});
  y = decode.add("linear", {y, v(7), v(8), none, none}, {2, 32, 16, 3, 7});
  y = decode.add("silu_mul", {y}, {});
  y = decode.add("hadamard", {y}, {8});
  y = decode.add("last_row", {y}, {});
  decode.finish({decode.add("mul", {y, v(3)}, {}), y});
  return model;
}

uint32_t odd_word(Random& random) {
  switch (random.below(4)) {
    case 0:
      return static_cast<uint32_t>(mm::attacks::boundary_integer(random));
    case 1:
      return static_cast<uint32_t>(random.below(40));
    case 2:
      return bits_of(random.below(2) == 0 ? NAN : -INFINITY);
    default:
      return 0u - static_cast<uint32_t>(random.below(3));
  }
}

// One change that a file could hold: a word of a program, a shape, a state, a name.
void mutate_model(Model& model, Random& random) {
  ProgramText& program = model.programs[random.below(model.programs.size())];
  switch (random.below(8)) {
    case 0: {  // a tensor of another shape with the data that it claims
      mm::test::GgufTensor& tensor = model.tensors[random.below(model.tensors.size())];
      uint64_t& dim = tensor.dims[random.below(tensor.dims.size())];
      dim = random.below(3) == 0 ? 1 : dim + 1 - random.below(3);
      if (dim == 0) dim = 1;
      if (random.below(4) == 0) tensor.dims.push_back(1 + random.below(3));
      if (tensor.dims.size() > 4) tensor.dims.pop_back();
      uint64_t n = tensor.type == 24 ? 1 : 4;
      for (const uint64_t d : tensor.dims) n *= d;
      tensor.data.resize(n, '\x11');
      break;
    }
    case 1: {
      StateText& state = model.states[random.below(model.states.size())];
      if (random.below(4) == 0) state.kind = state.kind == "cache" ? "memory" : "cache";
      if (random.below(2) == 0) {
        state.width = random.below(2) == 0 ? odd_word(random) : 8 * static_cast<uint32_t>(1 + random.below(5));
      } else {
        state.rows = odd_word(random);
      }
      break;
    }
    case 2:
      program.input_types[random.below(program.input_types.size())] = random.below(2) == 0   ? "f32"
                                                                      : random.below(2) == 0 ? "i32"
                                                                                             : "u8";
      break;
    case 3:
      if (!program.tensors.empty()) {
        program.tensors[random.below(program.tensors.size())] = model.tensors[random.below(model.tensors.size())].name;
      }
      break;
    case 4:
      model.op_names[random.below(model.op_names.size())] = model.op_names[random.below(model.op_names.size())];
      break;
    default: {
      const size_t words = 1 + random.below(2);
      for (size_t i = 0; i < words; ++i) program.code[random.below(program.code.size())] = odd_word(random);
      break;
    }
  }
}

struct Counts {
  size_t loaded = 0, done = 0, runs = 0;
};

// Inputs of the right shape, or of an odd one.
struct Input {
  std::vector<uint8_t> bytes;
  mm::tensor::TensorView view;
};

Input make_input(const std::string& program, const mm::program::ProgramInput& wanted, int step, Random& random,
                 bool is_odd) {
  Shape shape = program == "vision" || program == "pages" || program == "codes" ? Shape::of(6, 5, 3)
                : program == "prefill"                                          ? Shape::of(3, 32)
                                                                                : Shape::of(2);
  if (is_odd && random.below(2) == 0) {
    shape.rank = static_cast<int>(random.below(5));
    for (int d = 0; d < 4; ++d)
      shape.dims[static_cast<size_t>(d)] = d < shape.rank ? 1 + static_cast<int64_t>(random.below(20)) : 0;
  }
  Input input;
  const size_t element = mm::tensor::element_bytes(wanted.dtype);
  const size_t n = static_cast<size_t>(shape.elements());
  input.bytes.resize(n * element);
  for (size_t i = 0; i < n; ++i) {
    if (wanted.dtype == DType::i32) {
      int32_t value = wanted.name == "tokens"      ? static_cast<int32_t>(random.below(5))
                      : wanted.name == "positions" ? step
                                                   : static_cast<int32_t>(i);
      if (is_odd && random.below(6) == 0) value = static_cast<int32_t>(mm::attacks::boundary_integer(random));
      std::memcpy(input.bytes.data() + 4 * i, &value, 4);
    } else if (wanted.dtype == DType::f32) {
      float value = static_cast<float>(random.below(2000)) * 0.01f - 10;
      if (is_odd && random.below(20) == 0) value = random.below(2) == 0 ? NAN : INFINITY;
      std::memcpy(input.bytes.data() + 4 * i, &value, 4);
    } else {
      input.bytes[i] = static_cast<uint8_t>(random.next());
    }
  }
  input.view.dtype = wanted.dtype;
  input.view.shape = shape;
  return input;
}

bool is_expected_failure(StatusCode code) {
  return code == StatusCode::model_format || code == StatusCode::invalid_input || code == StatusCode::out_of_memory ||
         code == StatusCode::deadline_exceeded || code == StatusCode::unsupported || code == StatusCode::not_found;
}

void try_file(const std::string& bytes, Random& random, bool is_odd, Counts& counts) {
  const auto engine = mm::tasks::Engine::from_bytes(bytes.data(), bytes.size());
  if (!engine.is_ok()) {
    MM_CHECK(is_expected_failure(engine.status().code()) && !engine.status().message().empty());
    return;
  }
  ++counts.loaded;
  const auto session = mm::tasks::Session::create(engine.value(), random.below(8) == 0 ? 2 : 1);
  if (!MM_CHECK(session.is_ok())) return;
  mm::program::Interpreter& interpreter = session.value()->interpreter();
  for (int step = 0; step < 2; ++step) {
    for (const auto& program : engine.value()->programs()) {
      std::vector<Input> inputs;
      for (const mm::program::ProgramInput& wanted : program->inputs()) {
        inputs.push_back(make_input(program->name(), wanted, step, random, is_odd));
      }
      std::vector<mm::program::NamedTensor> named;
      for (size_t i = 0; i < inputs.size(); ++i) {
        inputs[i].view.data = inputs[i].bytes.data();
        named.push_back({program->inputs()[i].name, inputs[i].view});
      }
      interpreter.set_limits(std::chrono::steady_clock::now() + std::chrono::milliseconds(500), nullptr);
      mm::ops::MemoryPlaces places;  // as a batch of captions sets them, and as it never would
      if (is_odd && random.below(3) == 0) {
        places.written = static_cast<int>(random.below(18)) - 1;
        places.read.resize(random.below(6));
        for (int& place : places.read) place = static_cast<int>(random.below(18)) - 1;
      }
      const auto result = interpreter.run(program->name(), named, places);
      ++counts.runs;
      if (!result.is_ok()) {
        MM_CHECK(is_expected_failure(result.status().code()) && !result.status().message().empty());
        if (!is_odd) std::fprintf(stderr, "  %s: %s\n", program->name().c_str(), result.status().message().c_str());
        continue;
      }
      ++counts.done;
      for (const mm::program::NamedTensor& output : result.value()) {
        const uint8_t* data = output.view.as<const uint8_t>();
        uint64_t sum = 0;
        for (size_t i = 0; i < output.view.bytes(); ++i) sum += data[i];  // the whole output is readable
        MM_CHECK(sum <= 255 * output.view.bytes());
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const size_t runs = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 6000;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  const Model model = seed_model();
  MM_CHECK(model.op_names.size() == static_cast<size_t>(mm::ops::all_ops().count));  // a new operation belongs in here
  Counts unchanged;
  Random first(seed);
  try_file(model.file(), first, false, unchanged);
  MM_CHECK(unchanged.loaded == 1 && unchanged.done == 10);

  Counts counts;
  for (size_t run = 0; run < runs; ++run) {
    Random random(seed * 1000003 + run);
    const int failures = mm::test::failures;
    Model changed = model;
    const size_t changes = random.below(4);
    for (size_t i = 0; i < changes; ++i) mutate_model(changed, random);
    std::string bytes = changed.file();
    if (random.below(8) == 0) mm::attacks::mutate_once(bytes, bytes.size(), random);
    try_file(bytes, random, true, counts);
    if (mm::test::failures != failures) std::fprintf(stderr, "  in run %zu\n", run);
  }
  std::printf("fuzz_program: %zu files loaded, %zu of %zu programs done\n", counts.loaded, counts.done, counts.runs);
  return mm::test::finish("fuzz_program");
}
