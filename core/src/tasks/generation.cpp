// Checks settings and drives searches over a TokenDecoder: one step of the decoder serves all of them.
#include "tasks/generation.h"

#include "tasks/search.h"

namespace mm::tasks {

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::end:
      return "end";
    case FinishReason::length:
      return "length";
    case FinishReason::stop:
      return "stop";
    case FinishReason::cancelled:
      return "cancelled";
  }
  return "";
}

base::Status check_settings(const GenerationSettings& settings, int positions_most) {
  const auto wrong = [](const char* name, const std::string& value, const std::string& expected) {
    return base::invalid_input(std::string("`") + name + "` is " + value + ", expected " + expected);
  };
  if (settings.num_beams < 1 || settings.num_beams > 16)
    return wrong("num_beams", std::to_string(settings.num_beams), "1 to 16");
  if (settings.max_new_tokens < 1 || settings.max_new_tokens > positions_most)
    return wrong("max_new_tokens", std::to_string(settings.max_new_tokens), "1 to " + std::to_string(positions_most));
  if (!(settings.length_penalty >= -4 && settings.length_penalty <= 4))
    return wrong("length_penalty", std::to_string(settings.length_penalty), "-4 to 4");
  if (!(settings.temperature >= 0 && settings.temperature <= 100))
    return wrong("temperature", std::to_string(settings.temperature), "0 to 100");
  if (!(settings.top_p > 0 && settings.top_p <= 1))
    return wrong("top_p", std::to_string(settings.top_p), "above 0, at most 1");
  if (settings.top_k < 0) return wrong("top_k", std::to_string(settings.top_k), "at least 0 (all)");
  if (!(settings.min_p >= 0 && settings.min_p <= 1)) return wrong("min_p", std::to_string(settings.min_p), "0 to 1");
  if (settings.num_beams > 1 && settings.temperature > 0)
    return base::invalid_input("`temperature` is " + std::to_string(settings.temperature) + " with `num_beams` " +
                                   std::to_string(settings.num_beams) + ", expected 0: beams do not sample",
                               "set num_beams=1 to sample");
  return {};
}

void generate(TokenDecoder& decoder, const TokenIds& ids, const GenerationSettings& settings, int searches,
              GenerationListener& listener) {
  struct Live {
    int number;
    std::unique_ptr<Search> search;
  };
  std::vector<Live> live;
  for (int s = 0; s < searches; ++s)
    live.push_back({s, Search::start(ids, settings, decoder.vocabulary(), [&listener, s](int32_t token, float chance) {
                      return listener.on_token(s, token, chance);
                    })});
  const size_t vocabulary = static_cast<size_t>(decoder.vocabulary());
  std::vector<float> log_probabilities(static_cast<size_t>(settings.num_beams) * vocabulary);
  std::vector<int32_t> tokens, sequences;

  for (int position = 0; !live.empty(); ++position) {
    tokens.clear();
    sequences.clear();
    std::vector<Live> going;
    base::Status failure;
    for (Live& one : live) {
      if (listener.should_stop(one.number)) {
        listener.on_result(one.number, base::Status(base::StatusCode::cancelled, "the caller asked to stop"));
        continue;
      }
      const int first = one.number * settings.num_beams;
      if (failure.is_ok() && !one.search->parents().empty()) failure = decoder.reorder(first, one.search->parents());
      for (size_t i = 0; i < one.search->tokens().size(); ++i) sequences.push_back(first + static_cast<int32_t>(i));
      tokens.insert(tokens.end(), one.search->tokens().begin(), one.search->tokens().end());
      going.push_back(std::move(one));
    }
    live.clear();
    if (going.empty()) return;
    const base::Result<const float*> stepped =
        failure.is_ok() ? decoder.step(tokens, sequences, position) : base::Result<const float*>(failure);
    if (!stepped.is_ok()) {
      for (const Live& one : going) listener.on_result(one.number, stepped.status());
      return;
    }
    const float* logits = stepped.value();
    for (Live& one : going) {
      const size_t rows = one.search->tokens().size();
      decoder.log_softmax(logits, log_probabilities.data(), static_cast<int>(rows));
      one.search->advance(log_probabilities.data());
      logits += rows * vocabulary;
      if (one.search->is_done())
        listener.on_result(one.number, one.search->take_result());
      else
        live.push_back(std::move(one));
    }
  }
}

}  // namespace mm::tasks
