// Says whether a code point is a letter, a number or a space, as the tokenizer's word rule asks.
#pragma once

#include <cstdint>

namespace mm::text {

enum class Category : uint8_t {
  letter,  // \p{L}
  number,  // \p{N}
  space,   // \s: the White_Space property
  other,
};

Category category_of(uint32_t code_point);

}  // namespace mm::text
