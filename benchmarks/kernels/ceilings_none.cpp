// Plain reads, for CPUs without ceilings of their own.
#include <cstring>

#include "ceilings.h"

namespace mm::bench {

uint64_t read_all(const uint8_t* data, size_t bytes) {
  uint64_t all = 0;
  for (size_t i = 0; i < bytes; i += sizeof all) {
    uint64_t word;
    std::memcpy(&word, data + i, sizeof word);
    all |= word;
  }
  return all;
}

double dot_products(kernels::Isa, int64_t, uint64_t*) { return 0; }

}  // namespace mm::bench
