// Changes bytes as a hostile or broken file would, from a seed, so that every run can be repeated.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

namespace mm::attacks {

// xorshift64* (Vigna 2016): the same numbers on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1Du;
  }
  size_t below(size_t n) { return n == 0 ? 0 : static_cast<size_t>(next() >> 16) % n; }

 private:
  uint64_t state_;
};

// Numbers at which additions, products, signs and casts go wrong.
inline uint64_t boundary_integer(Random& random) {
  constexpr uint64_t one = 1;
  const uint64_t numbers[] = {0,         1,         2,         3,         31,          32,        63,
                              64,        65,        127,       128,       255,         256,       4095,
                              4096,      65535,     65536,     one << 31, one << 32,   one << 47, one << 48,
                              one << 61, one << 62, one << 63, ~one,      ~uint64_t{0}};
  const uint64_t number = numbers[random.below(sizeof(numbers) / sizeof(numbers[0]))];
  const size_t near = random.below(6);
  return near == 0 ? number + 1 : near == 1 ? number - 1 : near == 2 ? ~number : number;
}

// One change in bytes [0, reach): flips, noise, boundary integers of 1 to 8 bytes, copies, insertions, deletions, cuts.
inline void mutate_once(std::string& bytes, size_t reach, Random& random) {
  if (bytes.empty()) return;
  const size_t end = reach < bytes.size() ? (reach == 0 ? 1 : reach) : bytes.size();
  const size_t at = random.below(end);
  const size_t length = 1 + random.below(end - at < 32 ? end - at : 32);
  switch (random.below(9)) {
    case 0:
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
      break;
    case 1:
      bytes[at] = static_cast<char>(random.next());
      break;
    case 2:
    case 3: {
      const uint64_t number = boundary_integer(random);
      const size_t width = size_t{1} << random.below(4);
      std::memcpy(&bytes[at], &number, width < bytes.size() - at ? width : bytes.size() - at);
      break;
    }
    case 4: {  // a small step of an integer: off by one
      uint8_t value = static_cast<uint8_t>(bytes[at]);
      value = static_cast<uint8_t>(random.below(2) == 0 ? value + 1 : value - 1);
      bytes[at] = static_cast<char>(value);
      break;
    }
    case 5: {  // splice: one part over another
      const std::string part = bytes.substr(random.below(end), length);
      bytes.replace(at, part.size(), part);
      break;
    }
    case 6:
      bytes.insert(at, bytes.substr(random.below(end), length));
      break;
    case 7:
      bytes.erase(at, length);
      break;
    default:
      if (random.below(8) == 0) bytes.resize(random.below(bytes.size()) + 1);
      break;
  }
}

// One run's bytes: mostly one to four changes, sometimes many.
inline std::string mutated(const std::string& bytes, size_t reach, Random& random) {
  std::string changed = bytes;
  const size_t changes = random.below(16) == 0 ? 40 : 1 + random.below(4);
  for (size_t i = 0; i < changes; ++i) mutate_once(changed, reach, random);
  return changed;
}

}  // namespace mm::attacks
