// Reads mm.generate.* and checks it against tokenizer and caches.
#include "tasks/text_model.h"

#include <algorithm>
#include <limits>

namespace mm::tasks {

namespace {
constexpr size_t end_tokens_most = 64;
constexpr int context_most = 1 << 16;
}  // namespace

base::Result<std::unique_ptr<const TextModel>> TextModel::from_model(const tensor::ModelFile& model,
                                                                     const text::BytePairEncoding& tokenizer,
                                                                     const std::vector<ops::StateInfo>& states) {
  std::unique_ptr<TextModel> made(new TextModel(tokenizer));
  made->context_ = std::numeric_limits<int>::max();
  for (const ops::StateInfo& state : states)
    if (state.kind == ops::StateKind::cache) made->context_ = std::min(made->context_, state.rows);
  if (made->context_ > context_most)
    return base::model_format("program `decode_text` needs caches of 1 to " + std::to_string(context_most) +
                              " positions in `mm.state.rows`");
  MM_ASSIGN_OR_RETURN(const std::vector<uint32_t> ends, model.words("mm.generate.end_tokens"));
  if (ends.empty() || ends.size() > end_tokens_most)
    return base::model_format("`mm.generate.end_tokens` has " + std::to_string(ends.size()) +
                              " tokens, expected 1 to " + std::to_string(end_tokens_most));
  const int32_t vocabulary = tokenizer.vocabulary_size();
  for (const uint32_t end : ends) {
    if (end >= static_cast<uint32_t>(vocabulary))
      return base::model_format("`mm.generate.end_tokens` holds " + std::to_string(end) + ", expected tokens below " +
                                std::to_string(vocabulary));
    made->ids_.more_ends.push_back(static_cast<int32_t>(end));
  }
  made->ids_.end = made->ids_.more_ends.front();
  for (int32_t token = 0; token < vocabulary; ++token)
    if (tokenizer.is_control(token) && !made->ids_.is_end(token)) made->ids_.forbidden.push_back(token);
  if (static_cast<size_t>(vocabulary) <= made->ids_.forbidden.size() + ends.size())
    return base::model_format("`tokenizer.ggml.tokens` has no token of text, expected at least one");
  if (model.find("mm.generate.begin_token") != nullptr) {
    MM_ASSIGN_OR_RETURN(const int64_t begin, model.integer("mm.generate.begin_token"));
    if (begin < 0 || begin >= vocabulary)
      return base::model_format("`mm.generate.begin_token` is " + std::to_string(begin) + ", expected a token below " +
                                std::to_string(vocabulary));
    made->begin_ = static_cast<int32_t>(begin);
  }
  if (model.find("mm.chat.reply") != nullptr) {
    MM_ASSIGN_OR_RETURN(made->chat_, ChatTemplate::from_model(model, tokenizer));
  }
  return std::unique_ptr<const TextModel>(std::move(made));
}

base::Result<std::vector<int32_t>> TextModel::encode(std::string_view text) const {
  MM_ASSIGN_OR_RETURN(std::vector<int32_t> tokens, tokenizer_.encode(text));
  return begun(std::move(tokens));
}

base::Result<std::vector<int32_t>> TextModel::encode(const std::vector<ChatMessage>& messages) const {
  if (chat_ == nullptr)
    return base::not_found("the model file has no chat template (`mm.chat.reply`), so it cannot put messages");
  MM_ASSIGN_OR_RETURN(std::vector<int32_t> tokens, chat_->encode(messages));
  return begun(std::move(tokens));
}

base::Result<std::vector<int32_t>> TextModel::begun(std::vector<int32_t> tokens) const {
  if (begin_ >= 0 && (tokens.empty() || tokens.front() != begin_)) tokens.insert(tokens.begin(), begin_);
  if (tokens.empty()) return base::invalid_input("the prompt has no tokens, expected at least one", "write a word");
  return tokens;
}

}  // namespace mm::tasks
