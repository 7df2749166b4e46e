// Runs a program that takes pixels and gives one float tensor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tasks/session.h"

namespace mm::tasks {

// A program of one input [pictures, height, width, 3], levels 0 to 255 as u8 or f32 (it normalises them itself), and
// one f32 output.
class PictureProgram {
 public:
  // not_found when the file lacks it, model_format when its inputs or outputs are others.
  static base::Result<PictureProgram> find(Session& session, std::string_view name);

  // The output lies in the session's arena until its next run. `pixels` holds all of shape's bytes.
  base::Result<tensor::TensorView> run(const std::vector<uint8_t>& pixels, const tensor::Shape& shape);

 private:
  PictureProgram(Session& session, const program::Program& program) : session_(&session), program_(&program) {}
  Session* session_;
  const program::Program* program_;
  std::vector<float> levels_;
};

}  // namespace mm::tasks
