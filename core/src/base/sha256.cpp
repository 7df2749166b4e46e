// SHA-256 in plain C++ (FIPS 180-4, section 6.2), with the CPU's own instructions where CMake built them and the CPU
// has them.
#include "base/sha256.h"

#include <cstring>

#include "base/sha256_blocks.h"

namespace mm::base {
namespace {

using BlockFunction = void (*)(uint32_t* state, const uint8_t* blocks, size_t count);

uint32_t rotate_right(uint32_t x, int n) { return (x >> n) | (x << (32 - n)); }

uint32_t load_big_endian(const uint8_t* p) {
  return (uint32_t{p[0]} << 24) | (uint32_t{p[1]} << 16) | (uint32_t{p[2]} << 8) | uint32_t{p[3]};
}

void process_blocks_plain(uint32_t* state, const uint8_t* blocks, size_t count) {
  for (; count > 0; --count, blocks += 64) {
    uint32_t w[64];
    for (int t = 0; t < 16; ++t) w[t] = load_big_endian(blocks + 4 * t);
    for (int t = 16; t < 64; ++t) {
      const uint32_t s0 = rotate_right(w[t - 15], 7) ^ rotate_right(w[t - 15], 18) ^ (w[t - 15] >> 3);
      const uint32_t s1 = rotate_right(w[t - 2], 17) ^ rotate_right(w[t - 2], 19) ^ (w[t - 2] >> 10);
      w[t] = w[t - 16] + s0 + w[t - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int t = 0; t < 64; ++t) {
      const uint32_t sum1 = rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25);
      const uint32_t choice = g ^ (e & (f ^ g));
      const uint32_t t1 = h + sum1 + choice + sha256_round_constants[t] + w[t];
      const uint32_t sum0 = rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22);
      const uint32_t majority = (a & b) | (c & (a | b));
      h = g, g = f, f = e, e = d + t1;
      d = c, c = b, b = a, a = t1 + sum0 + majority;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
  }
}

BlockFunction choose_blocks() {
#ifdef MM_SHA256_X86
  if (sha256_x86_supported()) return sha256_blocks_x86;
#endif
  return process_blocks_plain;
}

void process_blocks(uint32_t* state, const uint8_t* blocks, size_t count) {
  static const BlockFunction chosen = choose_blocks();  // once a process
  if (count > 0) chosen(state, blocks, count);
}

}  // namespace

void Sha256::update(const void* bytes, size_t size) {
  if (size == 0) return;  // bytes may be null then
  const uint8_t* p = static_cast<const uint8_t*>(bytes);
  const size_t filled = static_cast<size_t>(total_bytes_ % 64);
  total_bytes_ += size;
  if (filled > 0) {
    const size_t taken = size < 64 - filled ? size : 64 - filled;
    std::memcpy(block_.data() + filled, p, taken);
    p += taken, size -= taken;
    if (filled + taken < 64) return;
    process_blocks(state_.data(), block_.data(), 1);
  }
  process_blocks(state_.data(), p, size / 64);
  if (size % 64 > 0) std::memcpy(block_.data(), p + size / 64 * 64, size % 64);
}

std::array<uint8_t, 32> Sha256::finish() {
  const uint64_t total_bits = total_bytes_ * 8;
  // A one bit, zeros up to 56 modulo 64, then the length in bits as 8 big-endian bytes: 9 to 72 bytes.
  std::array<uint8_t, 72> padding = {0x80};
  const size_t zeros_end = static_cast<size_t>((119 - total_bytes_ % 64) % 64) + 1;
  for (size_t i = 0; i < 8; ++i) padding[zeros_end + i] = static_cast<uint8_t>(total_bits >> (56 - 8 * i));
  update(padding.data(), zeros_end + 8);

  std::array<uint8_t, 32> digest;
  for (size_t i = 0; i < 32; ++i) digest[i] = static_cast<uint8_t>(state_[i / 4] >> (24 - 8 * (i % 4)));
  return digest;
}

std::string to_hex(const std::array<uint8_t, 32>& digest) {
  std::string text;
  for (const uint8_t byte : digest) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

}  // namespace mm::base
