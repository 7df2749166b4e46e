// Writes token sequences from a decoder: greedy, beam search or sampling, one or several side by side.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace mm::tasks {

struct GenerationSettings {
  int num_beams = 3;        // 1..16; 1 is greedy, or sampling when temperature > 0
  int max_new_tokens = 24;  // the end token counted
  float length_penalty =
      0.0f;                  // hypotheses compete by sum of log-probabilities / length^penalty, the end token counted
  float temperature = 0.0f;  // 0: the most probable token
  float top_p = 1.0f;        // sampling keeps the smallest set of tokens with this much probability
  uint64_t seed = 0;         // the same seed gives the same text on every machine of one instruction set
  int top_k = 0;             // sampling keeps so many of the likeliest tokens; 0: all
  float min_p = 0.0f;        // sampling drops tokens less probable than this share of the likeliest one's probability
};

enum class FinishReason : int { end = 0, length = 1, stop = 2, cancelled = 3 };
const char* finish_reason_name(FinishReason reason);

struct Generated {
  std::vector<int32_t> tokens;       // without the end token
  std::vector<float> probabilities;  // of each token, and of the end token if it came
  float log_probability = 0;         // sum over all of them
  FinishReason finish_reason = FinishReason::end;
};

// What generation needs of a decoder: logits for the next token of each sequence.
class TokenDecoder {
 public:
  virtual ~TokenDecoder() = default;
  virtual int vocabulary() const = 0;
  // Feeds tokens[i] to sequence sequences[i], all at one position; the result is [tokens, vocabulary], valid until the
  // next call. A row does not depend on the rows beside it.
  virtual base::Result<const float*> step(const std::vector<int32_t>& tokens, const std::vector<int32_t>& sequences,
                                          int position) = 0;
  // Sequence first + i continues what was sequence first + parents[i].
  virtual base::Status reorder(int first, const std::vector<int32_t>& parents) = 0;
  // Log-probabilities from logits, per row.
  virtual void log_softmax(const float* logits, float* out, int rows) = 0;
};

struct TokenIds {
  int32_t begin = 0;
  int32_t end = 1;
  std::vector<int32_t> forbidden;    // never generated: begin, padding
  std::vector<int32_t> more_ends{};  // end a text as `end` does, with one beam

  bool is_end(int32_t token) const {
    return token == end || std::find(more_ends.begin(), more_ends.end(), token) != more_ends.end();
  }
};

// What a listener makes of a token: `stop` when a stop text was met, `cancel` when nobody wants more.
enum class Decision { go_on, stop, cancel };

// Who waits for searches that run side by side, each known by its number.
class GenerationListener {
 public:
  virtual ~GenerationListener() = default;
  // Asked before each step; true ends this search alone, with StatusCode::cancelled.
  virtual bool should_stop(int search) = 0;
  // Called with each token as it is chosen; with one beam alone, as beams change their mind.
  virtual Decision on_token(int search, int32_t token, float probability) = 0;
  // Once for each search, as soon as it is done.
  virtual void on_result(int search, base::Result<Generated> result) = 0;
};

base::Status check_settings(const GenerationSettings& settings, int positions_most);
// Runs `searches` searches with the same settings. Search s has the sequences s * num_beams .. of the decoder, at a
// place of its own in every step, so that its result is what it would be alone. A decoder that fails fails all searches
// that are not done.
void generate(TokenDecoder& decoder, const TokenIds& ids, const GenerationSettings& settings, int searches,
              GenerationListener& listener);

}  // namespace mm::tasks
