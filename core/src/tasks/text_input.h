// Turns texts into what the language programs take: tokens, positions and segments.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "program/interpreter.h"
#include "tasks/engine.h"

namespace mm::tasks {

struct TextInput {
  std::vector<int32_t> tokens, positions, segments;

  // Inputs of a program by name; valid as long as this object.
  program::NamedTensor named_tokens();
  program::NamedTensor named_positions();
  program::NamedTensor named_segments();
};

// Texts take one form before they are split, so that a forgotten mark changes no answer (training does the same): a
// statement loses spaces around it and spaces and full stops at its end; a question loses these and its ? and !, and
// gets one ? back.

// [CLS] statement [SEP], cut to the model's length. `what` names the text in messages; invalid_input when nothing but
// spaces, full stops and control characters is in it, when it is no UTF-8 or above 64 KiB.
base::Result<TextInput> make_text_input(const Engine& engine, std::string_view statement, const char* what);

// [CLS] question [SEP].
base::Result<TextInput> make_question_input(const Engine& engine, std::string_view question);

// [CLS] question [SEP] option [SEP], the option (a statement) and what follows in segment 1; the question keeps at
// least half of the room that both share.
base::Result<TextInput> make_pair_input(const Engine& engine, std::string_view question, std::string_view option);

}  // namespace mm::tasks
