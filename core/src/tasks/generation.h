// Writes token sequences from a decoder: greedy, beam search or sampling, with stops, a callback and a probability a
// token.
#pragma once

#include <cstdint>
#include <functional>
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
  // Feeds one token to each of `count` sequences at one position; the result is [count, vocabulary], valid until the
  // next call.
  virtual base::Result<const float*> step(const int32_t* tokens, int count, int position) = 0;
  // Sequence i continues what was sequence parents[i].
  virtual base::Status reorder(const int32_t* parents, int count) = 0;
  // Log-probabilities from logits, per row.
  virtual void log_softmax(const float* logits, float* out, int rows) = 0;
};

struct TokenIds {
  int32_t begin = 0;
  int32_t end = 1;
  std::vector<int32_t> forbidden;  // never generated: begin, padding
};

// Called with each token as it is chosen (one beam only); false stops: `stop` when a stop text was met, else
// `cancelled`.
enum class Decision { go_on, stop, cancel };
using TokenCallback = std::function<Decision(int32_t token, float probability)>;

base::Status check_settings(const GenerationSettings& settings, int positions_most);
base::Result<Generated> generate(TokenDecoder& decoder, const TokenIds& ids, const GenerationSettings& settings,
                                 const TokenCallback& on_token);

}  // namespace mm::tasks
