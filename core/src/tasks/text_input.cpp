// Splits texts into word pieces and cuts them to the model's length, as training does.
#include "tasks/text_input.h"

#include <algorithm>
#include <string>

namespace mm::tasks {

namespace {

base::Result<std::vector<int32_t>> pieces_of(const Engine& engine, std::string_view text, const char* what) {
  auto pieces = engine.word_pieces()->encode(text);
  if (!pieces.is_ok())
    return base::Status(pieces.status().code(), std::string(what) + ": " + pieces.status().message(),
                        pieces.status().hint());
  if (pieces.value().empty())
    return base::invalid_input(std::string(what) + " is empty, expected at least one word", "write one");
  return pieces;
}

void append(TextInput& input, int32_t token, int32_t segment) {
  input.positions.push_back(static_cast<int32_t>(input.tokens.size()));
  input.tokens.push_back(token);
  input.segments.push_back(segment);
}

program::NamedTensor named(const char* name, std::vector<int32_t>& values) {
  return {name, {values.data(), tensor::DType::i32, tensor::Shape::of(static_cast<int64_t>(values.size()))}};
}

}  // namespace

program::NamedTensor TextInput::named_tokens() { return named("tokens", tokens); }
program::NamedTensor TextInput::named_positions() { return named("positions", positions); }
program::NamedTensor TextInput::named_segments() { return named("segments", segments); }

base::Result<TextInput> make_text_input(const Engine& engine, std::string_view text, const char* what) {
  MM_ASSIGN_OR_RETURN(const std::vector<int32_t> pieces, pieces_of(engine, text, what));
  const size_t room = static_cast<size_t>(engine.text_positions()) - 2;
  TextInput input;
  append(input, engine.word_pieces()->begin(), 0);
  for (size_t i = 0; i < std::min(pieces.size(), room); ++i) append(input, pieces[i], 0);
  append(input, engine.word_pieces()->separator(), 0);
  return input;
}

base::Result<TextInput> make_pair_input(const Engine& engine, std::string_view question, std::string_view option) {
  MM_ASSIGN_OR_RETURN(const std::vector<int32_t> first, pieces_of(engine, question, "the question"));
  MM_ASSIGN_OR_RETURN(const std::vector<int32_t> second, pieces_of(engine, option, "an option"));
  const size_t room = static_cast<size_t>(engine.text_positions()) - 3;
  const size_t beside_option = room - std::min(room, second.size());
  const size_t first_count = std::min(first.size(), std::max(room - room / 2, beside_option));
  const size_t second_count = std::min(second.size(), room - first_count);
  TextInput input;
  append(input, engine.word_pieces()->begin(), 0);
  for (size_t i = 0; i < first_count; ++i) append(input, first[i], 0);
  append(input, engine.word_pieces()->separator(), 0);
  for (size_t i = 0; i < second_count; ++i) append(input, second[i], 1);
  append(input, engine.word_pieces()->separator(), 1);
  return input;
}

}  // namespace mm::tasks
