// Finds the pairs of instructions that have an operation of their own.
#include "program/fusion.h"

#include <algorithm>

#include "ops/operations.h"

namespace mm::program {

namespace {

// The operation that stands for both; nullptr where there is none.
const ops::Op* joined_op(const ops::Op* first, const ops::Op* second) {
  if (first == &ops::linear_op && second == &ops::conv2d_depthwise_op) return &ops::linear_depthwise_op;
  if (first == &ops::linear_codes_op && second == &ops::conv2d_depthwise_codes_op)
    return &ops::linear_depthwise_codes_op;
  return nullptr;
}

bool can_fuse(const Instruction& first, const Instruction& second, const std::vector<int>& reads) {
  if (joined_op(first.op, second.op) == nullptr) return false;
  const bool has_residual = first.input_count > 4 && first.input_slots[4] >= 0;
  return !has_residual && second.input_slots[0] == first.output_slot &&
         reads[static_cast<size_t>(first.output_slot)] == 1;
}

Instruction fused(const Instruction& first, const Instruction& second, FusedAttributes& attributes) {
  std::array<uint32_t, ops::max_attributes>& words = attributes.emplace_back();
  std::copy_n(first.attributes.words, first.attributes.count, words.begin());
  std::copy_n(second.attributes.words, second.attributes.count, words.begin() + first.attributes.count);
  Instruction both;
  both.op = joined_op(first.op, second.op);
  both.attributes = {words.data(), first.attributes.count + second.attributes.count};
  both.input_count = both.op->max_inputs;
  for (int i = 0; i < 4; ++i) both.input_slots[i] = i < first.input_count ? first.input_slots[i] : -1;
  for (int i = 4; i < both.input_count; ++i)
    both.input_slots[i] = i - 3 < second.input_count ? second.input_slots[i - 3] : -1;
  both.output_slot = second.output_slot;
  return both;
}

}  // namespace

std::vector<Instruction> fuse(const std::vector<Instruction>& instructions, const std::vector<int>& reads,
                              FusedAttributes& attributes) {
  std::vector<Instruction> result;
  result.reserve(instructions.size());
  for (size_t i = 0; i < instructions.size(); ++i) {
    if (i + 1 < instructions.size() && can_fuse(instructions[i], instructions[i + 1], reads)) {
      result.push_back(fused(instructions[i], instructions[i + 1], attributes));
      ++i;
    } else {
      result.push_back(instructions[i]);
    }
  }
  return result;
}

}  // namespace mm::program
