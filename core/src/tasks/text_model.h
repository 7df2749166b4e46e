// What a file says about writing text: how long, which tokens begin and end one, and how a conversation is put.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "ops/state.h"
#include "tasks/chat_template.h"
#include "tasks/generation.h"
#include "tensor/model_file.h"
#include "text/byte_pair_encoding.h"

namespace mm::tasks {

class TextModel {
 public:
  // Reads mm.generate.* and, if there, mm.chat.*. The tokenizer outlives the model.
  static base::Result<std::unique_ptr<const TextModel>> from_model(const tensor::ModelFile& model,
                                                                   const text::BytePairEncoding& tokenizer,
                                                                   const std::vector<ops::StateInfo>& states);

  int context() const { return context_; }  // the most tokens of a text, prompt included
  // What ends a text; every other control token is never generated.
  const TokenIds& ids() const { return ids_; }
  const ChatTemplate* chat() const { return chat_.get(); }  // nullptr: prompts are continued as they are
  // A text to be continued as it is, behind the token that stands in front of every text, if there is one.
  base::Result<std::vector<int32_t>> encode(std::string_view text) const;
  base::Result<std::vector<int32_t>> encode(const std::vector<ChatMessage>& messages) const;

 private:
  explicit TextModel(const text::BytePairEncoding& tokenizer) : tokenizer_(tokenizer) {}
  base::Result<std::vector<int32_t>> begun(std::vector<int32_t> tokens) const;

  const text::BytePairEncoding& tokenizer_;
  int context_ = 0;
  int32_t begin_ = -1;  // -1: none
  TokenIds ids_;
  std::unique_ptr<const ChatTemplate> chat_;
};

}  // namespace mm::tasks
