// Greedy search, sampling and beam search as state machines: each call of advance() is one token further.
#include "tasks/search.h"

#include <algorithm>
#include <cmath>

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

// Chooses from one row of log-probabilities: the best token, or a draw at a temperature from those that top-k, top-p
// and min-p leave (Fan et al. 2018, Holtzman et al. 2020, Nguyen et al. 2024), which all see the tempered distribution.
// A heap gives the tokens best first: a draw seldom looks at more than a few of tens of thousands.
class Sampler {
 public:
  explicit Sampler(uint64_t seed) : random_(seed) {}

  int32_t choose(const float* log_probabilities, int vocabulary, const GenerationSettings& settings) {
    const int32_t best =
        static_cast<int32_t>(std::max_element(log_probabilities, log_probabilities + vocabulary) - log_probabilities);
    if (settings.temperature <= 0) return best;
    const double total = weigh(log_probabilities, vocabulary, log_probabilities[best], settings.temperature);
    taken_.clear();
    double kept = 0;
    const bool is_cut = settings.top_k > 0 || settings.top_p < 1 || settings.min_p > 0;
    if (is_cut) {
      const size_t most = settings.top_k > 0 ? static_cast<size_t>(settings.top_k) : heap_.size();
      const double enough = total * static_cast<double>(settings.top_p);
      while (!heap_.empty() && taken_.size() < most && (taken_.empty() || kept < enough) &&
             heap_.front().weight >= static_cast<double>(settings.min_p))
        kept += take_next();
    }
    double draw = random_.uniform() * (is_cut ? kept : total);
    for (size_t i = 0;; ++i) {
      if (i == taken_.size()) {
        if (is_cut || heap_.empty()) return taken_.back().token;  // rounding left a crumb of the draw
        take_next();
      }
      draw -= taken_[i].weight;
      if (draw < 0) return taken_[i].token;
    }
  }

 private:
  struct Entry {
    double weight;
    int32_t token;
    bool operator<(const Entry& other) const {  // ties: the lower token is the better one
      return weight != other.weight ? weight < other.weight : token > other.token;
    }
  };

  // Fills the heap with weights relative to the best token's and gives their sum.
  double weigh(const float* log_probabilities, int vocabulary, float best, float temperature) {
    constexpr double negligible = -36;  // e^-36 = 2^-52: below the last bit of the sum
    heap_.clear();
    double total = 0;
    for (int32_t token = 0; token < vocabulary; ++token) {
      const double power = (static_cast<double>(log_probabilities[token]) - static_cast<double>(best)) /
                           static_cast<double>(temperature);
      if (power < negligible) continue;
      heap_.push_back({std::exp(power), token});
      total += heap_.back().weight;
    }
    std::make_heap(heap_.begin(), heap_.end());
    return total;
  }

  double take_next() {
    std::pop_heap(heap_.begin(), heap_.end());
    taken_.push_back(heap_.back());
    heap_.pop_back();
    return taken_.back().weight;
  }

  Random random_;
  std::vector<Entry> heap_, taken_;
};

// One sequence: each token is final when it is chosen.
class SingleSearch final : public Search {
 public:
  SingleSearch(const TokenIds& ids, const GenerationSettings& settings, int vocabulary, TokenCallback on_token)
      : ids_(ids),
        settings_(settings),
        vocabulary_(vocabulary),
        on_token_(std::move(on_token)),
        sampler_(settings.seed) {
    tokens_ = {ids.begin};
  }

  void advance(float* log_probabilities) override {
    for (int32_t forbidden : ids_.forbidden) log_probabilities[static_cast<size_t>(forbidden)] = impossible;
    const int32_t token = sampler_.choose(log_probabilities, vocabulary_, settings_);
    const float log_probability = log_probabilities[static_cast<size_t>(token)];
    hypothesis_.log_probability += log_probability;
    hypothesis_.probabilities.push_back(std::exp(log_probability));
    if (ids_.is_end(token)) return finish(FinishReason::end);
    hypothesis_.tokens.push_back(token);
    tokens_[0] = token;
    const Decision decision = on_token_(token, hypothesis_.probabilities.back());
    if (decision == Decision::stop) return finish(FinishReason::stop);
    if (decision == Decision::cancel) return finish(FinishReason::cancelled);
    if (static_cast<int>(hypothesis_.tokens.size()) == settings_.max_new_tokens) finish(FinishReason::length);
  }

  Generated take_result() override { return finished(std::move(hypothesis_), reason_); }

 private:
  void finish(FinishReason reason) {
    is_done_ = true;
    reason_ = reason;
  }

  const TokenIds& ids_;
  const GenerationSettings settings_;
  const int vocabulary_;
  const TokenCallback on_token_;
  Sampler sampler_;
  Hypothesis hypothesis_;
  FinishReason reason_ = FinishReason::length;
};

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

// The best `num_beams` sequences so far go on; those that end wait until as many have ended.
class BeamSearch final : public Search {
 public:
  BeamSearch(const TokenIds& ids, const GenerationSettings& settings, int vocabulary)
      : ids_(ids),
        settings_(settings),
        vocabulary_(static_cast<size_t>(vocabulary)),
        beams_(static_cast<size_t>(settings.num_beams)),
        live_(1) {
    tokens_ = {ids.begin};
  }

  void advance(float* log_probabilities) override {
    find_candidates(log_probabilities);
    std::vector<Hypothesis> next;
    tokens_.clear();
    parents_.clear();
    for (size_t rank = 0; rank < candidates_.size() && next.size() < beams_; ++rank) {
      const Candidate& candidate = candidates_[rank];
      const bool is_end = candidate.token == ids_.end;
      if (is_end && rank >= beams_) continue;  // an end outside the best beams would not have survived as a beam either
      const size_t at = static_cast<size_t>(candidate.beam) * vocabulary_ + static_cast<size_t>(candidate.token);
      Hypothesis longer = live_[static_cast<size_t>(candidate.beam)];
      longer.log_probability = candidate.score;
      longer.probabilities.push_back(std::exp(log_probabilities[at]));
      if (is_end) {
        done_.push_back(std::move(longer));
        continue;
      }
      longer.tokens.push_back(candidate.token);
      next.push_back(std::move(longer));
      tokens_.push_back(candidate.token);
      parents_.push_back(candidate.beam);
    }
    live_ = std::move(next);
    ++position_;
    is_done_ = live_.empty() || done_.size() >= beams_ || position_ == settings_.max_new_tokens;
  }

  Generated take_result() override {
    // Hypotheses cut off by the token limit compete only when nothing ended by itself.
    const FinishReason reason = done_.empty() ? FinishReason::length : FinishReason::end;
    std::vector<Hypothesis>& pool = done_.empty() ? live_ : done_;
    size_t best = 0;
    for (size_t i = 1; i < pool.size(); ++i)
      if (score_of(pool[i].log_probability, pool[i].probabilities.size(), settings_.length_penalty) >
          score_of(pool[best].log_probability, pool[best].probabilities.size(), settings_.length_penalty))
        best = i;
    return finished(std::move(pool[best]), reason);
  }

 private:
  // The best 2 * beams continuations: even if half of them end here, enough go on. A bounded heap over one pass.
  void find_candidates(float* log_probabilities) {
    candidates_.clear();
    const size_t wanted = 2 * beams_;
    const int vocabulary = static_cast<int>(vocabulary_);
    for (size_t beam = 0; beam < live_.size(); ++beam) {
      float* row = log_probabilities + beam * vocabulary_;
      for (int32_t forbidden : ids_.forbidden) row[forbidden] = impossible;
      const double so_far = live_[beam].log_probability;
      for (int32_t token = 0; token < vocabulary; ++token) {
        const double score = so_far + static_cast<double>(row[token]);
        if (candidates_.size() == wanted && score <= candidates_.front().score) continue;
        const Candidate candidate = {score, static_cast<int>(beam), token};
        if (candidates_.size() == wanted) {
          if (!(candidate < candidates_.front())) continue;
          std::pop_heap(candidates_.begin(), candidates_.end());
          candidates_.back() = candidate;
        } else {
          candidates_.push_back(candidate);
        }
        std::push_heap(candidates_.begin(), candidates_.end());
      }
    }
    std::sort(candidates_.begin(), candidates_.end());
  }

  const TokenIds& ids_;
  const GenerationSettings settings_;
  const size_t vocabulary_, beams_;
  std::vector<Hypothesis> live_, done_;
  std::vector<Candidate> candidates_;
  int position_ = 0;
};

}  // namespace

std::unique_ptr<Search> Search::start(const TokenIds& ids, const GenerationSettings& settings, int vocabulary,
                                      TokenCallback on_token) {
  if (settings.num_beams > 1) return std::make_unique<BeamSearch>(ids, settings, vocabulary);
  return std::make_unique<SingleSearch>(ids, settings, vocabulary, std::move(on_token));
}

}  // namespace mm::tasks
