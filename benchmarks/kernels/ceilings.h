// Measures what this core can do at best, in the same run as the kernels: reads from each cache, dot-product
// instructions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace mm::bench {

// Reads `bytes` (a multiple of 1 KB) with the widest loads of the CPU and returns something that depends on all of
// them.
uint64_t read_all(const uint8_t* data, size_t bytes);

// int8 multiply-adds done by `rounds` rounds of a table's dot-product instruction on registers alone, without loads or
// masks; 0 when nothing is known of the table. `sink` keeps the work alive.
double dot_products(kernels::Isa isa, int64_t rounds, uint64_t* sink);

}  // namespace mm::bench
