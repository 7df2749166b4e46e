// Answers questions about a picture: from the model's own list of answers, or from options.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tasks/session.h"

namespace mm::tasks {

inline constexpr int answers_most = 100;  // of one question
inline constexpr size_t options_least = 2, options_most = 64;

struct AnswerSettings {
  int top_k = 5;                // so many of the likeliest answers, 1 to 100
  double deadline_seconds = 0;  // 0: none
  std::shared_ptr<Cancellation> cancellation = nullptr;
};

struct AnswerTimings {  // milliseconds
  double resize = 0, encode = 0, prepare = 0, answer = 0, total = 0;
};

struct Candidate {
  std::string_view text;  // points into the model file
  float probability = 0;
};

struct Answer {
  std::vector<Candidate> candidates;  // the likeliest first, at least one; never "unanswerable"
  float unanswerable = 0;             // the probability that the picture does not tell; the candidates share the rest
  AnswerTimings timings;
};

struct Choice {
  std::vector<float> probabilities;  // of each option; they sum to 1
  AnswerTimings timings;
};

// Whatever its length, a question is read up to the model's number of tokens. not_found when the file lacks the parts.
base::Result<Answer> answer_question(Session& session, const vision::PictureView& picture, std::string_view question,
                                     const AnswerSettings& settings);
base::Result<Choice> choose(Session& session, const vision::PictureView& picture, std::string_view question,
                            const std::vector<std::string>& options, double deadline_seconds,
                            std::shared_ptr<Cancellation> cancellation = nullptr);

}  // namespace mm::tasks
