// Checks beam search against exhaustive search, sampling against its distribution, and the limits of both.
#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <vector>

#include "check.h"
#include "tasks/generation.h"

using namespace mm::tasks;

namespace {

// A language where the next token depends on the last one and the position alone; sequences are followed through
// reorder().
class TableDecoder final : public TokenDecoder {
 public:
  TableDecoder(int vocabulary, int positions, uint32_t seed)
      : vocabulary_(vocabulary),
        positions_(positions),
        logits_(static_cast<size_t>(positions * vocabulary * vocabulary)) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0f, 2.0f);
    for (float& logit : logits_) logit = normal(random);
  }
  int vocabulary() const override { return vocabulary_; }
  mm::base::Result<const float*> step(const std::vector<int32_t>& tokens, const std::vector<int32_t>& sequences,
                                      int position) override {
    ++steps;
    if (steps == failing_step) return mm::base::Status(mm::base::StatusCode::deadline_exceeded, "late");
    rows_.clear();
    is_consistent = is_consistent && tokens.size() == sequences.size();
    for (size_t i = 0; i < tokens.size(); ++i) {
      std::vector<int32_t>& past = pasts_[sequences[i]];
      past.push_back(tokens[i]);
      is_consistent = is_consistent && static_cast<int>(past.size()) == position + 1;
      // Sequences of another search know another language: its rows are those of another position.
      const float* row = row_of(tokens[i], (position + shift + sequences[i] / sequences_apart) % positions_);
      rows_.insert(rows_.end(), row, row + vocabulary_);
    }
    return static_cast<const float*>(rows_.data());
  }
  mm::base::Status reorder(int first, const std::vector<int32_t>& parents) override {
    std::vector<std::vector<int32_t>> next;
    for (const int32_t parent : parents) next.push_back(pasts_[first + parent]);
    for (size_t i = 0; i < next.size(); ++i) pasts_[first + static_cast<int32_t>(i)] = next[i];
    return {};
  }
  void log_softmax(const float* logits, float* out, int rows) override {
    for (int r = 0; r < rows; ++r) {
      double total = 0;
      for (int i = 0; i < vocabulary_; ++i) total += std::exp(static_cast<double>(logits[r * vocabulary_ + i]));
      for (int i = 0; i < vocabulary_; ++i)
        out[r * vocabulary_ + i] = static_cast<float>(logits[r * vocabulary_ + i] - std::log(total));
    }
  }
  const float* row_of(int token, int position) const {
    return logits_.data() + (position * vocabulary_ + token) * vocabulary_;
  }
  int steps = 0, failing_step = 0;
  int sequences_apart = 1 << 20, shift = 0;
  bool is_consistent = true;

 private:
  int vocabulary_, positions_;
  std::vector<float> logits_, rows_;
  std::map<int32_t, std::vector<int32_t>> pasts_;
};

// Keeps the results of searches, and asks and answers what a test tells it to.
class Listener final : public GenerationListener {
 public:
  explicit Listener(int searches)
      : results(static_cast<size_t>(searches), mm::base::Status(mm::base::StatusCode::internal, "no result")) {}
  bool should_stop(int search) override {
    if (search == unwanted && asked == unwanted_after) return true;
    if (search == unwanted) ++asked;
    return false;
  }
  Decision on_token(int search, int32_t token, float) override {
    streamed[search].push_back(token);
    return decision;
  }
  void on_result(int search, mm::base::Result<Generated> result) override {
    MM_CHECK(results[static_cast<size_t>(search)].status().code() == mm::base::StatusCode::internal);  // once
    results[static_cast<size_t>(search)] = std::move(result);
  }

  Decision decision = Decision::go_on;
  int unwanted = -1, unwanted_after = 0, asked = 0;
  std::map<int, std::vector<int32_t>> streamed;
  std::vector<mm::base::Result<Generated>> results;
};

// One search alone.
mm::base::Result<Generated> generate(TokenDecoder& decoder, const TokenIds& ids, const GenerationSettings& settings) {
  Listener listener(1);
  generate(decoder, ids, settings, 1, listener);
  return listener.results[0];
}

constexpr int vocabulary = 5, positions = 8;
const TokenIds ids = {0, 1, {0, 2}};  // two ordinary tokens: 3 and 4

struct Best {
  double score = -1e300;
  std::vector<int32_t> tokens;
};

// Every sentence of at most `most` tokens that ends: the best by score.
void search(TableDecoder& decoder, std::vector<int32_t>& tokens, int last, double so_far, int most, float penalty,
            Best& best) {
  const int position = static_cast<int>(tokens.size());
  if (position >= most) return;
  std::vector<float> log_probabilities(vocabulary);
  decoder.log_softmax(decoder.row_of(last, position), log_probabilities.data(), 1);
  const double ended =
      (so_far + static_cast<double>(log_probabilities[1])) / std::pow(position + 1.0, static_cast<double>(penalty));
  if (ended > best.score) best = {ended, tokens};
  for (int token = 3; token < vocabulary; ++token) {
    tokens.push_back(token);
    search(decoder, tokens, token, so_far + static_cast<double>(log_probabilities[static_cast<size_t>(token)]), most,
           penalty, best);
    tokens.pop_back();
  }
}

void test_beams_find_the_best() {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    for (float penalty : {0.0f, 0.7f, 1.0f}) {
      TableDecoder decoder(vocabulary, positions, seed);
      GenerationSettings settings;
      settings.num_beams = 16;  // 2 choices, 4 steps: 16 prefixes, nothing is ever cut
      settings.max_new_tokens = 4;
      settings.length_penalty = penalty;
      const auto result = generate(decoder, ids, settings);
      MM_CHECK(result.is_ok());
      MM_CHECK(decoder.is_consistent);
      Best best;
      std::vector<int32_t> tokens;
      search(decoder, tokens, 0, 0, 4, penalty, best);
      MM_CHECK(result.value().tokens == best.tokens);
      const size_t length = result.value().probabilities.size();
      MM_CHECK(length == best.tokens.size() + 1);  // the end token has a probability too
      double product = 0;
      for (float probability : result.value().probabilities) product += std::log(static_cast<double>(probability));
      MM_CHECK(std::fabs(product - static_cast<double>(result.value().log_probability)) < 1e-4);
    }
  }
}

void test_greedy_takes_the_largest() {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    TableDecoder decoder(vocabulary, positions, seed);
    GenerationSettings settings;
    settings.num_beams = 1;
    settings.max_new_tokens = positions;
    Listener listener(1);
    generate(decoder, ids, settings, 1, listener);
    const auto& result = listener.results[0];
    MM_CHECK(result.is_ok());
    MM_CHECK(listener.streamed[0] == result.value().tokens);
    int last = 0;
    for (size_t i = 0; i < result.value().tokens.size(); ++i) {
      const float* row = decoder.row_of(last, static_cast<int>(i));
      const int token = result.value().tokens[i];
      MM_CHECK(row[token] == std::max({row[1], row[3], row[4]}));  // never 0 or 2: forbidden
      last = token;
    }
    MM_CHECK((result.value().finish_reason == FinishReason::length) == (result.value().tokens.size() == positions));
  }
}

void test_callback_ends_the_work() {
  for (Decision decision : {Decision::stop, Decision::cancel}) {
    TableDecoder decoder(vocabulary, positions, 3);
    GenerationSettings settings;
    settings.num_beams = 1;
    settings.max_new_tokens = positions;
    Listener listener(1);
    listener.decision = decision;
    generate(decoder, ids, settings, 1, listener);
    const auto& result = listener.results[0];
    MM_CHECK(result.is_ok());
    if (result.value().tokens.empty()) continue;  // the model ended at once
    MM_CHECK(result.value().tokens.size() == 1 && decoder.steps == 1);
    MM_CHECK(result.value().finish_reason ==
             (decision == Decision::stop ? FinishReason::stop : FinishReason::cancelled));
  }
}

void test_sampling_follows_the_probabilities() {
  GenerationSettings settings;
  settings.num_beams = 1;
  settings.max_new_tokens = 1;
  settings.temperature = 1.5f;
  TableDecoder decoder(vocabulary, positions, 11);
  const float* row = decoder.row_of(0, 0);
  std::map<int, double> expected;
  double total = 0;
  for (int token : {1, 3, 4}) total += expected[token] = std::exp(static_cast<double>(row[token]) / 1.5);
  std::map<int, int> seen;
  constexpr int draws = 4000;
  for (int seed = 0; seed < draws; ++seed) {
    TableDecoder fresh(vocabulary, positions, 11);
    settings.seed = static_cast<uint64_t>(seed);
    const auto result = generate(fresh, ids, settings);
    ++seen[result.value().tokens.empty() ? 1 : result.value().tokens[0]];
    const auto again = [&] {
      TableDecoder second(vocabulary, positions, 11);
      return generate(second, ids, settings);
    }();
    MM_CHECK(again.value().tokens == result.value().tokens);  // the same seed, the same text
  }
  // Five standard deviations of a binomial share with 4000 draws is at most 5 * 0.5 / sqrt(4000) = 0.04.
  for (const auto& [token, weight] : expected)
    MM_CHECK(std::fabs(seen[token] / static_cast<double>(draws) - weight / total) < 0.04);
  MM_CHECK(seen.count(0) == 0 && seen.count(2) == 0);

  settings.top_p = 1e-6f;  // the top set is the best token alone
  for (int seed = 0; seed < 50; ++seed) {
    TableDecoder fresh(vocabulary, positions, 11);
    settings.seed = static_cast<uint64_t>(seed);
    const auto result = generate(fresh, ids, settings);
    const int token = result.value().tokens.empty() ? 1 : result.value().tokens[0];
    MM_CHECK(row[token] == std::max({row[1], row[3], row[4]}));
  }
}

bool is_same(const Generated& a, const Generated& b) {
  return a.tokens == b.tokens && a.probabilities == b.probabilities && a.log_probability == b.log_probability &&
         a.finish_reason == b.finish_reason;
}

// Searches in different languages end at different steps; each finds what it finds alone, whoever leaves before it.
void test_searches_do_not_see_each_other() {
  constexpr int searches = 7;
  for (const auto& [beams, temperature] : {std::pair{1, 0.0f}, {1, 1.2f}, {3, 0.0f}, {16, 0.0f}}) {
    for (uint32_t seed = 0; seed < 20; ++seed) {
      GenerationSettings settings;
      settings.num_beams = beams;
      settings.temperature = temperature;
      settings.seed = seed;
      settings.max_new_tokens = positions;
      TableDecoder together(vocabulary, positions, seed);
      together.sequences_apart = beams;
      Listener all(searches);
      generate(together, ids, settings, searches, all);
      MM_CHECK(together.is_consistent);
      TableDecoder with_one_leaving(vocabulary, positions, seed);
      with_one_leaving.sequences_apart = beams;
      Listener others(searches);
      others.unwanted = 2;
      others.unwanted_after = static_cast<int>(seed % 3);
      generate(with_one_leaving, ids, settings, searches, others);
      for (int s = 0; s < searches; ++s) {
        // The language of search s is that of search 0 whose table begins s positions later.
        TableDecoder alone(vocabulary, positions, seed);
        alone.shift = s;
        const auto expected = generate(alone, ids, settings);
        const size_t at = static_cast<size_t>(s);
        MM_CHECK(expected.is_ok() && all.results[at].is_ok());
        MM_CHECK(is_same(all.results[at].value(), expected.value()));
        if (others.results[at].is_ok())
          MM_CHECK(is_same(others.results[at].value(), expected.value()));
        else
          MM_CHECK(s == 2 && others.results[at].status().code() == mm::base::StatusCode::cancelled);
        if (s == 2 && seed % 3 == 0) MM_CHECK(!others.results[at].is_ok());
      }
    }
  }
}

void test_a_failing_step_fails_those_under_way() {
  GenerationSettings settings;
  settings.num_beams = 1;
  settings.max_new_tokens = positions;
  int kept = 0, failed = 0;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    TableDecoder decoder(vocabulary, positions, seed);
    decoder.sequences_apart = 1;
    decoder.failing_step = 3;
    Listener listener(4);
    generate(decoder, ids, settings, 4, listener);
    for (const auto& result : listener.results) {
      if (result.is_ok()) {
        MM_CHECK(result.value().tokens.size() < 2);  // ended in the two steps before
        ++kept;
      } else {
        MM_CHECK(result.status().code() == mm::base::StatusCode::deadline_exceeded);
        ++failed;
      }
    }
  }
  MM_CHECK(kept > 0 && failed > 0);
}

void test_settings_are_checked() {
  const auto refused = [](auto change) {
    GenerationSettings settings;
    change(settings);
    return check_settings(settings, 32).code() == mm::base::StatusCode::invalid_input;
  };
  MM_CHECK(check_settings({}, 32).is_ok());
  MM_CHECK(refused([](GenerationSettings& s) { s.num_beams = 0; }));
  MM_CHECK(refused([](GenerationSettings& s) { s.num_beams = 17; }));
  MM_CHECK(refused([](GenerationSettings& s) { s.max_new_tokens = 0; }));
  MM_CHECK(refused([](GenerationSettings& s) { s.max_new_tokens = 33; }));
  MM_CHECK(refused([](GenerationSettings& s) { s.temperature = NAN; }));
  MM_CHECK(refused([](GenerationSettings& s) { s.temperature = 1; }));  // with three beams
  MM_CHECK(refused([](GenerationSettings& s) { s.top_p = 0; }));
  MM_CHECK(refused([](GenerationSettings& s) { s.length_penalty = INFINITY; }));
}

}  // namespace

int main() {
  test_beams_find_the_best();
  test_greedy_takes_the_largest();
  test_callback_ends_the_work();
  test_sampling_follows_the_probabilities();
  test_searches_do_not_see_each_other();
  test_a_failing_step_fails_those_under_way();
  test_settings_are_checked();
  return mm::test::finish("generation");
}
