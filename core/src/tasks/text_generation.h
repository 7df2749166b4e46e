// Writes text: a prompt in blocks through `decode_text`, then one token a step.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tasks/captioning.h"
#include "tasks/chat_template.h"
#include "tasks/session.h"

namespace mm::tasks {

// `messages` is a conversation put by the file's chat template; without any, `text` is continued as it is.
struct TextPrompt {
  std::string text;
  std::vector<ChatMessage> messages;
};

struct TextGenerationSettings {
  GenerationSettings generation;  // one beam
  // Logits of tokens that the prompt or the text holds are divided by it, or multiplied below 0 (Keskar et al. 2019).
  float repetition_penalty = 1.0f;
  std::vector<std::string> stop;  // the text ends before the first of these
  double deadline_seconds = 0;    // 0: none
  std::shared_ptr<Cancellation> cancellation;

  TextGenerationSettings() {
    generation.num_beams = 1;
    generation.max_new_tokens = 256;
  }
};

struct TextTimings {  // milliseconds
  double encode = 0, prefill = 0, first_token = 0, decode = 0, total = 0;
};

struct GeneratedText {
  std::string text;
  Generated generated;
  int prompt_tokens = 0;
  int cached_tokens = 0;  // of these, so many were in the caches from the call before
  TextTimings timings;
};

// The caches keep what was read and written: the next prompt is read from where it differs. A text that fills the
// context ends with `length`. invalid_input says by how much a prompt is too long.
base::Result<GeneratedText> generate_text(Session& session, const TextPrompt& prompt,
                                          const TextGenerationSettings& settings, const PieceCallback& on_piece);

// The tokens of a prompt.
base::Result<std::vector<int32_t>> encode_prompt(const Engine& engine, const TextPrompt& prompt);

}  // namespace mm::tasks
