// One search for a token sequence, step by step: who drives it may drive several at once.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "tasks/generation.h"

namespace mm::tasks {

using TokenCallback = std::function<Decision(int32_t token, float probability)>;

class Search {
 public:
  // `ids` outlives the search.
  static std::unique_ptr<Search> start(const TokenIds& ids, const GenerationSettings& settings, int vocabulary,
                                       TokenCallback on_token);
  virtual ~Search() = default;

  bool is_done() const { return is_done_; }
  // What the next step feeds: one token to each of the search's live sequences.
  const std::vector<int32_t>& tokens() const { return tokens_; }
  // Before it, sequence i takes over what was sequence parents()[i]; empty: each goes on with its own.
  const std::vector<int32_t>& parents() const { return parents_; }
  // Takes the log-probabilities [tokens().size(), vocabulary] after those tokens, and changes them.
  virtual void advance(float* log_probabilities) = 0;
  // Once, when the search is done.
  virtual Generated take_result() = 0;

 protected:
  bool is_done_ = false;
  std::vector<int32_t> tokens_, parents_;
};

}  // namespace mm::tasks
