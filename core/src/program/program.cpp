// Reads programs and states from a model file; every word is checked before it is used.
#include "program/program.h"

#include <algorithm>

#include "program/fusion.h"

namespace mm::program {

namespace {

constexpr size_t slots_most = 65536;
constexpr size_t words_most = 1 << 20;
constexpr int64_t state_rows_most = 65536;
constexpr int64_t state_width_most = 65536;
constexpr int64_t state_floats_most = 1 << 24;  // 64 MB for one cache slot or memory

base::Status broken(const std::string& program, const std::string& what) {
  return base::model_format("program `" + program + "`: " + what);
}

}  // namespace

base::Result<std::shared_ptr<const Program>> Program::load(std::shared_ptr<const tensor::ModelFile> file,
                                                           std::string_view name) {
  std::shared_ptr<Program> program(new Program());
  program->file_ = file;
  program->name_ = std::string(name);
  const std::string prefix = "mm.program." + program->name_ + ".";
  MM_ASSIGN_OR_RETURN(const std::vector<std::string_view> inputs, file->strings(prefix + "inputs"));
  MM_ASSIGN_OR_RETURN(const std::vector<std::string_view> types, file->strings(prefix + "input_types"));
  MM_ASSIGN_OR_RETURN(const std::vector<std::string_view> tensors, file->strings(prefix + "tensors"));
  MM_ASSIGN_OR_RETURN(const std::vector<std::string_view> outputs, file->strings(prefix + "outputs"));
  MM_ASSIGN_OR_RETURN(const std::vector<uint32_t> output_slots, file->words(prefix + "output_slots"));
  MM_ASSIGN_OR_RETURN(const int64_t slots, file->integer(prefix + "slots"));
  MM_ASSIGN_OR_RETURN(program->words_, file->words(prefix + "code"));
  MM_ASSIGN_OR_RETURN(const std::vector<std::string_view> op_names, file->strings("mm.op_names"));

  if (slots < 1 || slots > static_cast<int64_t>(slots_most) ||
      inputs.size() + tensors.size() > static_cast<size_t>(slots))
    return broken(program->name_,
                  std::to_string(slots) + " slots, expected at least inputs plus tensors and at most 65536");
  if (program->words_.size() > words_most) return broken(program->name_, "more than 1048576 instruction words");
  if (types.size() != inputs.size()) return broken(program->name_, "as many input types as inputs expected");
  if (outputs.size() != output_slots.size()) return broken(program->name_, "as many output slots as outputs expected");
  program->slot_count_ = static_cast<int>(slots);
  for (size_t i = 0; i < inputs.size(); ++i) {
    tensor::DType type;
    if (types[i] == "f32")
      type = tensor::DType::f32;
    else if (types[i] == "u8")
      type = tensor::DType::u8;
    else if (types[i] == "i32")
      type = tensor::DType::i32;
    else
      return broken(program->name_, "input type `" + std::string(types[i]) + "`, expected f32, u8 or i32");
    program->inputs_.push_back({std::string(inputs[i]), type});
  }
  for (std::string_view tensor_name : tensors) {
    const tensor::TensorView* view = file->find_tensor(tensor_name);
    if (view == nullptr) return broken(program->name_, "tensor `" + std::string(tensor_name) + "` is not in the file");
    program->weights_.push_back(view);
  }
  MM_RETURN_IF_ERROR(program->read_code(op_names));
  std::vector<bool> is_defined(static_cast<size_t>(slots), false);
  std::fill(is_defined.begin(), is_defined.begin() + program->first_temporary_slot(), true);
  for (const Instruction& instruction : program->instructions_)
    if (instruction.output_slot >= 0) is_defined[static_cast<size_t>(instruction.output_slot)] = true;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (output_slots[i] >= static_cast<size_t>(slots) || !is_defined[output_slots[i]])
      return broken(program->name_, "output `" + std::string(outputs[i]) + "` names a slot that nothing writes");
    program->outputs_.push_back({std::string(outputs[i]), static_cast<int>(output_slots[i])});
  }
  program->fuse_instructions();
  return std::shared_ptr<const Program>(std::move(program));
}

void Program::fuse_instructions() {
  std::vector<int> reads(static_cast<size_t>(slot_count_), 0);
  for (const Instruction& instruction : instructions_)
    for (int i = 0; i < instruction.input_count; ++i)
      if (instruction.input_slots[i] >= 0) ++reads[static_cast<size_t>(instruction.input_slots[i])];
  for (const ProgramOutput& output : outputs_) ++reads[static_cast<size_t>(output.slot)];
  instructions_ = fuse(instructions_, reads, fused_attributes_);
}

base::Status Program::read_code(const std::vector<std::string_view>& op_names) {
  std::vector<bool> is_defined(static_cast<size_t>(slot_count_), false);
  std::fill(is_defined.begin(), is_defined.begin() + first_temporary_slot(), true);
  size_t at = 0;
  while (at < words_.size()) {
    const std::string where = "instruction " + std::to_string(instructions_.size());
    if (words_.size() - at < 4) return broken(name_, where + " is cut off");
    const uint32_t op_index = words_[at], in = words_[at + 1], out = words_[at + 2], attributes = words_[at + 3];
    at += 4;
    if (op_index >= op_names.size())
      return broken(name_,
                    where + " names operation " + std::to_string(op_index) + " of " + std::to_string(op_names.size()));
    const ops::Op* op = ops::find_op(op_names[op_index]);
    if (op == nullptr)
      return base::model_format("program `" + name_ + "`: unknown operation `" + std::string(op_names[op_index]) + "`",
                                "the file was made for a newer version: upgrade mobile-multimodal");
    if (in < static_cast<uint32_t>(op->min_inputs) || in > static_cast<uint32_t>(op->max_inputs) ||
        out != static_cast<uint32_t>(op->outputs) || attributes < static_cast<uint32_t>(op->min_attributes) ||
        attributes > static_cast<uint32_t>(op->max_attributes))
      return broken(name_, where + " (`" + op->name + "`) has " + std::to_string(in) + " inputs, " +
                               std::to_string(out) + " outputs, " + std::to_string(attributes) + " attributes");
    if (words_.size() - at < static_cast<size_t>(in) + out + attributes) return broken(name_, where + " is cut off");
    Instruction instruction;
    instruction.op = op;
    instruction.input_count = static_cast<int>(in);
    for (uint32_t i = 0; i < in; ++i) {
      const uint32_t slot = words_[at++];
      if (slot == ops::absent && i >= static_cast<uint32_t>(op->min_inputs)) {
        instruction.input_slots[i] = -1;
        continue;
      }
      if (slot >= static_cast<uint32_t>(slot_count_) || !is_defined[slot])
        return broken(
            name_, where + " (`" + op->name + "`) reads slot " + std::to_string(slot) + ", which nothing has written");
      instruction.input_slots[i] = static_cast<int>(slot);
    }
    if (out == 1) {
      const uint32_t slot = words_[at++];
      if (slot >= static_cast<uint32_t>(slot_count_) || is_defined[slot])
        return broken(name_,
                      where + " (`" + op->name + "`) writes slot " + std::to_string(slot) + ", expected a fresh one");
      is_defined[slot] = true;
      instruction.output_slot = static_cast<int>(slot);
    }
    instruction.attributes = {words_.data() + at, static_cast<int>(attributes)};
    at += attributes;
    instructions_.push_back(instruction);
  }
  return {};
}

base::Result<std::vector<ops::StateInfo>> load_states(const tensor::ModelFile& file) {
  std::vector<ops::StateInfo> states;
  if (file.find("mm.states") == nullptr) return states;
  MM_ASSIGN_OR_RETURN(const std::vector<std::string_view> names, file.strings("mm.states"));
  if (names.empty()) return states;
  MM_ASSIGN_OR_RETURN(const std::vector<std::string_view> kinds, file.strings("mm.state.kinds"));
  MM_ASSIGN_OR_RETURN(const std::vector<uint32_t> widths, file.words("mm.state.widths"));
  MM_ASSIGN_OR_RETURN(const std::vector<uint32_t> rows, file.words("mm.state.rows"));
  if (kinds.size() != names.size() || widths.size() != names.size() || rows.size() != names.size() ||
      names.size() > 4096)
    return base::model_format("`mm.states`: names, kinds, widths and rows differ in number");
  for (size_t i = 0; i < names.size(); ++i) {
    ops::StateInfo info;
    info.name = std::string(names[i]);
    if (kinds[i] == "cache")
      info.kind = ops::StateKind::cache;
    else if (kinds[i] == "memory")
      info.kind = ops::StateKind::memory;
    else
      return base::model_format("state `" + info.name + "` is of kind `" + std::string(kinds[i]) +
                                "`, expected cache or memory");
    const int64_t width = widths[i], row_count = rows[i];
    if (width < 1 || width > state_width_most || row_count < 1 || row_count > state_rows_most ||
        width * row_count > state_floats_most)
      return base::model_format("state `" + info.name + "` has " + std::to_string(row_count) + " rows of " +
                                std::to_string(width) + " floats, expected at most 16777216 floats");
    info.width = static_cast<int>(width);
    info.rows = static_cast<int>(row_count);
    states.push_back(std::move(info));
  }
  return states;
}

}  // namespace mm::program
