// Takes the best class of each step and folds steps into characters.
#include "text/ctc_decoder.h"

#include <algorithm>

namespace mm::text {

namespace {
float as_probability(float value) { return value > 0 ? std::min(value, 1.0f) : 0.0f; }  // NaN: 0
}  // namespace

void append_best_steps(const float* probabilities, int steps, int classes, CtcSteps& best) {
  for (int step = 0; step < steps; ++step) {
    const float* row = probabilities + static_cast<size_t>(step) * static_cast<size_t>(classes);
    int winner = 0;
    for (int c = 1; c < classes; ++c)
      if (row[c] > row[winner] || row[winner] != row[winner]) winner = c;
    if (row[winner] != row[winner]) winner = 0;  // nothing but NaN
    best.classes.push_back(winner);
    best.probabilities.push_back(as_probability(row[winner]));
    best.blanks.push_back(as_probability(row[0]));
  }
}

CtcSteps joined(const CtcSteps& left, const CtcSteps& right, int overlap) {
  const size_t shift = left.blanks.size() - static_cast<size_t>(overlap);
  // Step `change` of the overlap is the first that comes from the right. The middle wins ties: there both strips know
  // most of the line around.
  size_t change = static_cast<size_t>(overlap) / 2;
  float best = -1;
  for (size_t i = 0; i < static_cast<size_t>(overlap); ++i) {
    const size_t offset = (i + 1) / 2, middle = static_cast<size_t>(overlap) / 2;
    const size_t at = i % 2 == 0 ? middle + offset : middle - offset;  // middle, middle - 1, middle + 1, ...
    if (at >= static_cast<size_t>(overlap)) continue;
    const float score = left.blanks[shift + at] * right.blanks[at];
    if (score > best) {
      best = score;
      change = at;
    }
  }
  CtcSteps both;
  const auto join = [&](const auto& a, const auto& b, auto& out) {
    out.assign(a.begin(), a.begin() + static_cast<long>(shift + change));
    out.insert(out.end(), b.begin() + static_cast<long>(change), b.end());
  };
  join(left.classes, right.classes, both.classes);
  join(left.probabilities, right.probabilities, both.probabilities);
  join(left.blanks, right.blanks, both.blanks);
  return both;
}

DecodedLine decode_best_path(const CtcSteps& steps, const std::vector<std::string_view>& characters) {
  DecodedLine line;
  double total = 0;
  for (size_t i = 0; i < steps.classes.size(); ++i) {
    const int best = steps.classes[i];
    if (best == 0 || (i > 0 && best == steps.classes[i - 1])) continue;
    if (best < 0 || static_cast<size_t>(best) > characters.size()) continue;
    line.text += characters[static_cast<size_t>(best) - 1];
    line.probabilities.push_back(steps.probabilities[i]);
    total += static_cast<double>(steps.probabilities[i]);
  }
  if (!line.probabilities.empty())
    line.confidence = static_cast<float>(total / static_cast<double>(line.probabilities.size()));
  return line;
}

}  // namespace mm::text
