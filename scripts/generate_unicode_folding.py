"""Writes core/src/text/unicode_folding.cpp: what BERT's uncased normalizer makes of each code point.

The tables are asked of the package `tokenizers`, code point by code point, and not taken from one version of Unicode:
its categories, its decompositions and its lower case are of three versions, and the models' texts went through it.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

from tokenizers import __version__, normalizers, pre_tokenizers

TARGET = Path(__file__).resolve().parent.parent / "core/src/text/unicode_folding.cpp"
HANGUL = range(0xAC00, 0xD7A4)  # 11,172 syllables, decomposed by arithmetic
CODE_POINTS = [c for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]

CLEAN = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
FOLD = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=True)
DECOMPOSE = normalizers.NFD()
SPLIT = pre_tokenizers.BertPreTokenizer()
OVERLAY = "\u0334"  # combining class 1: it moves in front of every other mark that it may pass
TONE_MARK = "\u302e"  # combining class 224

HEAD = """// What BERT's uncased normalizer makes of each code point, as tokenizers {version} does it; made by
// scripts/generate_unicode_folding.py.
#include "text/unicode_folding.h"

#include <algorithm>
#include <iterator>

namespace mm::text {{
namespace {{

struct Range {{
  uint32_t first;
  uint32_t last;
}};

// The code points first, first + step, .. last become target, target + step, ..
struct Shift {{
  uint32_t first;
  uint32_t last;
  uint32_t step;
  uint32_t target;
}};

struct Expansion {{
  uint32_t from;
  uint32_t to[3];  // 0: none
}};

struct Order {{
  uint32_t first;
  uint32_t last;
  int combining_class;
}};

"""

FOOT = """constexpr uint32_t hangul_first = 0xAC00, hangul_last = 0xD7A3;  // Unicode 3.12: syllables of three jamo
constexpr uint32_t jamo_leading = 0x1100, jamo_vowel = 0x1161, jamo_trailing = 0x11A7;
constexpr uint32_t vowel_count = 21, trailing_count = 28;

// The entry that holds the code point; nullptr: none.
template <class Entry, size_t n>
const Entry* find(const Entry (&entries)[n], uint32_t code_point) {
  const Entry* after = std::upper_bound(std::begin(entries), std::end(entries), code_point,
                                        [](uint32_t value, const Entry& entry) { return value < entry.first; });
  if (after == std::begin(entries)) return nullptr;
  const Entry* entry = std::prev(after);
  return code_point <= entry->last ? entry : nullptr;
}

}  // namespace

bool is_removed(uint32_t code_point) { return find(removed, code_point) != nullptr; }

bool is_punctuation(uint32_t code_point) { return find(punctuation, code_point) != nullptr; }

int combining_class(uint32_t code_point) {
  const Order* order = find(orders, code_point);
  return order == nullptr ? 0 : order->combining_class;
}

bool is_starter_mark(uint32_t code_point) { return find(starter_marks, code_point) != nullptr; }

Folded fold(uint32_t code_point) {
  if (code_point >= hangul_first && code_point <= hangul_last) {
    const uint32_t index = code_point - hangul_first;
    const uint32_t trailing = index % trailing_count;
    return {{jamo_leading + index / (vowel_count * trailing_count), jamo_vowel + index / trailing_count % vowel_count,
             jamo_trailing + trailing},
            trailing == 0 ? 2 : 3};
  }
  if (find(marks, code_point) != nullptr || is_starter_mark(code_point)) return {{}, 0};
  const Shift* shift = find(shifts, code_point);
  if (shift != nullptr && (code_point - shift->first) % shift->step == 0)
    return {{shift->target + (code_point - shift->first)}, 1};
  const Expansion* expansion =
      std::lower_bound(std::begin(expansions), std::end(expansions), code_point,
                       [](const Expansion& entry, uint32_t value) { return entry.from < value; });
  if (expansion != std::end(expansions) && expansion->from == code_point)
    return {{expansion->to[0], expansion->to[1], expansion->to[2]}, expansion->to[2] == 0 ? 2 : 3};
  return {{code_point}, 1};
}

}  // namespace mm::text
"""


def ranges_where(holds: Callable[[int], bool], code_points: Iterable[int] = CODE_POINTS) -> list[tuple[int, ...]]:
    """Returns the inclusive ranges of code points for which `holds` is true."""
    ranges: list[tuple[int, ...]] = []
    for code_point in code_points:
        if holds(code_point):
            if ranges and ranges[-1][1] == code_point - 1:
                ranges[-1] = (ranges[-1][0], code_point)
            else:
                ranges.append((code_point, code_point))
    return ranges


def shifts_of(folded: dict[int, str]) -> list[tuple[int, ...]]:
    """Returns (first, last, step, target) runs of the code points that become one other code point.

    Capital and small letters often take turns: runs of step 2 make one entry of them.
    """
    runs: list[list[int]] = []
    for code_point, text in folded.items():
        if len(text) != 1:
            continue
        target = ord(text)
        if runs:
            first, last, step, begin = runs[-1]
            distance = code_point - last
            is_alike = target - code_point == begin - first and (distance == step or (first == last and distance == 2))
            if is_alike:
                runs[-1] = [first, code_point, distance, begin]
                continue
        runs.append([code_point, code_point, 1, target])
    return [tuple(run) for run in runs]


def order_of(code_point: int) -> int:
    """The combining class, 0 where the package's Unicode does not know the code point as a mark."""
    is_known = DECOMPOSE.normalize_str(f"a{chr(code_point)}{OVERLAY}") == f"a{OVERLAY}{chr(code_point)}"
    return unicodedata.combining(chr(code_point)) if is_known else 0


def is_starter_mark(code_point: int) -> bool:
    """Whether no mark may pass this one when marks are put in order."""
    text = DECOMPOSE.normalize_str(f"a{TONE_MARK}{chr(code_point)}{OVERLAY}")
    return text.index(TONE_MARK) < text.rindex(OVERLAY)


def orders_of(folded: dict[int, str]) -> list[tuple[int, ...]]:
    """Returns (first, last, combining class) of the marks that folding leaves."""
    orders: list[tuple[int, ...]] = []
    for code_point in CODE_POINTS:
        order = 0 if folded.get(code_point) == "" or code_point in HANGUL else order_of(code_point)
        if order == 0:
            continue
        if orders and orders[-1][1] == code_point - 1 and orders[-1][2] == order:
            orders[-1] = (orders[-1][0], code_point, order)
        else:
            orders.append((code_point, code_point, order))
    return orders


def table(kind: str, name: str, entries: Iterable[str], a_line: int) -> str:
    """Returns one C++ array, `a_line` entries a line."""
    cells = list(entries)
    lines = ["    " + ", ".join(cells[i : i + a_line]) + "," for i in range(0, len(cells), a_line)]
    return "\n".join([f"constexpr {kind} {name}[] = {{", *lines, "};\n\n"])


def cell(values: Iterable[int]) -> str:
    """One entry; numbers from 10 on are code points, below they count."""
    return "{" + ", ".join(f"0x{value:x}" if value > 9 else str(value) for value in values) + "}"


def main() -> None:
    """Writes the file."""
    folded = {
        code_point: text
        for code_point in CODE_POINTS
        if code_point not in HANGUL and (text := FOLD.normalize_str(chr(code_point))) != chr(code_point)
    }
    marks = [code_point for code_point, text in folded.items() if text == ""]
    text = HEAD.format(version=__version__) + "// clang-format off\n"
    removed = ranges_where(lambda c: CLEAN.normalize_str(f"a{chr(c)}b") == "ab")
    text += table("Range", "removed", map(cell, removed), 6)
    punctuation = ranges_where(lambda c: len(SPLIT.pre_tokenize_str(f"a{chr(c)}b")) == 3)
    text += table("Range", "punctuation", map(cell, punctuation), 6)
    text += table("Range", "marks", map(cell, ranges_where(lambda c: not is_starter_mark(c), marks)), 6)
    text += table("Range", "starter_marks", map(cell, ranges_where(is_starter_mark, marks)), 6)
    text += table("Order", "orders", (f"{{0x{a:x}, 0x{b:x}, {order}}}" for a, b, order in orders_of(folded)), 5)
    text += table("Shift", "shifts", map(cell, shifts_of(folded)), 4)
    expansions = [(code_point, list(map(ord, text))) for code_point, text in folded.items() if len(text) > 1]
    cells = (f"{{0x{code_point:x}, {cell(parts)}}}" for code_point, parts in expansions)
    text += table("Expansion", "expansions", cells, 3)
    TARGET.write_text(text + "// clang-format on\n" + FOOT, encoding="utf-8")


if __name__ == "__main__":
    main()
