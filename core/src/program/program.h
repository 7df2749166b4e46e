// Holds one program of a model file: a flat list of instructions, checked once when it is loaded.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "ops/op.h"
#include "tensor/model_file.h"

namespace mm::program {

struct Instruction {
  const ops::Op* op = nullptr;
  int input_slots[ops::max_inputs];  // -1: absent
  int input_count = 0;
  int output_slot = -1;  // -1: none
  ops::Attributes attributes;
};

// The attribute words of fused instructions, whose addresses stay.
using FusedAttributes = std::deque<std::array<uint32_t, ops::max_attributes>>;

struct ProgramInput {
  std::string name;
  tensor::DType dtype;
};

struct ProgramOutput {
  std::string name;
  int slot;
};

// Slots 0 .. inputs-1 are the inputs, then the weights, then what the instructions write.
class Program {
 public:
  static base::Result<std::shared_ptr<const Program>> load(std::shared_ptr<const tensor::ModelFile> file,
                                                           std::string_view name);

  const std::string& name() const { return name_; }
  const std::vector<ProgramInput>& inputs() const { return inputs_; }
  const std::vector<const tensor::TensorView*>& weights() const { return weights_; }
  const std::vector<ProgramOutput>& outputs() const { return outputs_; }
  const std::vector<Instruction>& instructions() const { return instructions_; }
  int slot_count() const { return slot_count_; }
  int first_weight_slot() const { return static_cast<int>(inputs_.size()); }
  int first_temporary_slot() const { return static_cast<int>(inputs_.size() + weights_.size()); }

 private:
  Program() = default;
  base::Status read_code(const std::vector<std::string_view>& op_names);
  void fuse_instructions();

  std::shared_ptr<const tensor::ModelFile> file_;  // keeps the map alive
  std::string name_;
  std::vector<ProgramInput> inputs_;
  std::vector<const tensor::TensorView*> weights_;
  std::vector<ProgramOutput> outputs_;
  std::vector<Instruction> instructions_;
  std::vector<uint32_t> words_;
  FusedAttributes fused_attributes_;
  int slot_count_ = 0;
};

// The states that a model file declares, for its programs to share.
base::Result<std::vector<ops::StateInfo>> load_states(const tensor::ModelFile& file);

}  // namespace mm::program
