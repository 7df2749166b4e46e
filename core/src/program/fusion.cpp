// Finds the pairs of instructions that have an operation of their own.
#include "program/fusion.h"

#include <algorithm>

#include "ops/operations.h"

namespace mm::program {

namespace {

bool can_fuse(const Instruction& first, const Instruction& second, const std::vector<int>& reads) {
  if (first.op != &ops::linear_op || second.op != &ops::conv2d_depthwise_op) return false;
  const bool has_residual = first.input_count > 4 && first.input_slots[4] >= 0;
  return !has_residual && second.input_slots[0] == first.output_slot &&
         reads[static_cast<size_t>(first.output_slot)] == 1;
}

Instruction fused(const Instruction& first, const Instruction& second, FusedAttributes& attributes) {
  std::array<uint32_t, ops::max_attributes>& words = attributes.emplace_back();
  std::copy_n(first.attributes.words, first.attributes.count, words.begin());
  std::copy_n(second.attributes.words, second.attributes.count, words.begin() + first.attributes.count);
  Instruction both;
  both.op = &ops::linear_depthwise_op;
  both.attributes = {words.data(), first.attributes.count + second.attributes.count};
  for (int i = 0; i < 4; ++i) both.input_slots[i] = i < first.input_count ? first.input_slots[i] : -1;
  for (int i = 1; i < 3; ++i) both.input_slots[3 + i] = i < second.input_count ? second.input_slots[i] : -1;
  both.input_count = 6;
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
