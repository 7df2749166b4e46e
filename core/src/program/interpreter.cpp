// Binds inputs, places temporaries in the arena and runs instruction after instruction.
#include "program/interpreter.h"

namespace mm::program {

namespace {
constexpr size_t plans_most = 32;                     // beams shrink and grow: a handful of shapes recur
constexpr size_t arena_bytes_most = size_t{1} << 30;  // 1 GiB: far above any use, far below an address-space trick
}  // namespace

const tensor::TensorView* find_output(const std::vector<NamedTensor>& outputs, std::string_view name) {
  for (const NamedTensor& output : outputs)
    if (output.name == name) return &output.view;
  return nullptr;
}

Interpreter::Interpreter(const std::vector<std::shared_ptr<const Program>>& programs, ops::StateStore states,
                         base::ThreadPool& pool, const kernels::KernelTable& kernels)
    : programs_(programs), states_(std::move(states)), pool_(pool), kernels_(kernels) {}

base::Status Interpreter::check_limits() const {
  // Relaxed: the flag says nothing about other memory, and a store is seen within an instruction or two.
  if (is_cancelled_ != nullptr && is_cancelled_->load(std::memory_order_relaxed))
    return {base::StatusCode::cancelled, "the work was cancelled before it was done"};
  if (deadline_ == std::chrono::steady_clock::time_point::max() || std::chrono::steady_clock::now() < deadline_)
    return {};
  return {base::StatusCode::deadline_exceeded, "the deadline passed before the work was done",
          "allow more time or ask for less"};
}

base::Result<Plan*> Interpreter::plan_for(const Program& program, const std::vector<tensor::Shape>& shapes) {
  for (const auto& cached : plans_)
    if (cached->program == &program && cached->shapes == shapes) return &cached->plan;
  auto made = std::make_unique<CachedPlan>();
  made->program = &program;
  made->shapes = shapes;
  MM_ASSIGN_OR_RETURN(made->plan, make_plan(program, shapes, {states_, pool_.threads()}, arena_bytes_most));
  Plan* plan = &made->plan;
  if (plans_.size() < plans_most) {
    plans_.push_back(std::move(made));
  } else {
    plans_[next_plan_] = std::move(made);
    next_plan_ = (next_plan_ + 1) % plans_most;
  }
  return plan;
}

base::Result<std::vector<NamedTensor>> Interpreter::run(std::string_view name, const std::vector<NamedTensor>& inputs,
                                                        const ops::MemoryPlaces& places) {
  const Program* program = nullptr;
  for (const auto& candidate : programs_)
    if (candidate->name() == name) program = candidate.get();
  if (program == nullptr) return base::not_found("program `" + std::string(name) + "` is not in the model file");
  if (inputs.size() != program->inputs().size())
    return base::invalid_input("program `" + program->name() + "` got " + std::to_string(inputs.size()) +
                               " inputs, expected " + std::to_string(program->inputs().size()));
  std::vector<tensor::Shape> shapes(inputs.size());
  std::vector<const tensor::TensorView*> bound(inputs.size(), nullptr);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const ProgramInput& expected = program->inputs()[i];
    for (const NamedTensor& given : inputs)
      if (given.name == expected.name) bound[i] = &given.view;
    if (bound[i] == nullptr)
      return base::invalid_input("program `" + program->name() + "`: input `" + expected.name + "` is missing");
    if (bound[i]->dtype != expected.dtype)
      return base::invalid_input("program `" + program->name() + "`: input `" + expected.name + "` is " +
                                 tensor::dtype_name(bound[i]->dtype) + ", expected " +
                                 tensor::dtype_name(expected.dtype));
    for (int d = 0; d < bound[i]->shape.rank; ++d)
      if (bound[i]->shape[d] < 1 || bound[i]->shape[d] > (1 << 24))
        return base::invalid_input("program `" + program->name() + "`: input `" + expected.name + "` has shape " +
                                   bound[i]->shape.text() + ", expected sides of 1 to 16777216");
    shapes[i] = bound[i]->shape;
  }
  MM_ASSIGN_OR_RETURN(Plan * plan, plan_for(*program, shapes));
  if (!arena_.reserve(plan->arena_bytes))
    return base::Status(base::StatusCode::out_of_memory,
                        "no memory for " + std::to_string(plan->arena_bytes) + " bytes of scratch");

  for (size_t i = 0; i < inputs.size(); ++i) plan->slots[i].data = bound[i]->data;
  states_.set_places(places);
  ops::Context context = {kernels_, pool_, states_, arena_.data() + plan->scratch_offset};
  if (profile_ != nullptr) profile_->resize(program->instructions().size(), 0.0);
  for (size_t index = 0; index < program->instructions().size(); ++index) {
    const Instruction& instruction = program->instructions()[index];
    MM_RETURN_IF_ERROR(check_limits());
    ops::Inputs arguments;
    arguments.count = instruction.input_count;
    for (int i = 0; i < instruction.input_count; ++i)
      if (instruction.input_slots[i] >= 0)
        arguments.items[i] = &plan->slots[static_cast<size_t>(instruction.input_slots[i])];
    tensor::TensorView output;
    if (instruction.output_slot >= 0) {
      const size_t slot = static_cast<size_t>(instruction.output_slot);
      const int source = plan->view_of[slot];
      plan->slots[slot].data =
          source >= 0 ? plan->slots[static_cast<size_t>(source)].data : arena_.data() + plan->offsets[slot];
      output = plan->slots[slot];
    }
    const auto start = profile_ != nullptr ? std::chrono::steady_clock::now() : std::chrono::steady_clock::time_point();
    MM_RETURN_IF_ERROR(instruction.op->run(context, instruction.attributes, arguments, output));
    if (profile_ != nullptr)
      (*profile_)[index] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  std::vector<NamedTensor> outputs;
  for (const ProgramOutput& output : program->outputs())
    outputs.push_back({output.name, plan->slots[static_cast<size_t>(output.slot)]});
  return outputs;
}

}  // namespace mm::program
