// Puts one operation in the place of two that follow each other, where what lies between them need not leave the cache.
#pragma once

#include <vector>

#include "program/program.h"

namespace mm::program {

// linear without a residual, then conv2d_depthwise, where nothing else reads what the first writes: linear_depthwise.
// `reads` counts for each slot the instructions and outputs that read it.
std::vector<Instruction> fuse(const std::vector<Instruction>& instructions, const std::vector<int>& reads,
                              FusedAttributes& attributes);

}  // namespace mm::program
