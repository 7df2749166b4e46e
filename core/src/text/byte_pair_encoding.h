// Turns text into token ids and back: byte-level BPE as GPT-2 defined it (Radford et al. 2019, section 2.2).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tensor/model_file.h"

namespace mm::text {

// A control token whose name stands somewhere in a text; bytes 0: none.
struct ControlName {
  int32_t id = -1;
  size_t bytes = 0;
};

class BytePairEncoding {
 public:
  // Reads tokenizer.ggml.{model,tokens,merges,token_type} and, if there, the boolean tokenizer.ggml.add_space_prefix
  // (text is then encoded as if a space stood in front, unless one does) and the word rule tokenizer.ggml.pre (`gpt-2`
  // or `smollm`, which makes every digit a word first). Copies what it needs.
  static base::Result<std::shared_ptr<const BytePairEncoding>> from_model(const tensor::ModelFile& model);

  // Never yields a control token, whatever the text spells. Bytes that are not UTF-8 are encoded as bytes; a byte whose
  // piece is not in the vocabulary is left out. invalid_input above 1 MiB.
  base::Result<std::vector<int32_t>> encode(std::string_view utf8) const;

  // The text of `n` ids as valid UTF-8: what is none becomes U+FFFD. Ids outside the vocabulary are skipped, as are
  // control tokens unless `skip_control` is false (then their names are written).
  std::string decode(const int32_t* ids, size_t n, bool skip_control = true) const;

  // The bytes one id stands for, maybe a part of a code point: see Utf8Stream. Empty for control tokens and unknown
  // ids.
  std::string_view piece(int32_t id) const;

  int32_t vocabulary_size() const { return static_cast<int32_t>(is_control_.size()); }
  bool is_control(int32_t id) const { return contains(id) && is_control_[static_cast<size_t>(id)]; }
  // The id of a control token by its name, e.g. "<|eos|>".
  std::optional<int32_t> control_token(std::string_view name) const;
  // The longest name of a control token that begins at `at`: for strings of the model file, never for what users write.
  ControlName control_name_at(std::string_view text, size_t at) const;

 private:
  BytePairEncoding() = default;
  struct Merge {
    int32_t right = 0;
    int32_t rank = 0;  // place in the list of merges: lower merges first
    int32_t result = 0;
  };
  struct Workspace;

  base::Status load(const tensor::ModelFile& model);
  base::Status load_tokens(const std::vector<std::string_view>& tokens, const std::vector<uint32_t>& types);
  base::Status load_merges(const std::vector<std::string_view>& tokens, const std::vector<std::string_view>& merges);
  const Merge* find_merge(int32_t left, int32_t right) const;
  void encode_word(std::string_view word, Workspace& space, std::vector<int32_t>& ids) const;
  bool contains(int32_t id) const { return id >= 0 && id < vocabulary_size(); }
  std::string_view text_of(int32_t id) const;

  std::string bytes_;              // every token's bytes, one after the other; a control token's are its name
  std::vector<uint32_t> offsets_;  // token i is bytes_[offsets_[i], offsets_[i + 1])
  std::vector<bool> is_control_;
  std::vector<int32_t> control_ids_;
  std::array<int32_t, 256> byte_ids_ = {};  // -1: the vocabulary lacks this byte
  std::vector<Merge> merges_;               // by left id, then right id
  std::vector<uint32_t> first_merge_;       // merges of left id i: merges_[first_merge_[i], first_merge_[i + 1])
  bool add_space_prefix_ = false;
  bool splits_digits_ = false;
};

// Makes valid UTF-8 of pieces as they come: holds back a code point that is not complete yet.
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);  // the text that is complete now; bytes that cannot be UTF-8 become U+FFFD
  std::string finish();                      // what was held back, as U+FFFD; the stream is empty afterwards

 private:
  std::string held_back_;  // at most 3 bytes
};

}  // namespace mm::text
