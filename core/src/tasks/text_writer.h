// Joins pieces to text and cuts it at stop texts, piece by piece.
#pragma once

#include <string>
#include <vector>

#include "text/byte_pair_encoding.h"

namespace mm::tasks {

// A stream and a whole text read the same: both are written by this.
class TextWriter {
 public:
  // Both outlive the writer.
  TextWriter(const text::BytePairEncoding& tokenizer, const std::vector<std::string>& stop)
      : tokenizer_(tokenizer), stop_(stop) {}

  // The new text of this token. Text that may turn out to be the begin of a stop text is held back.
  std::string add(int32_t token);
  // What was held back.
  std::string finish();
  bool is_stopped() const { return is_stopped_; }

 private:
  std::string take(size_t end);

  const text::BytePairEncoding& tokenizer_;
  const std::vector<std::string>& stop_;
  text::Utf8Stream characters_;
  std::string raw_;
  size_t written_ = 0;
  bool is_stopped_ = false;
};

}  // namespace mm::tasks
