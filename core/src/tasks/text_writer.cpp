// Joins pieces to text and cuts it at stop texts, piece by piece.
#include "tasks/text_writer.h"

#include <algorithm>

namespace mm::tasks {

std::string TextWriter::add(int32_t token) {
  raw_ += characters_.push(tokenizer_.piece(token));
  size_t end = raw_.size();
  for (const std::string& stop : stop_) {
    const size_t found = raw_.find(stop, written_);  // what was written cannot be the begin of one
    if (found != std::string::npos) {
      is_stopped_ = true;
      end = std::min(end, found);
    }
  }
  if (!is_stopped_)
    for (const std::string& stop : stop_)
      for (size_t length = std::min(stop.size() - 1, raw_.size() - written_); length > 0; --length)
        if (raw_.compare(raw_.size() - length, length, stop, 0, length) == 0) {
          end = std::min(end, raw_.size() - length);
          break;
        }
  return take(end);
}

std::string TextWriter::finish() {
  raw_ += characters_.finish();
  return is_stopped_ ? std::string() : take(raw_.size());
}

std::string TextWriter::take(size_t end) {
  std::string piece = raw_.substr(written_, end > written_ ? end - written_ : 0);
  written_ = std::max(written_, end);
  return piece;
}

}  // namespace mm::tasks
