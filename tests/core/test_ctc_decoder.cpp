// Decodes sequences whose text is known, and joins halves of one.
#include "text/ctc_decoder.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.h"

namespace {

using mm::text::CtcSteps;

const std::vector<std::string_view> letters = {"a", "b", "\xC3\xA9", " "};  // classes 1 to 4

CtcSteps steps_of(const std::vector<int>& classes, float probability = 0.75f) {
  CtcSteps steps;
  for (const int c : classes) {
    steps.classes.push_back(c);
    steps.probabilities.push_back(probability);
    steps.blanks.push_back(c == 0 ? probability : 0.1f);
  }
  return steps;
}

void test_cases() {
  const struct {
    std::vector<int> classes;
    std::string text;
    size_t characters;
  } cases[] = {
      {{}, "", 0},           {{0, 0, 0}, "", 0},
      {{1}, "a", 1},         {{1, 1, 1}, "a", 1},
      {{1, 0, 1}, "aa", 2},  {{0, 1, 1, 0, 0, 2, 2, 0}, "ab", 2},
      {{1, 2, 1}, "aba", 3}, {{3, 4, 4, 3}, "\xC3\xA9 \xC3\xA9", 3},
      {{1, 5, 2}, "ab", 2},  // no such character
      {{1, -1, 2}, "ab", 2},
  };
  for (const auto& c : cases) {
    const mm::text::DecodedLine line = decode_best_path(steps_of(c.classes), letters);
    MM_CHECK(line.text == c.text);
    MM_CHECK(line.probabilities.size() == c.characters);
    MM_CHECK(line.confidence == (c.characters == 0 ? 0.0f : 0.75f));
  }
  CtcSteps mixed = steps_of({1, 1, 0, 2});
  mixed.probabilities = {0.5f, 0.9f, 1.0f, 1.0f};
  const mm::text::DecodedLine line = decode_best_path(mixed, letters);
  MM_CHECK((line.probabilities == std::vector<float>{0.5f, 1.0f}));  // a character's first step
  MM_CHECK(line.confidence == 0.75f);
}

void test_best_steps() {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const std::vector<float> rows = {0.1f, 0.7f, 0.2f,  //
                                   0.4f, 0.4f, 0.2f,  // a tie: the first
                                   nan,  0.3f, 0.1f,  //
                                   nan,  nan,  nan,   //
                                   -inf, -2.f, inf};
  CtcSteps best;
  mm::text::append_best_steps(rows.data(), 5, 3, best);
  MM_CHECK((best.classes == std::vector<int>{1, 0, 1, 0, 2}));
  MM_CHECK((best.probabilities == std::vector<float>{0.7f, 0.4f, 0.3f, 0.0f, 1.0f}));
  MM_CHECK((best.blanks == std::vector<float>{0.1f, 0.4f, 0.0f, 0.0f, 0.0f}));
}

// Both halves of a line see the overlap, each with its outermost character spoilt: the text must come out whole.
void test_joined() {
  std::mt19937 generator(3);
  for (int run = 0; run < 500; ++run) {
    std::vector<int> classes;
    for (int i = 0; i < 20; ++i) {
      for (int blanks = 1 + static_cast<int>(generator() % 3); blanks > 0; --blanks) classes.push_back(0);
      const int letter = 1 + static_cast<int>(generator() % 4);
      for (int repeats = 1 + static_cast<int>(generator() % 2); repeats > 0; --repeats) classes.push_back(letter);
    }
    const size_t overlap = 12, cut = overlap + generator() % (classes.size() - 2 * overlap);
    std::vector<int> left(classes.begin(), classes.begin() + static_cast<long>(cut + overlap));
    std::vector<int> right(classes.begin() + static_cast<long>(cut), classes.end());
    for (size_t i = 0; i < 3; ++i) left[left.size() - 1 - i] = right[i] = 1 + static_cast<int>(generator() % 4);
    const CtcSteps both = joined(steps_of(left), steps_of(right), static_cast<int>(overlap));
    MM_CHECK(both.classes.size() == classes.size());
    MM_CHECK(decode_best_path(both, letters).text == decode_best_path(steps_of(classes), letters).text);
  }
  MM_CHECK((joined(steps_of({1, 2}), steps_of({3}), 0).classes == std::vector<int>{1, 2, 3}));
  MM_CHECK(joined(steps_of({1, 2}), steps_of({1, 2}), 2).classes.size() == 2);
}

}  // namespace

int main() {
  test_cases();
  test_best_steps();
  test_joined();
  return mm::test::finish("ctc_decoder");
}
