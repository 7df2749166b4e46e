// Gives text a capital letter and a full stop.
#include "tasks/sentence_writer.h"

namespace mm::tasks {

std::string SentenceWriter::finish(bool is_ended) {
  std::string rest = polished(writer_.finish());
  if (is_ended && has_text_ && !ends_sentence_) rest += '.';
  return rest;
}

std::string SentenceWriter::polished(std::string piece) {
  if (!has_text_) {
    size_t blank = 0;
    while (blank < piece.size() && piece[blank] == ' ') ++blank;
    piece.erase(0, blank);
    if (!piece.empty()) {
      if (piece[0] >= 'a' && piece[0] <= 'z') piece[0] = static_cast<char>(piece[0] - 'a' + 'A');
      has_text_ = true;
    }
  }
  if (!piece.empty()) ends_sentence_ = piece.back() == '.' || piece.back() == '!' || piece.back() == '?';
  return piece;
}

}  // namespace mm::tasks
