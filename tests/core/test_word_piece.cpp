// Holds word pieces to BERT's rules, to refusing what is no UTF-8, and to vocabularies that can be.
#include "text/word_piece.h"

#include <string>
#include <vector>

#include "check.h"
#include "gguf_writer.h"

namespace {

using mm::base::StatusCode;
using mm::text::WordPiece;
using Ids = std::vector<int32_t>;

const std::vector<std::string> tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]",  "play",  "##ing", "##s",
                                         "a",     "b",     "##a",   "##b",    "cafe",  "?",     "'",
                                         "[",     "]",     "sep",   "\u6771", "\u03c9"};

mm::base::Result<std::shared_ptr<const WordPiece>> load(const std::vector<std::string>& list) {
  mm::test::GgufWriter writer;
  writer.u32("general.alignment", 64);
  writer.strings("mm.wordpiece.tokens", list);
  const std::string bytes = writer.file();
  const auto file = mm::tensor::ModelFile::from_bytes(bytes.data(), bytes.size());
  if (!file.is_ok()) return file.status();
  return WordPiece::from_model(*file.value());
}

void test_rules() {
  const auto loaded = load(tokens);
  if (!MM_CHECK(loaded.is_ok())) return;
  const WordPiece& pieces = *loaded.value();
  MM_CHECK(pieces.vocabulary_size() == 19 && pieces.unknown() == 1 && pieces.begin() == 2 && pieces.separator() == 3);
  const auto encode = [&](const std::string& text) { return pieces.encode(text).value(); };
  MM_CHECK(encode("").empty() && encode(" \t\r\n\u3000").empty());
  MM_CHECK((encode("Playing plays PLAY") == Ids{4, 5, 4, 6, 4}));
  MM_CHECK((encode("abab ba") == Ids{7, 10, 9, 10, 8, 9}));
  MM_CHECK((encode("playx xplay") == Ids{1, 1}));  // a word without pieces is unknown as a whole
  MM_CHECK((encode("Caf\u00e9 cafe\u0301 CAF\u00c9") == Ids{11, 11, 11}));
  MM_CHECK((encode("a?b 'a'") == Ids{7, 12, 8, 13, 7, 13}));
  MM_CHECK((encode("[SEP] [PAD]") == Ids{14, 16, 15, 14, 1, 15}));  // never a control token
  MM_CHECK((encode("a\u6771b") == Ids{7, 17, 8}));                  // an ideograph is a word
  MM_CHECK((encode("\u2126") == Ids{18}));                          // the ohm sign is an omega
  MM_CHECK((encode(std::string("a\0\u200bb", 6)) == Ids{7, 10}));   // control characters are no boundary
  MM_CHECK((encode(std::string(100, 'a')).size() == 100));
  MM_CHECK((encode(std::string(101, 'a')) == Ids{1}));
}

void test_texts_that_are_refused() {
  const auto loaded = load(tokens);
  if (!MM_CHECK(loaded.is_ok())) return;
  for (const std::string text : {"\xFF", "\xC3", "a\xC3(", "\xE2\x82", "\xED\xA0\x80", "\xF0\x9F\x98", "a\x80z",
                                 "\xC0\x80", "\xF4\x90\x80\x80"}) {
    const auto result = loaded.value()->encode(text);
    MM_CHECK(result.status().code() == StatusCode::invalid_input && !result.status().hint().empty());
  }
  MM_CHECK(loaded.value()->encode(std::string(65536, '?')).value().size() == 65536);
  MM_CHECK(loaded.value()->encode(std::string(65537, ' ')).status().code() == StatusCode::invalid_input);
}

void test_vocabularies_that_are_refused() {
  const auto refused = [](const std::vector<std::string>& list) {
    return load(list).status().code() == StatusCode::model_format;
  };
  MM_CHECK(refused({}));
  for (size_t i = 0; i < 4; ++i) {
    std::vector<std::string> list = tokens;
    list[i] = "other";
    MM_CHECK(refused(list));
  }
  std::vector<std::string> list = tokens;
  list.push_back("play");
  MM_CHECK(refused(list));
  list.back() = "";
  MM_CHECK(refused(list));
  list.back() = "more";
  MM_CHECK(load(list).is_ok());
}

}  // namespace

int main() {
  test_rules();
  test_texts_that_are_refused();
  test_vocabularies_that_are_refused();
  return mm::test::finish("word_piece");
}
