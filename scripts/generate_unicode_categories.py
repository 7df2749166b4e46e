"""Writes core/src/text/unicode_categories.cpp: the letters and numbers of Unicode as sorted ranges."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "core/src/text/unicode_categories.cpp"

# Unicode's White_Space property (PropList.txt), what `\s` means to the tokenizer's regular expression. Written out
# because str.isspace() of Python also counts U+001C..U+001F.
WHITE_SPACE = [
    (0x09, 0x0D),
    (0x20, 0x20),
    (0x85, 0x85),
    (0xA0, 0xA0),
    (0x1680, 0x1680),
    (0x2000, 0x200A),
    (0x2028, 0x2029),
    (0x202F, 0x202F),
    (0x205F, 0x205F),
    (0x3000, 0x3000),
]

HEAD = """// The letters, numbers and spaces of Unicode {version}; made by scripts/generate_unicode_categories.py.
#include "text/unicode_categories.h"

#include <algorithm>
#include <iterator>

namespace mm::text {{
namespace {{

struct Range {{
  uint32_t first;
  uint32_t last;
}};

"""

FOOT = """template <size_t n>
bool contains(const Range (&ranges)[n], uint32_t code_point) {
  const Range* after = std::upper_bound(std::begin(ranges), std::end(ranges), code_point,
                                        [](uint32_t value, const Range& range) { return value < range.first; });
  return after != std::begin(ranges) && code_point <= std::prev(after)->last;
}

}  // namespace

Category category_of(uint32_t code_point) {
  if (contains(letters, code_point)) return Category::letter;
  if (contains(numbers, code_point)) return Category::number;
  return contains(spaces, code_point) ? Category::space : Category::other;
}

}  // namespace mm::text
"""


def ranges_of(major_category: str) -> list[tuple[int, int]]:
    """Returns the inclusive ranges of code points whose general category begins with one letter."""
    ranges: list[tuple[int, int]] = []
    for code_point in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code_point))[0] != major_category:
            continue
        if ranges and ranges[-1][1] == code_point - 1:
            ranges[-1] = (ranges[-1][0], code_point)
        else:
            ranges.append((code_point, code_point))
    return ranges


def table(name: str, ranges: list[tuple[int, int]]) -> str:
    """Returns one C++ array of ranges, six a line."""
    cells = [f"{{0x{first:x}, 0x{last:x}}}" for first, last in ranges]
    lines = ["    " + ", ".join(cells[i : i + 6]) + "," for i in range(0, len(cells), 6)]
    return "\n".join([f"constexpr Range {name}[] = {{", *lines, "};\n\n"])


def main() -> None:
    """Writes the file."""
    text = HEAD.format(version=unicodedata.unidata_version)
    text += "// clang-format off\n"
    text += table("letters", ranges_of("L")) + table("numbers", ranges_of("N")) + table("spaces", WHITE_SPACE)
    text += "// clang-format on\n"
    TARGET.write_text(text + FOOT, encoding="utf-8")


if __name__ == "__main__":
    main()
