// Works out, for one set of input shapes, every slot's shape and place in the scratch arena.
#pragma once

#include <vector>

#include "base/status.h"
#include "program/program.h"

namespace mm::program {

struct Plan {
  std::vector<tensor::TensorView> slots;  // dtype and shape of every slot; data set for weights alone
  std::vector<size_t> offsets;            // place of each temporary in the arena
  std::vector<int> view_of;               // slot whose memory a view shares, else -1
  size_t scratch_offset = 0;              // one region, shared by all instructions in turn
  size_t arena_bytes = 0;
};

// Temporaries whose lives do not overlap share memory (greedy, largest first). Fails with invalid_input when the shapes
// do not fit the program, with out_of_memory when the arena would pass `arena_bytes_most`.
base::Result<Plan> make_plan(const Program& program, const std::vector<tensor::Shape>& input_shapes,
                             const ops::InferContext& context, size_t arena_bytes_most);

}  // namespace mm::program
