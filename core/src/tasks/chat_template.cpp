// Cuts the template's strings at control tokens once, when the file is opened, and joins them with messages.
#include "tasks/chat_template.h"

namespace mm::tasks {

namespace {
constexpr std::array<const char*, chat_role_count> role_names = {"system", "user", "assistant"};
constexpr size_t string_bytes_most = 4096;
}  // namespace

base::Result<ChatRole> chat_role_named(std::string_view name) {
  for (size_t i = 0; i < role_names.size(); ++i)
    if (name == role_names[i]) return static_cast<ChatRole>(i);
  return base::invalid_input("the role `" + std::string(name.substr(0, 100)) +
                             "` of a message, expected `system`, `user` or `assistant`");
}

// Collects tokens. Text waits until a control token ends it, so that words are cut as in the whole conversation.
class ChatTemplate::Writer {
 public:
  explicit Writer(const text::BytePairEncoding& tokenizer) : tokenizer_(tokenizer) {}

  void add_text(std::string_view text) { waiting_ += text; }
  base::Status add(const Parts& parts) {
    for (const Part& part : parts) {
      waiting_ += part.text;
      if (part.control < 0) continue;
      MM_RETURN_IF_ERROR(write_text());
      tokens_.push_back(part.control);
    }
    return {};
  }
  base::Result<std::vector<int32_t>> finish() {
    MM_RETURN_IF_ERROR(write_text());
    return std::move(tokens_);
  }

 private:
  base::Status write_text() {
    MM_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, tokenizer_.encode(waiting_));
    tokens_.insert(tokens_.end(), ids.begin(), ids.end());
    waiting_.clear();
    return {};
  }

  const text::BytePairEncoding& tokenizer_;
  std::string waiting_;
  std::vector<int32_t> tokens_;
};

base::Result<std::unique_ptr<const ChatTemplate>> ChatTemplate::from_model(const tensor::ModelFile& model,
                                                                           const text::BytePairEncoding& tokenizer) {
  std::unique_ptr<ChatTemplate> made(new ChatTemplate(tokenizer));
  MM_RETURN_IF_ERROR(made->read(model, "mm.chat.opening", made->opening_));
  MM_RETURN_IF_ERROR(made->read(model, "mm.chat.reply", made->reply_));
  for (size_t i = 0; i < role_names.size(); ++i) {
    const std::string key = std::string("mm.chat.") + role_names[i];
    MM_RETURN_IF_ERROR(made->read(model, key + ".prefix", made->prefix_[i]));
    MM_RETURN_IF_ERROR(made->read(model, key + ".suffix", made->suffix_[i]));
  }
  return std::unique_ptr<const ChatTemplate>(std::move(made));
}

base::Status ChatTemplate::read(const tensor::ModelFile& model, const std::string& key, Parts& parts) const {
  MM_ASSIGN_OR_RETURN(const std::string_view text, model.string(key));
  if (text.size() > string_bytes_most)
    return base::model_format("`" + key + "` has " + std::to_string(text.size()) + " bytes, expected at most " +
                              std::to_string(string_bytes_most));
  parts.push_back({{}, -1});
  for (size_t at = 0; at < text.size();) {
    const text::ControlName found = tokenizer_.control_name_at(text, at);
    if (found.bytes == 0) {
      parts.back().text += text[at++];
      continue;
    }
    parts.back().control = found.id;
    parts.push_back({{}, -1});
    at += found.bytes;
  }
  return {};
}

base::Result<std::vector<int32_t>> ChatTemplate::encode(const std::vector<ChatMessage>& messages) const {
  if (messages.empty()) return base::invalid_input("a conversation without messages, expected at least one");
  Writer writer(tokenizer_);
  if (messages.front().role != ChatRole::system) MM_RETURN_IF_ERROR(writer.add(opening_));
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role == ChatRole::system && i > 0)
      return base::invalid_input("message " + std::to_string(i) +
                                 " has the role `system`, which the first alone may have");
    const size_t role = static_cast<size_t>(messages[i].role);
    MM_RETURN_IF_ERROR(writer.add(prefix_[role]));
    writer.add_text(messages[i].content);
    MM_RETURN_IF_ERROR(writer.add(suffix_[role]));
  }
  MM_RETURN_IF_ERROR(writer.add(reply_));
  return writer.finish();
}

}  // namespace mm::tasks
