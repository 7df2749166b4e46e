// Reads text out of the steps of a recognizer trained with connectionist temporal classification (Graves et al. 2006).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mm::text {

// The likeliest class of each step; class 0 is the blank that separates characters.
struct CtcSteps {
  std::vector<int> classes;
  std::vector<float> probabilities;  // 0 to 1
  std::vector<float> blanks;         // the blank's probability, 0 to 1
};

// Appends the best class of each of `steps` rows of `classes` probabilities; NaN is never best.
void append_best_steps(const float* probabilities, int steps, int classes, CtcSteps& best);

// Two sequences of steps over strips of one line that overlap by `overlap` steps become one. It changes over where both
// are surest to stand between characters, so that none is cut or read twice. `overlap` fits in both.
CtcSteps joined(const CtcSteps& left, const CtcSteps& right, int overlap);

struct DecodedLine {
  std::string text;                  // UTF-8
  std::vector<float> probabilities;  // of each character (entry of the table)
  float confidence = 0;              // their mean; 0 for no characters
};

// Best path decoding: repeats fall together, then blanks fall away. `characters[i]` is the text of class i + 1; a class
// beyond the table is skipped.
DecodedLine decode_best_path(const CtcSteps& steps, const std::vector<std::string_view>& characters);

}  // namespace mm::text
