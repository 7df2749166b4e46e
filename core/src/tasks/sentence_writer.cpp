// Joins pieces to text, cuts it at stop texts, and gives it a capital letter and a full stop.
#include "tasks/sentence_writer.h"

#include <algorithm>

namespace mm::tasks {

std::string SentenceWriter::add(int32_t token) {
  raw_ += characters_.push(tokenizer_.piece(token));
  size_t end = raw_.size();
  for (const std::string& stop : stop_) {
    const size_t found = raw_.find(stop);
    if (found != std::string::npos) {
      is_stopped_ = true;
      end = std::min(end, found);
    }
  }
  if (!is_stopped_)
    for (const std::string& stop : stop_)
      for (size_t length = std::min(stop.size() - 1, raw_.size()); length > 0; --length)
        if (raw_.compare(raw_.size() - length, length, stop, 0, length) == 0) {
          end = std::min(end, raw_.size() - length);
          break;
        }
  return take(end);
}

std::string SentenceWriter::finish(bool is_ended) {
  raw_ += characters_.finish();
  std::string rest = is_stopped_ ? std::string() : take(raw_.size());
  if (is_ended && has_text_ && !ends_sentence_) rest += '.';
  return rest;
}

std::string SentenceWriter::take(size_t end) {
  std::string piece = raw_.substr(written_, end > written_ ? end - written_ : 0);
  written_ = std::max(written_, end);
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
