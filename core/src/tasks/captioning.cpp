// Runs the caption programs and writes the sentence.
#include "tasks/captioning.h"

#include <cmath>

#include "tasks/deadline.h"

namespace mm::tasks {

namespace {

// The decoder of a session: runs `decode`, keeps the time of the first token.
class SessionDecoder final : public TokenDecoder {
 public:
  explicit SessionDecoder(Session& session)
      : session_(session), vocabulary_(session.engine().tokenizer()->vocabulary_size()) {}

  int vocabulary() const override { return vocabulary_; }

  base::Result<const float*> step(const int32_t* tokens, int count, int position) override {
    tokens_.assign(tokens, tokens + count);
    positions_.assign(static_cast<size_t>(count), position);
    sequences_.resize(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) sequences_[static_cast<size_t>(i)] = i;
    const tensor::Shape shape = tensor::Shape::of(count);
    MM_ASSIGN_OR_RETURN(
        const std::vector<program::NamedTensor> outputs,
        session_.interpreter().run("decode", {{"tokens", {tokens_.data(), tensor::DType::i32, shape}},
                                              {"positions", {positions_.data(), tensor::DType::i32, shape}},
                                              {"sequences", {sequences_.data(), tensor::DType::i32, shape}}}));
    if (position == 0) first_token_ = Clock::now();
    for (const program::NamedTensor& output : outputs)
      if (output.name == "logits" && output.view.dtype == tensor::DType::f32 &&
          output.view.shape == tensor::Shape::of(count, vocabulary_))
        return output.view.as<const float>();
    return base::model_format("program `decode` gives no output `logits` of shape [rows, " +
                              std::to_string(vocabulary_) + "]");
  }

  base::Status reorder(const int32_t* parents, int count) override {
    return session_.interpreter().states().reorder(parents, count);
  }

  void log_softmax(const float* logits, float* out, int rows) override {
    kernels::best_table().log_softmax_f32(logits, out, rows, vocabulary_);
  }

  Clock::time_point first_token() const { return first_token_; }

 private:
  Session& session_;
  int vocabulary_;
  std::vector<int32_t> tokens_, positions_, sequences_;
  Clock::time_point first_token_ = Clock::now();
};

// Makes a sentence of lower-case model text, piece by piece, so that a stream and a whole caption read the same.
class SentenceWriter {
 public:
  SentenceWriter(const text::BytePairEncoding& tokenizer, const std::vector<std::string>& stop)
      : tokenizer_(tokenizer), stop_(stop) {}

  // The new text of this token. Text that may turn out to be the begin of a stop text is held back.
  std::string add(int32_t token) {
    raw_ += characters_.push(tokenizer_.piece(token));
    size_t end = raw_.size();
    for (const std::string& stop : stop_) {
      const size_t found = raw_.find(stop);
      if (found != std::string::npos) {
        is_stopped_ = true;
        end = std::min(end, found);
      }
    }
    if (!is_stopped_)
      for (const std::string& stop : stop_)
        for (size_t length = std::min(stop.size() - 1, raw_.size()); length > 0; --length)
          if (raw_.compare(raw_.size() - length, length, stop, 0, length) == 0) {
            end = std::min(end, raw_.size() - length);
            break;
          }
    return take(end);
  }

  // What was held back, and the full stop when the model ended the sentence itself.
  std::string finish(bool is_ended) {
    raw_ += characters_.finish();
    std::string rest = is_stopped_ ? std::string() : take(raw_.size());
    if (is_ended && has_text_ && !ends_sentence_) rest += '.';
    return rest;
  }

  bool is_stopped() const { return is_stopped_; }

 private:
  std::string take(size_t end) {
    std::string piece = raw_.substr(written_, end > written_ ? end - written_ : 0);
    written_ = std::max(written_, end);
    if (!has_text_) {
      size_t blank = 0;
      while (blank < piece.size() && piece[blank] == ' ') ++blank;
      piece.erase(0, blank);
      if (!piece.empty()) {
        if (piece[0] >= 'a' && piece[0] <= 'z') piece[0] = static_cast<char>(piece[0] - 'a' + 'A');
        has_text_ = true;
      }
    }
    if (!piece.empty()) ends_sentence_ = piece.back() == '.' || piece.back() == '!' || piece.back() == '?';
    return piece;
  }

  const text::BytePairEncoding& tokenizer_;
  const std::vector<std::string>& stop_;
  text::Utf8Stream characters_;
  std::string raw_;
  size_t written_ = 0;
  bool has_text_ = false, ends_sentence_ = false, is_stopped_ = false;
};

}  // namespace

base::Result<Caption> caption(Session& session, const vision::PictureView& picture, const CaptionSettings& settings,
                              const PieceCallback& on_piece) {
  const Engine& engine = session.engine();
  if (!engine.can_caption())
    return base::not_found(
        "the model file cannot caption: it lacks a tokenizer or one of the programs encode_image, prefill, decode");
  MM_RETURN_IF_ERROR(check_settings(settings.generation, engine.caption_positions()));
  if (settings.generation.num_beams > 1 && (on_piece || !settings.stop.empty()))
    return base::invalid_input("streaming or stop texts with `num_beams` " +
                                   std::to_string(settings.generation.num_beams) +
                                   ", expected 1: beams change their mind",
                               "set num_beams=1");
  for (const std::string& stop : settings.stop)
    if (stop.empty()) return base::invalid_input("a stop text is empty, expected at least one character");
  MM_RETURN_IF_ERROR(check_deadline_seconds(settings.deadline_seconds));

  const Clock::time_point start = Clock::now();
  program::Interpreter& interpreter = session.interpreter();
  const Deadline deadline(interpreter, start, settings.deadline_seconds);
  Caption result;
  Session::EncodeTimes encode_times;
  MM_ASSIGN_OR_RETURN(const PictureFeatures* features, session.encode_image(picture, &encode_times));
  result.timings.resize = encode_times.resize_ms;
  result.timings.encode = encode_times.encode_ms;

  const Clock::time_point encoded = Clock::now();
  interpreter.states().reset_sequences();
  MM_RETURN_IF_ERROR(session.prepare("prefill", features->key, features->features));
  const Clock::time_point prefilled = Clock::now();
  result.timings.prefill = milliseconds(encoded, prefilled);

  SessionDecoder decoder(session);
  SentenceWriter writer(*engine.tokenizer(), settings.stop);
  const bool is_streaming = static_cast<bool>(on_piece) || !settings.stop.empty();
  TokenCallback on_token;
  if (is_streaming)
    on_token = [&](int32_t token, float probability) {
      const std::string piece = writer.add(token);
      result.text += piece;
      if (on_piece && !piece.empty() && !on_piece(token, piece, probability)) return Decision::cancel;
      return writer.is_stopped() ? Decision::stop : Decision::go_on;
    };
  MM_ASSIGN_OR_RETURN(result.generated, generate(decoder, engine.caption_ids(), settings.generation, on_token));
  if (!is_streaming)
    for (int32_t token : result.generated.tokens) result.text += writer.add(token);
  if (result.generated.finish_reason != FinishReason::cancelled) {
    const std::string rest = writer.finish(result.generated.finish_reason == FinishReason::end);
    result.text += rest;
    if (on_piece && !rest.empty()) on_piece(engine.caption_ids().end, rest, result.generated.probabilities.back());
  }
  const Clock::time_point end = Clock::now();
  result.timings.first_token = milliseconds(start, decoder.first_token());
  result.timings.decode = milliseconds(prefilled, end);
  result.timings.total = milliseconds(start, end);
  return result;
}

}  // namespace mm::tasks
