// Binds pixels to the one input of a program.
#include "tasks/picture_program.h"

namespace mm::tasks {

base::Result<PictureProgram> PictureProgram::find(Session& session, std::string_view name) {
  const program::Program* program = session.engine().find_program(name);
  if (program == nullptr)
    return base::not_found("the model file cannot read text: program `" + std::string(name) + "` is not in it",
                           "load a model file with the programs detect_text and recognize_text");
  if (program->inputs().size() != 1 || program->outputs().size() != 1)
    return base::model_format("program `" + program->name() + "` has " + std::to_string(program->inputs().size()) +
                              " inputs and " + std::to_string(program->outputs().size()) +
                              " outputs, expected one of each");
  const tensor::DType dtype = program->inputs()[0].dtype;
  if (dtype != tensor::DType::u8 && dtype != tensor::DType::f32)
    return base::model_format("program `" + program->name() + "`: input `" + program->inputs()[0].name + "` is " +
                              tensor::dtype_name(dtype) + ", expected u8 or f32");
  return PictureProgram(session, *program);
}

base::Result<tensor::TensorView> PictureProgram::run(const std::vector<uint8_t>& pixels, const tensor::Shape& shape) {
  const program::ProgramInput& input = program_->inputs()[0];
  tensor::TensorView view = {const_cast<uint8_t*>(pixels.data()), tensor::DType::u8, shape};  // programs only read it
  if (input.dtype == tensor::DType::f32) {
    levels_.assign(pixels.begin(), pixels.begin() + shape.elements());
    view = {levels_.data(), tensor::DType::f32, shape};
  }
  MM_ASSIGN_OR_RETURN(const std::vector<program::NamedTensor> outputs,
                      session_->interpreter().run(program_->name(), {{input.name, view}}));
  if (outputs[0].view.dtype != tensor::DType::f32)
    return base::model_format("program `" + program_->name() + "` gives " + tensor::dtype_name(outputs[0].view.dtype) +
                              ", expected f32");
  return outputs[0].view;
}

}  // namespace mm::tasks
