// Infers shapes in program order, then packs the temporaries by their first and last use.
#include "program/plan.h"

#include <algorithm>

namespace mm::program {

namespace {

constexpr size_t align_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

struct Life {
  int slot;
  int first;  // instruction that writes it
  int last;   // last instruction that reads it
  size_t bytes;
};

base::Status named(const Program& program, size_t index, const base::Status& status) {
  return {status.code(),
          "program `" + program.name() + "`, instruction " + std::to_string(index) + ": " + status.message(),
          status.hint()};
}

}  // namespace

base::Result<Plan> make_plan(const Program& program, const std::vector<tensor::Shape>& input_shapes,
                             const ops::InferContext& context, size_t arena_bytes_most) {
  Plan plan;
  const size_t slots = static_cast<size_t>(program.slot_count());
  plan.slots.resize(slots);
  plan.offsets.assign(slots, 0);
  plan.view_of.assign(slots, -1);
  for (size_t i = 0; i < program.inputs().size(); ++i) {
    plan.slots[i].dtype = program.inputs()[i].dtype;
    plan.slots[i].shape = input_shapes[i];
  }
  for (size_t i = 0; i < program.weights().size(); ++i)
    plan.slots[static_cast<size_t>(program.first_weight_slot()) + i] = *program.weights()[i];

  const std::vector<Instruction>& instructions = program.instructions();
  const int first_temporary = program.first_temporary_slot();
  std::vector<int> life_of(slots, -1);
  std::vector<Life> lives;
  size_t scratch_bytes = 0;
  const auto root_of = [&](int slot) {
    while (plan.view_of[static_cast<size_t>(slot)] >= 0) slot = plan.view_of[static_cast<size_t>(slot)];
    return slot;
  };
  const auto extend = [&](int slot, int until) {
    const int root = root_of(slot);
    if (root >= first_temporary) lives[static_cast<size_t>(life_of[static_cast<size_t>(root)])].last = until;
  };
  for (size_t index = 0; index < instructions.size(); ++index) {
    const Instruction& instruction = instructions[index];
    ops::Inputs inputs;
    inputs.count = instruction.input_count;
    for (int i = 0; i < instruction.input_count; ++i)
      if (instruction.input_slots[i] >= 0)
        inputs.items[i] = &plan.slots[static_cast<size_t>(instruction.input_slots[i])];
    ops::Inferred inferred;
    const base::Status status = instruction.op->infer(context, instruction.attributes, inputs, inferred);
    if (!status.is_ok()) return named(program, index, status);
    scratch_bytes = std::max(scratch_bytes, align_up(inferred.scratch_bytes));
    for (int i = 0; i < instruction.input_count; ++i)
      if (instruction.input_slots[i] >= 0) extend(instruction.input_slots[i], static_cast<int>(index));
    if (instruction.output_slot < 0) continue;
    const size_t out = static_cast<size_t>(instruction.output_slot);
    plan.slots[out].dtype = inferred.dtype;
    plan.slots[out].shape = inferred.shape;
    if (instruction.op->is_view) {
      plan.view_of[out] = instruction.input_slots[0];
      continue;
    }
    // Dimensions are bounded one by one above; their product is bounded here, in a form that cannot overflow.
    size_t bytes = tensor::element_bytes(inferred.dtype);
    for (int d = 0; d < inferred.shape.rank; ++d) {
      const int64_t dim = inferred.shape[d];
      if (dim < 1 || static_cast<size_t>(dim) > arena_bytes_most / bytes)
        return named(
            program, index,
            {base::StatusCode::out_of_memory,
             std::string("`") + instruction.op->name + "` would make a tensor of shape " + inferred.shape.text() +
                 ", above the arena's " + std::to_string(arena_bytes_most) + " bytes"});
      bytes *= static_cast<size_t>(dim);
    }
    life_of[out] = static_cast<int>(lives.size());
    lives.push_back({instruction.output_slot, static_cast<int>(index), static_cast<int>(index), align_up(bytes)});
  }
  for (const ProgramOutput& output : program.outputs()) extend(output.slot, static_cast<int>(instructions.size()));

  // Largest first, each at the lowest place where no living neighbour lies.
  std::vector<size_t> order(lives.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return lives[a].bytes != lives[b].bytes ? lives[a].bytes > lives[b].bytes : a < b;
  });
  std::vector<size_t> placed;
  std::vector<std::pair<size_t, size_t>> taken;
  for (size_t candidate : order) {
    const Life& life = lives[candidate];
    taken.clear();
    for (size_t other : placed)
      if (lives[other].first <= life.last && life.first <= lives[other].last)
        taken.emplace_back(plan.offsets[static_cast<size_t>(lives[other].slot)], lives[other].bytes);
    std::sort(taken.begin(), taken.end());
    size_t offset = 0;
    for (const auto& [begin, bytes] : taken) {
      if (offset + life.bytes <= begin) break;
      offset = std::max(offset, begin + bytes);
    }
    plan.offsets[static_cast<size_t>(life.slot)] = offset;
    plan.arena_bytes = std::max(plan.arena_bytes, offset + life.bytes);
    placed.push_back(candidate);
  }
  plan.scratch_offset = plan.arena_bytes;
  plan.arena_bytes += scratch_bytes;
  if (plan.arena_bytes > arena_bytes_most)
    return base::Status(base::StatusCode::out_of_memory,
                        "program `" + program.name() + "` needs " + std::to_string(plan.arena_bytes) +
                            " bytes of scratch, above the bound of " + std::to_string(arena_bytes_most));
  return plan;
}

}  // namespace mm::program
