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

constexpr std::string_view spaces = " \t\n\v\f\r";

// The text without spaces around it and without the characters of `marks` (and spaces among them) at its end.
std::string_view without_end(std::string_view text, std::string_view marks) {
  const size_t first = text.find_first_not_of(spaces);
  if (first == std::string_view::npos) return {};
  text.remove_prefix(first);
  while (!text.empty() &&
         (marks.find(text.back()) != std::string_view::npos || spaces.find(text.back()) != std::string_view::npos))
    text.remove_suffix(1);
  return text;
}

base::Result<std::vector<int32_t>> statement_pieces(const Engine& engine, std::string_view text, const char* what) {
  return pieces_of(engine, without_end(text, "."), what);
}

base::Result<std::vector<int32_t>> question_pieces(const Engine& engine, std::string_view question) {
  const std::string_view words = without_end(question, ".?!");
  MM_ASSIGN_OR_RETURN(const std::vector<int32_t> said, pieces_of(engine, words, "the question"));  // not the mark alone
  return pieces_of(engine, std::string(words) + "?", "the question");
}

void append(TextInput& input, int32_t token, int32_t segment) {
  input.positions.push_back(static_cast<int32_t>(input.tokens.size()));
  input.tokens.push_back(token);
  input.segments.push_back(segment);
}

program::NamedTensor named(const char* name, std::vector<int32_t>& values) {
  return {name, {values.data(), tensor::DType::i32, tensor::Shape::of(static_cast<int64_t>(values.size()))}};
}

TextInput one_segment(const Engine& engine, const std::vector<int32_t>& pieces) {
  const size_t room = static_cast<size_t>(engine.text_positions()) - 2;
  TextInput input;
  append(input, engine.word_pieces()->begin(), 0);
  for (size_t i = 0; i < std::min(pieces.size(), room); ++i) append(input, pieces[i], 0);
  append(input, engine.word_pieces()->separator(), 0);
  return input;
}

}  // namespace

program::NamedTensor TextInput::named_tokens() { return named("tokens", tokens); }
program::NamedTensor TextInput::named_positions() { return named("positions", positions); }
program::NamedTensor TextInput::named_segments() { return named("segments", segments); }

base::Result<TextInput> make_text_input(const Engine& engine, std::string_view statement, const char* what) {
  MM_ASSIGN_OR_RETURN(const std::vector<int32_t> pieces, statement_pieces(engine, statement, what));
  return one_segment(engine, pieces);
}

base::Result<TextInput> make_question_input(const Engine& engine, std::string_view question) {
  MM_ASSIGN_OR_RETURN(const std::vector<int32_t> pieces, question_pieces(engine, question));
  return one_segment(engine, pieces);
}

base::Result<TextInput> make_pair_input(const Engine& engine, std::string_view question, std::string_view option) {
  MM_ASSIGN_OR_RETURN(const std::vector<int32_t> first, question_pieces(engine, question));
  MM_ASSIGN_OR_RETURN(const std::vector<int32_t> second, statement_pieces(engine, option, "an option"));
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
