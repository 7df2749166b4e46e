// Reads UTF-8 one code point at a time, strictly: no overlong forms, no surrogates, nothing above U+10FFFF (RFC 3629).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace mm::base {

struct Utf8Step {
  uint32_t code_point = 0;
  int bytes = 0;  // the sequence's length; when invalid, of its longest prefix that could have begun one (>= 1)
  bool is_valid = false;
  bool is_cut_off = false;  // invalid only because the text ends: more bytes could complete it
};

// Reads the sequence at text[at]; at < text.size().
inline Utf8Step read_utf8(std::string_view text, size_t at) {
  const uint8_t first = static_cast<uint8_t>(text[at]);
  if (first < 0x80) return {first, 1, true, false};
  if (first < 0xC2 || first > 0xF4) return {0, 1, false, false};
  const int length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  // The second byte's range is what rules out overlong forms, surrogates and code points above U+10FFFF.
  uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  uint32_t code_point = first & (length == 2 ? 0x1Fu : length == 3 ? 0x0Fu : 0x07u);
  for (int i = 1; i < length; ++i) {
    if (at + static_cast<size_t>(i) >= text.size()) return {0, i, false, true};
    const uint8_t next = static_cast<uint8_t>(text[at + static_cast<size_t>(i)]);
    if (next < low || next > high) return {0, i, false, false};
    code_point = code_point << 6 | (next & 0x3Fu);
    low = 0x80;
    high = 0xBF;
  }
  return {code_point, length, true, false};
}

inline bool is_valid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = read_utf8(text, at);
    if (!step.is_valid) return false;
    at += static_cast<size_t>(step.bytes);
  }
  return true;
}

}  // namespace mm::base
