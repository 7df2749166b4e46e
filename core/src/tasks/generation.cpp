// Beam search and sampling over a TokenDecoder.
#include "tasks/generation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace mm::tasks {

namespace {

constexpr float impossible = -1e30f;

// SplitMix64 (Steele, Lea, Flood 2014): one multiply-xor chain a number, the same on every platform.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  double uniform() {  // [0, 1), 53 bits
    state_ += 0x9E3779B97F4A7C15u;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return static_cast<double>(z >> 11) * 0x1.0p-53;
  }

 private:
  uint64_t state_;
};

struct Hypothesis {
  std::vector<int32_t> tokens;
  std::vector<float> probabilities;
  double log_probability = 0;
};

Generated finished(Hypothesis hypothesis, FinishReason reason) {
  return {std::move(hypothesis.tokens), std::move(hypothesis.probabilities),
          static_cast<float>(hypothesis.log_probability), reason};
}

double score_of(double log_probability, size_t length, float penalty) {
  return log_probability / std::pow(static_cast<double>(length), static_cast<double>(penalty));
}

// Chooses from one row of log-probabilities: the best token, or a draw from the top-p set at a temperature.
int32_t choose(const float* log_probabilities, int vocabulary, const GenerationSettings& settings, Random& random,
               std::vector<int>& order, std::vector<double>& weights) {
  if (settings.temperature <= 0)
    return static_cast<int32_t>(std::max_element(log_probabilities, log_probabilities + vocabulary) -
                                log_probabilities);
  order.resize(static_cast<size_t>(vocabulary));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return log_probabilities[a] > log_probabilities[b]; });
  weights.clear();
  const double best = log_probabilities[order[0]];
  double total = 0;
  for (int token : order) {
    weights.push_back(std::exp((log_probabilities[token] - best) / static_cast<double>(settings.temperature)));
    total += weights.back();
  }
  double kept = 0;
  size_t count = 0;
  while (count < weights.size() && (count == 0 || kept < total * static_cast<double>(settings.top_p)))
    kept += weights[count++];
  double draw = random.uniform() * kept;
  for (size_t i = 0; i < count; ++i) {
    draw -= weights[i];
    if (draw < 0) return order[i];
  }
  return order[count - 1];
}

base::Result<Generated> generate_single(TokenDecoder& decoder, const TokenIds& ids, const GenerationSettings& settings,
                                        const TokenCallback& on_token) {
  const int vocabulary = decoder.vocabulary();
  std::vector<float> log_probabilities(static_cast<size_t>(vocabulary));
  std::vector<int> order;
  std::vector<double> weights;
  Random random(settings.seed);
  Hypothesis hypothesis;
  int32_t token = ids.begin;
  for (int position = 0; position < settings.max_new_tokens; ++position) {
    MM_ASSIGN_OR_RETURN(const float* logits, decoder.step(&token, 1, position));
    decoder.log_softmax(logits, log_probabilities.data(), 1);
    for (int32_t forbidden : ids.forbidden) log_probabilities[static_cast<size_t>(forbidden)] = impossible;
    token = choose(log_probabilities.data(), vocabulary, settings, random, order, weights);
    const float log_probability = log_probabilities[static_cast<size_t>(token)];
    hypothesis.log_probability += log_probability;
    hypothesis.probabilities.push_back(std::exp(log_probability));
    if (token == ids.end) return finished(std::move(hypothesis), FinishReason::end);
    hypothesis.tokens.push_back(token);
    if (!on_token) continue;
    const Decision decision = on_token(token, hypothesis.probabilities.back());
    if (decision == Decision::stop) return finished(std::move(hypothesis), FinishReason::stop);
    if (decision == Decision::cancel) return finished(std::move(hypothesis), FinishReason::cancelled);
  }
  return finished(std::move(hypothesis), FinishReason::length);
}

struct Candidate {
  double score;
  int beam;
  int32_t token;
  bool operator<(const Candidate& other) const {  // best first; ties by beam and token so that the order is total
    if (score != other.score) return score > other.score;
    if (beam != other.beam) return beam < other.beam;
    return token < other.token;
  }
};

base::Result<Generated> generate_beams(TokenDecoder& decoder, const TokenIds& ids, const GenerationSettings& settings) {
  const int vocabulary = decoder.vocabulary();
  const size_t beams = static_cast<size_t>(settings.num_beams);
  std::vector<float> log_probabilities(beams * static_cast<size_t>(vocabulary));
  std::vector<Hypothesis> live(1), done;
  std::vector<int32_t> tokens = {ids.begin}, parents;
  std::vector<Candidate> candidates;
  for (int position = 0; position < settings.max_new_tokens && done.size() < beams; ++position) {
    const int count = static_cast<int>(live.size());
    MM_ASSIGN_OR_RETURN(const float* logits, decoder.step(tokens.data(), count, position));
    decoder.log_softmax(logits, log_probabilities.data(), count);
    // The best 2 * beams continuations: even if half of them end here, enough go on. A bounded heap over one pass.
    candidates.clear();
    const size_t wanted = 2 * beams;
    for (int beam = 0; beam < count; ++beam) {
      float* row = log_probabilities.data() + static_cast<size_t>(beam) * static_cast<size_t>(vocabulary);
      for (int32_t forbidden : ids.forbidden) row[forbidden] = impossible;
      const double so_far = live[static_cast<size_t>(beam)].log_probability;
      for (int32_t token = 0; token < vocabulary; ++token) {
        const double score = so_far + static_cast<double>(row[token]);
        if (candidates.size() == wanted && score <= candidates.front().score) continue;
        const Candidate candidate = {score, beam, token};
        if (candidates.size() == wanted) {
          if (!(candidate < candidates.front())) continue;
          std::pop_heap(candidates.begin(), candidates.end());
          candidates.back() = candidate;
        } else {
          candidates.push_back(candidate);
        }
        std::push_heap(candidates.begin(), candidates.end());
      }
    }
    std::sort(candidates.begin(), candidates.end());
    std::vector<Hypothesis> next;
    tokens.clear();
    parents.clear();
    for (size_t rank = 0; rank < candidates.size() && next.size() < beams; ++rank) {
      const Candidate& candidate = candidates[rank];
      const float log_probability =
          log_probabilities[static_cast<size_t>(candidate.beam) * static_cast<size_t>(vocabulary) +
                            static_cast<size_t>(candidate.token)];
      if (candidate.token == ids.end) {
        if (rank >= beams) continue;  // an end outside the best beams would not have survived as a beam either
        Hypothesis ended = live[static_cast<size_t>(candidate.beam)];
        ended.log_probability = candidate.score;
        ended.probabilities.push_back(std::exp(log_probability));
        done.push_back(std::move(ended));
        continue;
      }
      Hypothesis longer = live[static_cast<size_t>(candidate.beam)];
      longer.log_probability = candidate.score;
      longer.tokens.push_back(candidate.token);
      longer.probabilities.push_back(std::exp(log_probability));
      next.push_back(std::move(longer));
      tokens.push_back(candidate.token);
      parents.push_back(candidate.beam);
    }
    live = std::move(next);
    if (live.empty()) break;
    MM_RETURN_IF_ERROR(decoder.reorder(parents.data(), static_cast<int>(parents.size())));
  }
  // Hypotheses cut off by the token limit compete only when nothing ended by itself.
  const FinishReason reason = done.empty() ? FinishReason::length : FinishReason::end;
  std::vector<Hypothesis>& pool = done.empty() ? live : done;
  size_t best = 0;
  for (size_t i = 1; i < pool.size(); ++i)
    if (score_of(pool[i].log_probability, pool[i].probabilities.size(), settings.length_penalty) >
        score_of(pool[best].log_probability, pool[best].probabilities.size(), settings.length_penalty))
      best = i;
  return finished(std::move(pool[best]), reason);
}

}  // namespace

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
  if (settings.num_beams > 1 && settings.temperature > 0)
    return base::invalid_input("`temperature` is " + std::to_string(settings.temperature) + " with `num_beams` " +
                                   std::to_string(settings.num_beams) + ", expected 0: beams do not sample",
                               "set num_beams=1 to sample");
  return {};
}

base::Result<Generated> generate(TokenDecoder& decoder, const TokenIds& ids, const GenerationSettings& settings,
                                 const TokenCallback& on_token) {
  if (settings.num_beams == 1) return generate_single(decoder, ids, settings, on_token);
  if (on_token)
    return base::invalid_input(
        "streaming with `num_beams` " + std::to_string(settings.num_beams) + ", expected 1: beams change their mind",
        "set num_beams=1 to stream");
  return generate_beams(decoder, ids, settings);
}

}  // namespace mm::tasks
