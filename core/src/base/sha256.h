// SHA-256 (FIPS 180-4), to check the sections of a model file.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace mm::base {

class Sha256 {
 public:
  void update(const void* bytes, size_t size);
  std::array<uint8_t, 32> finish();  // the object is spent afterwards

 private:
  std::array<uint32_t, 8> state_ = {0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                                    0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u};
  std::array<uint8_t, 64> block_ = {};
  uint64_t total_bytes_ = 0;
};

std::string to_hex(const std::array<uint8_t, 32>& digest);  // 64 lower-case digits

}  // namespace mm::base
