// Turns text into word pieces as BERT uncased does: fold, split at spaces and punctuation, longest piece first
// (Devlin et al. 2018; Wu et al. 2016, section 4.1).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tensor/model_file.h"

namespace mm::text {

class WordPiece {
 public:
  // Reads mm.wordpiece.tokens; it must hold [PAD], [UNK], [CLS] and [SEP]. Copies what it needs.
  static base::Result<std::shared_ptr<const WordPiece>> from_model(const tensor::ModelFile& model);

  // The pieces of a text, none of them a control token whatever the text spells, but unknown() for a word that has no
  // pieces. invalid_input when the text is no UTF-8 or above 64 KiB.
  base::Result<std::vector<int32_t>> encode(std::string_view utf8) const;

  int32_t vocabulary_size() const { return static_cast<int32_t>(offsets_.size()) - 1; }
  int32_t unknown() const { return unknown_; }
  int32_t begin() const { return begin_; }          // [CLS]
  int32_t separator() const { return separator_; }  // [SEP]

 private:
  WordPiece() = default;
  base::Status load(const tensor::ModelFile& model);
  std::string_view name(int32_t id) const;
  int32_t find(std::string_view piece) const;  // -1: absent
  void encode_word(const std::vector<uint32_t>& word, std::vector<int32_t>& ids) const;

  std::string bytes_;              // every token's bytes, one after the other
  std::vector<uint32_t> offsets_;  // token i is bytes_[offsets_[i], offsets_[i + 1])
  std::vector<int32_t> order_;     // ids by name
  size_t longest_ = 0;             // bytes of the longest token
  int32_t unknown_ = -1, begin_ = -1, separator_ = -1;
};

}  // namespace mm::text
