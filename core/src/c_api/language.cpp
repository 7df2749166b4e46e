// The C functions for embeddings and questions.
#include <algorithm>

#include "c_api/handles.h"
#include "tasks/embedding.h"
#include "tasks/question_answering.h"

struct mm_embedding {
  std::vector<float> values;
};
struct mm_answer {
  mm::tasks::Answer answer;
  std::vector<std::string> texts;  // of the candidates: the answer's own point into a file that may be closed
};

using mm::c_api::guarded;
using mm::c_api::missing;
using mm::c_api::report;
using mm::c_api::view_of;

namespace {

mm_status hand_out(mm::base::Result<std::vector<float>> values, mm_embedding** embedding) {
  if (!values.is_ok()) return report(values.status());
  *embedding = new mm_embedding{std::move(values.value())};
  return MM_OK;
}

}  // namespace

extern "C" {

mm_status mm_embed_image(mm_session* session, const mm_picture* picture, double deadline_seconds,
                         mm_embedding** embedding) {
  return guarded([&] {
    if (embedding == nullptr) return missing("embedding");
    *embedding = nullptr;
    if (session == nullptr) return missing("session");
    if (picture == nullptr) return missing("picture");
    return hand_out(mm::tasks::embed_image(*session->session, view_of(*picture), deadline_seconds), embedding);
  });
}

mm_status mm_embed_text(mm_session* session, const char* text, double deadline_seconds, mm_embedding** embedding) {
  return guarded([&] {
    if (embedding == nullptr) return missing("embedding");
    *embedding = nullptr;
    if (session == nullptr) return missing("session");
    if (text == nullptr) return missing("text");
    return hand_out(mm::tasks::embed_text(*session->session, text, deadline_seconds), embedding);
  });
}

void mm_embedding_free(mm_embedding* embedding) { delete embedding; }
size_t mm_embedding_size(const mm_embedding* embedding) { return embedding->values.size(); }
const float* mm_embedding_values(const mm_embedding* embedding) { return embedding->values.data(); }

mm_status mm_answer_options_init(mm_answer_options* options) {
  return guarded([&] {
    if (options == nullptr) return missing("options");
    const mm::tasks::AnswerSettings defaults;
    *options = {defaults.top_k, defaults.deadline_seconds};
    return MM_OK;
  });
}

mm_status mm_answer_question(mm_session* session, const mm_picture* picture, const char* question,
                             const mm_answer_options* options, mm_answer** answer) {
  return guarded([&] {
    if (answer == nullptr) return missing("answer");
    *answer = nullptr;
    if (session == nullptr) return missing("session");
    if (picture == nullptr) return missing("picture");
    if (question == nullptr) return missing("question");
    mm::tasks::AnswerSettings settings;
    if (options != nullptr) settings = {options->top_k, options->deadline_seconds};
    auto answered = mm::tasks::answer_question(*session->session, view_of(*picture), question, settings);
    if (!answered.is_ok()) return report(answered.status());
    auto made = std::make_unique<mm_answer>();
    made->answer = std::move(answered.value());
    for (const mm::tasks::Candidate& candidate : made->answer.candidates) made->texts.emplace_back(candidate.text);
    *answer = made.release();
    return MM_OK;
  });
}

void mm_answer_free(mm_answer* answer) { delete answer; }

const char* mm_answer_text(const mm_answer* answer) { return answer->texts[0].c_str(); }
float mm_answer_confidence(const mm_answer* answer) { return answer->answer.candidates[0].probability; }
float mm_answer_unanswerable(const mm_answer* answer) { return answer->answer.unanswerable; }
size_t mm_answer_candidate_count(const mm_answer* answer) { return answer->texts.size(); }
const char* mm_answer_candidate(const mm_answer* answer, size_t candidate) {
  return candidate < answer->texts.size() ? answer->texts[candidate].c_str() : nullptr;
}
float mm_answer_candidate_probability(const mm_answer* answer, size_t candidate) {
  return candidate < answer->texts.size() ? answer->answer.candidates[candidate].probability : 0.0f;
}
double mm_answer_milliseconds(const mm_answer* answer) { return answer->answer.timings.total; }

mm_status mm_choose(mm_session* session, const mm_picture* picture, const char* question, const char* const* options,
                    size_t option_count, double deadline_seconds, float* probabilities) {
  return guarded([&] {
    if (session == nullptr) return missing("session");
    if (picture == nullptr) return missing("picture");
    if (question == nullptr) return missing("question");
    if (options == nullptr) return missing("options");
    if (probabilities == nullptr) return missing("probabilities");
    std::vector<std::string> texts;
    for (size_t i = 0; i < option_count && i <= mm::tasks::options_most; ++i) {  // one too many is refused below
      if (options[i] == nullptr) return missing("options");
      texts.emplace_back(options[i]);
    }
    auto chosen = mm::tasks::choose(*session->session, view_of(*picture), question, texts, deadline_seconds);
    if (!chosen.is_ok()) return report(chosen.status());
    std::copy(chosen.value().probabilities.begin(), chosen.value().probabilities.end(), probabilities);
    return MM_OK;
  });
}

}  // extern "C"
