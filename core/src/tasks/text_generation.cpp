// Reads prompts, samples tokens and writes them out, over one sequence of a session's caches.
#include "tasks/text_generation.h"

#include <algorithm>
#include <utility>

#include "tasks/call.h"
#include "tasks/search.h"
#include "tasks/text_writer.h"

namespace mm::tasks {

namespace {

// Rows of one run of `decode_text`: more do not read weights less often per row by much, and take a larger arena.
constexpr size_t block_rows = 128;
constexpr int new_tokens_most = 1 << 16;  // a bound on nonsense: texts end where the context does

// The sequence that a session's caches hold: what is fed is what the next prompt may share.
class TextDecoder {
 public:
  explicit TextDecoder(Session& session) : session_(session), held_(session.cached_tokens()) {}

  // Keeps what the caches share with `tokens`, but its last one, whose logits are wanted. Gives how many those are.
  size_t share(const std::vector<int32_t>& tokens) {
    const auto [end, _] = std::mismatch(held_.begin(), held_.end(), tokens.begin(), tokens.end() - 1);
    held_.erase(end, held_.end());
    session_.interpreter().states().truncate(0, static_cast<int>(held_.size()));
    return held_.size();
  }

  // Feeds tokens behind what is held; the logits [vocabulary] behind the last are valid until the next call.
  base::Result<const float*> feed(const int32_t* tokens, size_t count) {
    const float* logits = nullptr;
    for (size_t at = 0; at < count; at += block_rows) {
      MM_ASSIGN_OR_RETURN(logits, run(tokens + at, std::min(block_rows, count - at)));
    }
    return logits;
  }

 private:
  base::Result<const float*> run(const int32_t* tokens, size_t count) {
    positions_.clear();
    for (size_t i = 0; i < count; ++i) positions_.push_back(static_cast<int32_t>(held_.size() + i));
    sequences_.assign(count, 0);
    const auto input = [count](const int32_t* values) {  // programs only read their inputs
      return tensor::TensorView{const_cast<int32_t*>(values), tensor::DType::i32,
                                tensor::Shape::of(static_cast<int64_t>(count))};
    };
    MM_ASSIGN_OR_RETURN(const std::vector<program::NamedTensor> outputs,
                        session_.interpreter().run("decode_text", {{"tokens", input(tokens)},
                                                                   {"positions", input(positions_.data())},
                                                                   {"sequences", input(sequences_.data())}}));
    held_.insert(held_.end(), tokens, tokens + count);
    const int vocabulary = session_.engine().tokenizer()->vocabulary_size();
    const tensor::TensorView* logits = program::find_output(outputs, "logits");
    if (logits == nullptr || logits->dtype != tensor::DType::f32 ||
        !(logits->shape == tensor::Shape::of(1, vocabulary)))
      return base::model_format("program `decode_text` gives no output `logits` of shape [1, " +
                                std::to_string(vocabulary) + "]");
    return logits->as<const float>();
  }

  Session& session_;
  std::vector<int32_t>& held_;
  std::vector<int32_t> positions_, sequences_;
};

// Lowers the logits of tokens that occurred.
class RepetitionPenalty {
 public:
  RepetitionPenalty(float penalty, int vocabulary)
      : penalty_(penalty), is_seen_(penalty == 1.0f ? 0 : static_cast<size_t>(vocabulary)) {}

  void see(int32_t token) {
    if (is_seen_.empty() || is_seen_[static_cast<size_t>(token)]) return;
    is_seen_[static_cast<size_t>(token)] = true;
    seen_.push_back(token);
  }
  // `logits` or a lowered copy.
  const float* apply(const float* logits) {
    if (seen_.empty()) return logits;
    lowered_.assign(logits, logits + is_seen_.size());
    for (const int32_t token : seen_) {
      float& logit = lowered_[static_cast<size_t>(token)];
      logit = logit > 0 ? logit / penalty_ : logit * penalty_;
    }
    return lowered_.data();
  }

 private:
  const float penalty_;
  std::vector<bool> is_seen_;
  std::vector<int32_t> seen_;
  std::vector<float> lowered_;
};

base::Status check(const Engine& engine, const TextGenerationSettings& settings) {
  if (engine.text_model() == nullptr)
    return base::not_found("the model file cannot write text: it lacks the program decode_text or a tokenizer");
  MM_RETURN_IF_ERROR(check_settings(settings.generation, new_tokens_most));
  if (settings.generation.num_beams != 1)
    return base::invalid_input("`num_beams` is " + std::to_string(settings.generation.num_beams) +
                               ", expected 1: text is written with one beam");
  if (!(settings.repetition_penalty >= 0.1f && settings.repetition_penalty <= 10))
    return base::invalid_input("`repetition_penalty` is " + std::to_string(settings.repetition_penalty) +
                               ", expected 0.1 to 10");
  for (const std::string& stop : settings.stop)
    if (stop.empty()) return base::invalid_input("a stop text is empty, expected at least one character");
  return check_deadline_seconds(settings.deadline_seconds);
}

}  // namespace

base::Result<std::vector<int32_t>> encode_prompt(const Engine& engine, const TextPrompt& prompt) {
  const TextModel* model = engine.text_model();
  if (model == nullptr)
    return base::not_found("the model file cannot write text: it lacks the program decode_text or a tokenizer");
  return prompt.messages.empty() ? model->encode(prompt.text) : model->encode(prompt.messages);
}

base::Result<GeneratedText> generate_text(Session& session, const TextPrompt& prompt,
                                          const TextGenerationSettings& settings, const PieceCallback& on_piece) {
  const Clock::time_point start = Clock::now();
  MM_RETURN_IF_ERROR(check(session.engine(), settings));
  const TextModel& model = *session.engine().text_model();
  const text::BytePairEncoding& tokenizer = *session.engine().tokenizer();
  const Call call(session, start, settings.deadline_seconds, settings.cancellation);
  MM_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, encode_prompt(session.engine(), prompt));
  if (tokens.size() > static_cast<size_t>(model.context()))
    return base::invalid_input("the prompt has " + std::to_string(tokens.size()) + " tokens, expected at most the " +
                                   std::to_string(model.context()) + " that the model holds",
                               "shorten it, or build the model file with a larger --context");
  const Clock::time_point encoded = Clock::now();

  GeneratedText made;
  made.prompt_tokens = static_cast<int>(tokens.size());
  TextDecoder decoder(session);
  const size_t shared = decoder.share(tokens);
  made.cached_tokens = static_cast<int>(shared);
  MM_ASSIGN_OR_RETURN(const float* logits, decoder.feed(tokens.data() + shared, tokens.size() - shared));
  const Clock::time_point prefilled = Clock::now();

  // The last token is written and never fed: one more than the caches have room for.
  GenerationSettings generation = settings.generation;
  generation.max_new_tokens =
      std::min(generation.max_new_tokens, model.context() - static_cast<int>(tokens.size()) + 1);
  RepetitionPenalty penalty(settings.repetition_penalty, tokenizer.vocabulary_size());
  for (const int32_t token : tokens) penalty.see(token);
  TextWriter writer(tokenizer, settings.stop);
  const auto on_token = [&](int32_t token, float probability) {
    if (made.timings.first_token == 0) made.timings.first_token = milliseconds(start, Clock::now());
    penalty.see(token);
    const std::string piece = writer.add(token);
    made.text += piece;
    if (on_piece && !piece.empty() && !on_piece(token, piece, probability)) return Decision::cancel;
    return writer.is_stopped() ? Decision::stop : Decision::go_on;
  };
  const std::unique_ptr<Search> search = Search::start(model.ids(), generation, tokenizer.vocabulary_size(), on_token);
  std::vector<float> log_probabilities(static_cast<size_t>(tokenizer.vocabulary_size()));
  for (;;) {
    kernels::best_table().log_softmax_f32(penalty.apply(logits), log_probabilities.data(), 1,
                                          tokenizer.vocabulary_size());
    search->advance(log_probabilities.data());
    if (search->is_done()) break;
    MM_ASSIGN_OR_RETURN(logits, decoder.feed(search->tokens().data(), 1));
  }
  made.generated = search->take_result();
  if (made.generated.finish_reason != FinishReason::cancelled) {
    const std::string rest = writer.finish();
    made.text += rest;
    if (on_piece && !rest.empty() && !made.generated.tokens.empty())
      on_piece(made.generated.tokens.back(), rest, made.generated.probabilities.back());
  }
  const Clock::time_point end = Clock::now();
  made.timings.encode = milliseconds(start, encoded);
  made.timings.prefill = milliseconds(encoded, prefilled);
  made.timings.decode = milliseconds(prefilled, end);
  made.timings.total = milliseconds(start, end);
  return made;
}

}  // namespace mm::tasks
