// Writes conversations as tokens: the file's strings around messages, whose control tokens count, and the messages,
// whose never do.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tensor/model_file.h"
#include "text/byte_pair_encoding.h"

namespace mm::tasks {

enum class ChatRole : int { system = 0, user = 1, assistant = 2 };
inline constexpr int chat_role_count = 3;

struct ChatMessage {
  ChatRole role = ChatRole::user;
  std::string content;
};

base::Result<ChatRole> chat_role_named(std::string_view name);

class ChatTemplate {
 public:
  // Reads mm.chat.*. The tokenizer outlives the template.
  static base::Result<std::unique_ptr<const ChatTemplate>> from_model(const tensor::ModelFile& model,
                                                                      const text::BytePairEncoding& tokenizer);

  // The conversation up to where an answer begins. Content that spells the name of a control token stays text.
  // invalid_input: no message, or a system message that is not the first.
  base::Result<std::vector<int32_t>> encode(const std::vector<ChatMessage>& messages) const;

 private:
  explicit ChatTemplate(const text::BytePairEncoding& tokenizer) : tokenizer_(tokenizer) {}
  // A string of the file, cut at its control tokens: text, then the token behind it (-1: none, the last part).
  struct Part {
    std::string text;
    int32_t control;
  };
  using Parts = std::vector<Part>;
  class Writer;

  base::Status read(const tensor::ModelFile& model, const std::string& key, Parts& parts) const;

  const text::BytePairEncoding& tokenizer_;
  Parts opening_, reply_;
  std::array<Parts, chat_role_count> prefix_, suffix_;
};

}  // namespace mm::tasks
