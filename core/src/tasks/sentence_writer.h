// Makes a sentence of lower-case model text, piece by piece.
#pragma once

#include <string>
#include <vector>

#include "tasks/text_writer.h"

namespace mm::tasks {

// Gives what a TextWriter writes a capital letter and a full stop.
class SentenceWriter {
 public:
  // Both outlive the writer.
  SentenceWriter(const text::BytePairEncoding& tokenizer, const std::vector<std::string>& stop)
      : writer_(tokenizer, stop) {}

  // The new text of this token. Text that may turn out to be the begin of a stop text is held back.
  std::string add(int32_t token) { return polished(writer_.add(token)); }
  // What was held back, and the full stop when the model ended the sentence itself.
  std::string finish(bool is_ended);
  bool is_stopped() const { return writer_.is_stopped(); }

 private:
  std::string polished(std::string piece);

  TextWriter writer_;
  bool has_text_ = false, ends_sentence_ = false;
};

}  // namespace mm::tasks
