// The C functions that write text: thin, exception-free shells over tasks/text_generation.
#include "tasks/text_generation.h"

#include "c_api/handles.h"

struct mm_generated_text {
  mm::tasks::GeneratedText made;
};

using mm::c_api::guarded;
using mm::c_api::missing;
using mm::c_api::report;

namespace {

mm_status settings_from(const mm_generate_options* options, mm::tasks::TextGenerationSettings& settings,
                        mm::tasks::PieceCallback& on_piece) {
  if (options == nullptr) return MM_OK;
  settings.generation.max_new_tokens = options->max_new_tokens;
  settings.generation.temperature = options->temperature;
  settings.generation.top_k = options->top_k;
  settings.generation.top_p = options->top_p;
  settings.generation.min_p = options->min_p;
  settings.generation.seed = options->seed;
  settings.repetition_penalty = options->repetition_penalty;
  settings.deadline_seconds = options->deadline_seconds;
  if (options->stop_count > 0 && options->stop == nullptr) return missing("stop");
  for (size_t i = 0; i < options->stop_count; ++i) {
    if (options->stop[i] == nullptr) return missing("stop");
    settings.stop.emplace_back(options->stop[i]);
  }
  if (options->on_piece != nullptr)
    on_piece = [options](int32_t, std::string_view piece, float probability) {
      return options->on_piece(options->on_piece_context, piece.data(), piece.size(), probability) != 0;
    };
  return MM_OK;
}

mm_status generate(mm_session* session, const mm::tasks::TextPrompt& prompt, const mm_generate_options* options,
                   mm_generated_text** text) {
  mm::tasks::TextGenerationSettings settings;
  mm::tasks::PieceCallback on_piece;
  const mm_status status = settings_from(options, settings, on_piece);
  if (status != MM_OK) return status;
  auto made = mm::tasks::generate_text(*session->session, prompt, settings, on_piece);
  if (!made.is_ok()) return report(made.status());
  *text = new mm_generated_text{std::move(made.value())};
  return MM_OK;
}

}  // namespace

extern "C" {

mm_status mm_generate_options_init(mm_generate_options* options) {
  return guarded([&] {
    if (options == nullptr) return missing("options");
    const mm::tasks::TextGenerationSettings defaults;
    const mm::tasks::GenerationSettings& generation = defaults.generation;
    *options = {generation.max_new_tokens,
                generation.temperature,
                generation.top_k,
                generation.top_p,
                generation.min_p,
                defaults.repetition_penalty,
                generation.seed,
                defaults.deadline_seconds,
                nullptr,
                0,
                nullptr,
                nullptr};
    return MM_OK;
  });
}

mm_status mm_generate_text(mm_session* session, const char* prompt, const mm_generate_options* options,
                           mm_generated_text** text) {
  return guarded([&] {
    if (text == nullptr) return missing("text");
    *text = nullptr;
    if (session == nullptr) return missing("session");
    if (prompt == nullptr) return missing("prompt");
    return generate(session, {prompt, {}}, options, text);
  });
}

mm_status mm_generate_reply(mm_session* session, const mm_message* messages, size_t message_count,
                            const mm_generate_options* options, mm_generated_text** text) {
  return guarded([&] {
    if (text == nullptr) return missing("text");
    *text = nullptr;
    if (session == nullptr) return missing("session");
    if (messages == nullptr || message_count == 0) return missing("messages");
    mm::tasks::TextPrompt prompt;
    for (size_t i = 0; i < message_count; ++i) {
      if (messages[i].content == nullptr) return missing("content");
      const int32_t role = messages[i].role;
      if (role < 0 || role >= mm::tasks::chat_role_count)
        return report(mm::base::invalid_input("message " + std::to_string(i) + " has role " + std::to_string(role) +
                                              ", expected MM_SYSTEM, MM_USER or MM_ASSISTANT"));
      prompt.messages.push_back({static_cast<mm::tasks::ChatRole>(role), messages[i].content});
    }
    return generate(session, prompt, options, text);
  });
}

void mm_generated_text_free(mm_generated_text* text) { delete text; }

const char* mm_generated_text_string(const mm_generated_text* text) { return text->made.text.c_str(); }
size_t mm_generated_text_token_count(const mm_generated_text* text) { return text->made.generated.tokens.size(); }
const int32_t* mm_generated_text_tokens(const mm_generated_text* text) { return text->made.generated.tokens.data(); }
const float* mm_generated_text_token_probabilities(const mm_generated_text* text) {
  return text->made.generated.probabilities.data();
}
mm_finish_reason mm_generated_text_finish_reason(const mm_generated_text* text) {
  return static_cast<mm_finish_reason>(text->made.generated.finish_reason);
}
size_t mm_generated_text_prompt_tokens(const mm_generated_text* text) {
  return static_cast<size_t>(text->made.prompt_tokens);
}
size_t mm_generated_text_cached_tokens(const mm_generated_text* text) {
  return static_cast<size_t>(text->made.cached_tokens);
}
double mm_generated_text_milliseconds(const mm_generated_text* text) { return text->made.timings.total; }

}  // extern "C"
