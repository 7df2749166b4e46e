// Folds code points as BERT's uncased normalizer does: canonical decomposition, no nonspacing marks, lower case.
#pragma once

#include <cstdint>

namespace mm::text {

// What a code point becomes; none for a nonspacing mark.
struct Folded {
  uint32_t code_points[3];
  int count;
};
Folded fold(uint32_t code_point);

bool is_removed(uint32_t code_point);  // control, format and private-use characters, U+FFFD
bool is_punctuation(uint32_t code_point);
// The canonical combining class of a mark that folding leaves; 0: none. Neighbours stand in the order of their classes.
int combining_class(uint32_t code_point);
bool is_starter_mark(uint32_t code_point);  // a nonspacing mark of class 0: others do not move past it

}  // namespace mm::text
