// Prepares the picture once, then runs `answer_question` on the question, or on it with each option.
#include "tasks/question_answering.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <numeric>

#include "tasks/deadline.h"
#include "tasks/text_input.h"

namespace mm::tasks {

namespace {

base::Status check_engine(const Engine& engine) {
  if (engine.can_answer()) return {};
  return base::not_found(
      "the model file cannot answer questions: it lacks word pieces, answers or one of the programs encode_image, "
      "prepare_question, answer_question",
      "load a model file with a language tower");
}

base::Status out_of_memory() {
  return {base::StatusCode::out_of_memory, "no memory left to answer", "ask with fewer options"};
}

// Encodes the picture and lets the question layers see it.
base::Status prepare(Session& session, const vision::PictureView& picture, AnswerTimings& timings) {
  Session::EncodeTimes times;
  MM_ASSIGN_OR_RETURN(const PictureFeatures* features, session.encode_details(picture, &times));
  timings.resize = times.resize_ms;
  timings.encode = times.encode_ms;
  const Clock::time_point encoded = Clock::now();
  MM_RETURN_IF_ERROR(session.prepare("prepare_question", features->key, seen_by_questions(*features)));
  timings.prepare = milliseconds(encoded, Clock::now());
  return {};
}

// The named float output of `answer_question` with `count` values; they lie in the arena.
base::Result<const float*> ask(Session& session, TextInput& input, const char* name, size_t count) {
  MM_ASSIGN_OR_RETURN(const std::vector<program::NamedTensor> outputs,
                      session.interpreter().run(
                          "answer_question", {input.named_tokens(), input.named_positions(), input.named_segments()}));
  const tensor::TensorView* output = program::find_output(outputs, name);
  if (output == nullptr || output->dtype != tensor::DType::f32 ||
      output->shape.elements() != static_cast<int64_t>(count))
    return base::model_format(std::string("program `answer_question` gives no float output `") + name + "` of " +
                              std::to_string(count) + " values");
  const float* values = output->as<const float>();
  for (size_t i = 0; i < count; ++i)
    if (!std::isfinite(values[i]))
      return base::model_format(std::string("program `answer_question` gives `") + name + "` that is not a number");
  return values;
}

std::vector<float> softmax(const float* logits, size_t count) {
  std::vector<float> probabilities(count);
  kernels::best_table().softmax_f32(logits, probabilities.data(), 1, static_cast<int>(count));
  return probabilities;
}

base::Status check_options(const std::vector<std::string>& options) {
  if (options.size() < options_least || options.size() > options_most)
    return base::invalid_input(std::to_string(options.size()) + " options, expected " + std::to_string(options_least) +
                               " to " + std::to_string(options_most));
  std::vector<std::string_view> sorted(options.begin(), options.end());
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end())
    return base::invalid_input("option `" + std::string(*twice) + "` is given twice", "name each option once");
  return {};
}

}  // namespace

base::Result<Answer> answer_question(Session& session, const vision::PictureView& picture, std::string_view question,
                                     const AnswerSettings& settings) try {
  const Engine& engine = session.engine();
  MM_RETURN_IF_ERROR(check_engine(engine));
  if (settings.top_k < 1 || settings.top_k > answers_most)
    return base::invalid_input("`top_k` is " + std::to_string(settings.top_k) + ", expected 1 to " +
                               std::to_string(answers_most));
  MM_RETURN_IF_ERROR(check_deadline_seconds(settings.deadline_seconds));
  MM_ASSIGN_OR_RETURN(TextInput input, make_question_input(engine, question));
  const Clock::time_point start = Clock::now();
  const Deadline deadline(session.interpreter(), start, settings.deadline_seconds);
  Answer result;
  MM_RETURN_IF_ERROR(prepare(session, picture, result.timings));
  const Clock::time_point prepared = Clock::now();
  const size_t count = engine.answers().size();
  MM_ASSIGN_OR_RETURN(const float* logits, ask(session, input, "answers", count));
  const std::vector<float> probabilities = softmax(logits, count);

  result.unanswerable = probabilities[0];
  std::vector<size_t> order(count - 1);
  std::iota(order.begin(), order.end(), size_t{1});
  const size_t kept = std::min(static_cast<size_t>(settings.top_k), order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
                    [&](size_t a, size_t b) {
                      return probabilities[a] != probabilities[b] ? probabilities[a] > probabilities[b] : a < b;
                    });
  for (size_t i = 0; i < kept; ++i) result.candidates.push_back({engine.answers()[order[i]], probabilities[order[i]]});
  const Clock::time_point end = Clock::now();
  result.timings.answer = milliseconds(prepared, end);
  result.timings.total = milliseconds(start, end);
  return result;
} catch (const std::bad_alloc&) {
  return out_of_memory();
}

base::Result<Choice> choose(Session& session, const vision::PictureView& picture, std::string_view question,
                            const std::vector<std::string>& options, double deadline_seconds) try {
  const Engine& engine = session.engine();
  MM_RETURN_IF_ERROR(check_engine(engine));
  MM_RETURN_IF_ERROR(check_options(options));
  MM_RETURN_IF_ERROR(check_deadline_seconds(deadline_seconds));
  std::vector<TextInput> inputs;
  for (const std::string& option : options) {
    MM_ASSIGN_OR_RETURN(TextInput input, make_pair_input(engine, question, option));
    inputs.push_back(std::move(input));
  }
  const Clock::time_point start = Clock::now();
  const Deadline deadline(session.interpreter(), start, deadline_seconds);
  Choice result;
  MM_RETURN_IF_ERROR(prepare(session, picture, result.timings));
  const Clock::time_point prepared = Clock::now();
  std::vector<float> scores;
  for (TextInput& input : inputs) {
    MM_ASSIGN_OR_RETURN(const float* score, ask(session, input, "score", 1));
    scores.push_back(*score);
  }
  result.probabilities = softmax(scores.data(), scores.size());
  const Clock::time_point end = Clock::now();
  result.timings.answer = milliseconds(prepared, end);
  result.timings.total = milliseconds(start, end);
  return result;
} catch (const std::bad_alloc&) {
  return out_of_memory();
}

}  // namespace mm::tasks
