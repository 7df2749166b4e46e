// Runs the caption programs over a batch of pictures (one is a batch too) and writes the sentences.
#include "tasks/captioning.h"

#include <utility>

#include "tasks/call.h"
#include "tasks/sentence_writer.h"

namespace mm::tasks {

namespace {

// The decoder of a session: runs `decode`, keeps the time of the first token. Picture p of the batch has its memories
// at place p and the sequences p * num_beams ...
class SessionDecoder final : public TokenDecoder {
 public:
  SessionDecoder(Session& session, int num_beams)
      : session_(session), num_beams_(num_beams), vocabulary_(session.engine().tokenizer()->vocabulary_size()) {}

  int vocabulary() const override { return vocabulary_; }

  base::Result<const float*> step(const std::vector<int32_t>& tokens, const std::vector<int32_t>& sequences,
                                  int position) override {
    positions_.assign(tokens.size(), position);
    places_.read.clear();
    if (sequences.back() >= num_beams_)  // else there is one picture left, at place 0
      for (const int32_t sequence : sequences) places_.read.push_back(sequence / num_beams_);
    const int64_t rows = static_cast<int64_t>(tokens.size());
    const auto input = [rows](const std::vector<int32_t>& values) {  // programs only read their inputs
      return tensor::TensorView{const_cast<int32_t*>(values.data()), tensor::DType::i32, tensor::Shape::of(rows)};
    };
    MM_ASSIGN_OR_RETURN(
        const std::vector<program::NamedTensor> outputs,
        session_.interpreter().run(
            "decode", {{"tokens", input(tokens)}, {"positions", input(positions_)}, {"sequences", input(sequences)}},
            places_));
    if (position == 0) first_token_ = Clock::now();
    const tensor::TensorView* logits = program::find_output(outputs, "logits");
    if (logits == nullptr || logits->dtype != tensor::DType::f32 ||
        !(logits->shape == tensor::Shape::of(rows, vocabulary_)))
      return base::model_format("program `decode` gives no output `logits` of shape [rows, " +
                                std::to_string(vocabulary_) + "]");
    return logits->as<const float>();
  }

  base::Status reorder(int first, const std::vector<int32_t>& parents) override {
    return session_.interpreter().states().reorder(parents.data(), static_cast<int>(parents.size()), first);
  }

  void log_softmax(const float* logits, float* out, int rows) override {
    kernels::best_table().log_softmax_f32(logits, out, rows, vocabulary_);
  }

  Clock::time_point first_token() const { return first_token_; }

 private:
  Session& session_;
  const int num_beams_;
  const int vocabulary_;
  std::vector<int32_t> positions_;
  ops::MemoryPlaces places_;
  Clock::time_point first_token_ = Clock::now();
};

// A picture that was encoded and waits for its sentence.
struct Draft {
  size_t picture;
  SentenceWriter writer;
  Caption caption;
};

class Batch final : public GenerationListener {
 public:
  Batch(Session& session, size_t pictures, const CaptionSettings& settings, PieceCallback on_piece,
        StopQuestion should_stop)
      : session_(session),
        settings_(settings),
        on_piece_(std::move(on_piece)),
        should_stop_(std::move(should_stop)),
        is_streaming_(on_piece_ || !settings.stop.empty()),
        decoder_(session, settings.generation.num_beams),
        results_(pictures, base::Status(base::StatusCode::internal, "the picture was left out")) {}

  // Every picture's memories are written, then all sentences, token by token side by side.
  std::vector<base::Result<Caption>> run(const std::vector<vision::PictureView>& pictures) {
    for (size_t i = 0; i < pictures.size(); ++i) {
      const base::Status status = prepare(i, pictures[i]);
      if (!status.is_ok()) results_[i] = status;
    }
    prepared_ = Clock::now();
    session_.cached_tokens().clear();
    session_.interpreter().states().reset_sequences();
    generate(decoder_, session_.engine().caption_ids(), settings_.generation, static_cast<int>(drafts_.size()), *this);
    return std::move(results_);
  }

  bool should_stop(int search) override { return is_given_up(draft(search).picture); }

  Decision on_token(int search, int32_t token, float probability) override {
    if (!is_streaming_) return Decision::go_on;
    Draft& one = draft(search);
    const std::string piece = one.writer.add(token);
    one.caption.text += piece;
    if (on_piece_ && !piece.empty() && !on_piece_(token, piece, probability)) return Decision::cancel;
    return one.writer.is_stopped() ? Decision::stop : Decision::go_on;
  }

  void on_result(int search, base::Result<Generated> generated) override {
    Draft& one = draft(search);
    if (!generated.is_ok()) {
      results_[one.picture] = generated.status();
      return;
    }
    Caption& made = one.caption;
    made.generated = std::move(generated.value());
    if (!is_streaming_)
      for (const int32_t token : made.generated.tokens) made.text += one.writer.add(token);
    if (made.generated.finish_reason != FinishReason::cancelled) {
      const std::string rest = one.writer.finish(made.generated.finish_reason == FinishReason::end);
      made.text += rest;
      if (on_piece_ && !rest.empty())
        on_piece_(session_.engine().caption_ids().end, rest, made.generated.probabilities.back());
    }
    const Clock::time_point end = Clock::now();
    made.timings.first_token = milliseconds(start_, decoder_.first_token());
    made.timings.decode = milliseconds(prepared_, end);
    made.timings.total = milliseconds(start_, end);
    results_[one.picture] = std::move(made);
  }

 private:
  Draft& draft(int search) { return drafts_[static_cast<size_t>(search)]; }
  bool is_given_up(size_t picture) const { return should_stop_ && should_stop_(picture); }

  base::Status prepare(size_t index, const vision::PictureView& picture) {
    if (is_given_up(index)) return {base::StatusCode::cancelled, "the caller asked to stop"};
    Caption begun;
    Session::EncodeTimes times;
    MM_ASSIGN_OR_RETURN(const PictureFeatures* features, session_.encode_image(picture, &times));
    const Clock::time_point encoded = Clock::now();
    MM_RETURN_IF_ERROR(session_.prepare("prefill", *features, static_cast<int>(drafts_.size())));
    begun.timings.resize = times.resize_ms;
    begun.timings.encode = times.encode_ms;
    begun.timings.prefill = milliseconds(encoded, Clock::now());
    drafts_.push_back({index, SentenceWriter(*session_.engine().tokenizer(), settings_.stop), std::move(begun)});
    return {};
  }

  Session& session_;
  const CaptionSettings& settings_;
  const PieceCallback on_piece_;
  const StopQuestion should_stop_;
  const bool is_streaming_;
  SessionDecoder decoder_;
  std::vector<base::Result<Caption>> results_;  // by picture
  std::vector<Draft> drafts_;                   // by search
  const Clock::time_point start_ = Clock::now();
  Clock::time_point prepared_;
};

base::Status check(const Engine& engine, const CaptionSettings& settings, bool is_streaming) {
  if (!engine.can_caption())
    return base::not_found(
        "the model file cannot caption: it lacks a tokenizer or one of the programs encode_image, prefill, decode");
  MM_RETURN_IF_ERROR(check_settings(settings.generation, engine.caption_positions()));
  if (settings.generation.num_beams > 1 && (is_streaming || !settings.stop.empty()))
    return base::invalid_input("streaming or stop texts with `num_beams` " +
                                   std::to_string(settings.generation.num_beams) +
                                   ", expected 1: beams change their mind",
                               "set num_beams=1");
  for (const std::string& stop : settings.stop)
    if (stop.empty()) return base::invalid_input("a stop text is empty, expected at least one character");
  return check_deadline_seconds(settings.deadline_seconds);
}

}  // namespace

base::Result<Caption> caption(Session& session, const vision::PictureView& picture, const CaptionSettings& settings,
                              const PieceCallback& on_piece) {
  MM_RETURN_IF_ERROR(check(session.engine(), settings, static_cast<bool>(on_piece)));
  const Call call(session, Clock::now(), settings.deadline_seconds, settings.cancellation);
  Batch batch(session, 1, settings, on_piece, nullptr);
  return std::move(batch.run({picture})[0]);
}

base::Result<std::vector<base::Result<Caption>>> captions(Session& session,
                                                          const std::vector<vision::PictureView>& pictures,
                                                          const CaptionSettings& settings,
                                                          const StopQuestion& should_stop) {
  if (pictures.empty() || pictures.size() > captions_most)
    return base::invalid_input("a batch of " + std::to_string(pictures.size()) + " pictures, expected 1 to " +
                               std::to_string(captions_most));
  MM_RETURN_IF_ERROR(check(session.engine(), settings, false));
  const Call call(session, Clock::now(), settings.deadline_seconds, settings.cancellation);
  Batch batch(session, pictures.size(), settings, nullptr, should_stop);
  return batch.run(pictures);
}

}  // namespace mm::tasks
