// Holds the tokenizer to GPT-2's word rule and merge order, to valid UTF-8, and to refusing vocabularies that
// contradict themselves.
#include "text/byte_pair_encoding.h"

#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "check.h"
#include "gguf_writer.h"
#include "text/unicode_categories.h"

namespace {

using mm::base::StatusCode;
using mm::test::GgufWriter;
using mm::text::BytePairEncoding;
using mm::text::Category;
using Ids = std::vector<int32_t>;

// The letter of GPT-2's alphabet that stands for a byte: itself where printable, else the next from U+0100 on.
std::string letter_of(int byte) {
  const auto is_own = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
  int code_point = byte;
  if (!is_own(byte)) {
    code_point = 256;
    for (int b = 0; b < byte; ++b) code_point += is_own(b) ? 0 : 1;
  }
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xC0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 63))};
}

std::string letters_of(const std::string& bytes) {
  std::string letters;
  for (const char byte : bytes) letters += letter_of(static_cast<uint8_t>(byte));
  return letters;
}

struct Vocabulary {
  std::string model = "gpt2";
  std::vector<std::string> tokens = {"<|bos|>", "<|eos|>"};
  std::vector<int32_t> types = {3, 3};
  std::vector<std::string> merges;
  bool add_space_prefix = false;
  std::string word_rule;  // empty: no key

  // Two control tokens, then byte b is id 2 + b.
  Vocabulary() {
    for (int byte = 0; byte < 256; ++byte) token(letter_of(byte));
  }
  void token(const std::string& piece, int32_t type = 1) {
    tokens.push_back(piece);
    types.push_back(type);
  }
  // Adds a merge of two byte strings and the token it yields.
  void merge(const std::string& left, const std::string& right) {
    merges.push_back(letters_of(left) + " " + letters_of(right));
    token(letters_of(left + right));
  }
  mm::base::Result<std::shared_ptr<const BytePairEncoding>> load() const {
    GgufWriter writer;
    writer.u32("general.alignment", 64);
    writer.string("tokenizer.ggml.model", model);
    writer.strings("tokenizer.ggml.tokens", tokens);
    writer.strings("tokenizer.ggml.merges", merges);
    writer.array("tokenizer.ggml.token_type", 5, types);
    if (add_space_prefix) writer.scalar<uint8_t>("tokenizer.ggml.add_space_prefix", 7, 1);
    if (!word_rule.empty()) writer.string("tokenizer.ggml.pre", word_rule);
    const std::string bytes = writer.file();
    const auto file = mm::tensor::ModelFile::from_bytes(bytes.data(), bytes.size());
    if (!file.is_ok()) return file.status();
    return BytePairEncoding::from_model(*file.value());
  }
};

// "hello" from the outside in, a word with a space, and spaces: ids 258 .. 267.
Vocabulary words() {
  Vocabulary vocabulary;
  vocabulary.merge("l", "l");        // 258
  vocabulary.merge("h", "e");        // 259
  vocabulary.merge("he", "ll");      // 260
  vocabulary.merge("hell", "o");     // 261
  vocabulary.merge(" ", "w");        // 262
  vocabulary.merge(" ", " ");        // 263
  vocabulary.merge("a", "a");        // 264
  vocabulary.merge("aa", "aa");      // 265
  vocabulary.merge("'", "s");        // 266
  vocabulary.merge("\xC3", "\xA9");  // 267: e acute
  return vocabulary;
}

int32_t byte_id(int byte) { return 2 + byte; }

void check_encoding() {
  const auto result = words().load();
  if (!MM_CHECK(result.is_ok())) {
    std::fprintf(stderr, "  %s\n", result.status().message().c_str());
    return;
  }
  const BytePairEncoding& bpe = *result.value();
  const auto encode = [&](const std::string& text) { return bpe.encode(text).value(); };
  MM_CHECK(bpe.vocabulary_size() == 268);
  MM_CHECK(encode("").empty());
  MM_CHECK(encode("hello") == Ids{261});
  MM_CHECK((encode("hell") == Ids{260}));
  MM_CHECK((encode("helo") == Ids{259, byte_id('l'), byte_id('o')}));
  MM_CHECK((encode("lll") == Ids{258, byte_id('l')}));  // the leftmost of equal ranks merges first
  MM_CHECK((encode("aaaaa") == Ids{265, byte_id('a')}));
  MM_CHECK((encode("aaaaaaa") == Ids{265, 264, byte_id('a')}));
  MM_CHECK((encode("hello w") == Ids{261, 262}));
  // The last of several spaces belongs to the word behind it; at the end they stay together.
  MM_CHECK((encode("a   w") == Ids{byte_id('a'), 263, 262}));
  MM_CHECK((encode("a   ") == Ids{byte_id('a'), 263, byte_id(' ')}));
  MM_CHECK((encode("a  ") == Ids{byte_id('a'), 263}));
  MM_CHECK((encode("\n w") == Ids{byte_id('\n'), 262}));
  MM_CHECK((encode(" \nw") == Ids{byte_id(' '), byte_id('\n'), byte_id('w')}));
  // The clitic rule needs lower case and wins over the rule for marks.
  MM_CHECK((encode("a's") == Ids{byte_id('a'), 266}));
  MM_CHECK((encode("a'S") == Ids{byte_id('a'), byte_id('\''), byte_id('S')}));
  MM_CHECK((encode(" 's") == Ids{byte_id(' '), byte_id('\''), byte_id('s')}));
  MM_CHECK((encode("\xC3\xA9") == Ids{267}));
  // No text yields a control token.
  for (const int32_t id : encode("<|bos|> <|eos|>hello<|eos|>")) MM_CHECK(!bpe.is_control(id));
  // Bytes that are not UTF-8 go through one by one.
  for (const std::string text :
       {"\xFF", "\xC3", "\xC3(", "\xE2\x82", "\xED\xA0\x80", "\xF0\x9F\x98", "a\x80z", "\xC3\xC3\xA9"}) {
    std::string back;
    for (const int32_t id : encode(text)) back += bpe.piece(id);
    MM_CHECK(back == text);
  }
  MM_CHECK(encode(std::string("\0\0", 2)).size() == 2);
  MM_CHECK(bpe.encode(std::string((1 << 20) + 1, 'a')).status().code() == StatusCode::invalid_input);
  MM_CHECK(bpe.encode(std::string(1 << 20, 'a')).value().size() == (1 << 18));

  Vocabulary prefixed = words();
  prefixed.add_space_prefix = true;
  const auto with_prefix = prefixed.load();
  MM_CHECK(with_prefix.value()->encode("w").value() == Ids{262});
  MM_CHECK(with_prefix.value()->encode(" w").value() == Ids{262});
  MM_CHECK(with_prefix.value()->encode("").value().empty());
}

// Digits first: each is a word, and what lies between two of them is cut as a text of its own.
void check_split_digits() {
  Vocabulary vocabulary = words();
  vocabulary.merge("1", "2");        // 268
  vocabulary.merge(" ", "1");        // 269
  vocabulary.merge("\xC2", "\xB2");  // 270: superscript two, a number like any
  const auto plain = vocabulary.load();
  vocabulary.word_rule = "gpt-2";
  const auto named = vocabulary.load();
  for (const auto& result : {plain, named}) {
    MM_CHECK((result.value()->encode("12").value() == Ids{268}) &&
             (result.value()->encode("a 1").value() == Ids{byte_id('a'), 269}));
    MM_CHECK((result.value()->encode("a  1").value() == Ids{byte_id('a'), byte_id(' '), 269}));
  }
  vocabulary.word_rule = "smollm";
  const auto split = vocabulary.load();
  const auto encode = [&](const std::string& text) { return split.value()->encode(text).value(); };
  MM_CHECK((encode("12") == Ids{byte_id('1'), byte_id('2')}));
  MM_CHECK((encode("a 1") == Ids{byte_id('a'), byte_id(' '), byte_id('1')}));
  MM_CHECK((encode("a  1") == Ids{byte_id('a'), 263, byte_id('1')}));  // spaces before a digit end a text: both stay
  MM_CHECK((encode("hello1hello\xC2\xB2 w") == Ids{261, byte_id('1'), 261, 270, 262}));
  MM_CHECK((encode("1's") == Ids{byte_id('1'), 266}));
  MM_CHECK(encode("").empty());
  vocabulary.word_rule = "llama-bpe";
  MM_CHECK(vocabulary.load().status().code() == StatusCode::model_format);
}

void check_control_names() {
  const auto result = words().load();
  const BytePairEncoding& bpe = *result.value();
  MM_CHECK(bpe.control_name_at("a<|eos|>b", 1).id == 1 && bpe.control_name_at("a<|eos|>b", 1).bytes == 7);
  MM_CHECK(bpe.control_name_at("a<|eos|>b", 0).bytes == 0 && bpe.control_name_at("<|eos", 0).bytes == 0);
}

void check_decoding() {
  const auto result = words().load();
  const BytePairEncoding& bpe = *result.value();
  const auto decode = [&](const Ids& ids, bool skip_control = true) {
    return bpe.decode(ids.data(), ids.size(), skip_control);
  };
  MM_CHECK(decode({261, 262}) == "hello w");
  MM_CHECK(decode({0, 261, 1}) == "hello");
  MM_CHECK(decode({0, 261, 1}, false) == "<|bos|>hello<|eos|>");
  MM_CHECK(decode({-1, 268, 2147483647, 261}) == "hello");
  MM_CHECK(decode({}).empty() && bpe.decode(nullptr, 0).empty());
  MM_CHECK(bpe.piece(267) == "\xC3\xA9" && bpe.piece(0).empty() && bpe.piece(-1).empty() && bpe.piece(999).empty());
  MM_CHECK(bpe.is_control(0) && !bpe.is_control(2) && !bpe.is_control(-1) && !bpe.is_control(268));
  MM_CHECK(bpe.control_token("<|eos|>") == 1 && !bpe.control_token("hello") && !bpe.control_token(""));

  // Code points split over tokens come out whole; what can be no UTF-8 becomes U+FFFD, once a maximal wrong prefix.
  MM_CHECK(decode({byte_id(0xC3), byte_id(0xA9)}) == "\xC3\xA9");
  MM_CHECK(decode({byte_id(0xC3), byte_id('a')}) ==
           "\xEF\xBF\xBD"
           "a");
  MM_CHECK(decode({byte_id(0xF0), byte_id(0x9F), byte_id(0x98)}) == "\xEF\xBF\xBD");
  MM_CHECK(decode({byte_id(0xFF), byte_id(0xFF)}) == "\xEF\xBF\xBD\xEF\xBF\xBD");

  mm::text::Utf8Stream stream;
  MM_CHECK(stream.push("a\xF0\x9F") == "a");
  MM_CHECK(stream.push("").empty());
  MM_CHECK(stream.push("\x98") == "");
  MM_CHECK(stream.push("\x80z\xE2") == "\xF0\x9F\x98\x80z");
  MM_CHECK(stream.finish() == "\xEF\xBF\xBD" && stream.finish().empty());

  // Every string of up to three bytes from the corners of UTF-8: one push, or byte by byte, gives the same valid text.
  const std::string corners = "a\x7F\x80\x8F\x90\x9F\xA0\xBF\xC2\xDF\xE0\xE1\xED\xEF\xF0\xF1\xF4\xF5";
  for (const char x : corners) {
    for (const char y : corners) {
      for (const char z : corners) {
        const std::string bytes = {x, y, z};
        mm::text::Utf8Stream whole, single;
        std::string text = whole.push(bytes);
        text += whole.finish();
        std::string other;
        for (const char byte : bytes) other += single.push(std::string_view(&byte, 1));
        other += single.finish();
        MM_CHECK(text == other && mm::base::is_valid_utf8(text));
      }
    }
  }
}

void check_categories() {
  using mm::text::category_of;
  const auto all = [](const std::vector<uint32_t>& code_points, Category category) {
    for (const uint32_t c : code_points) MM_CHECK(category_of(c) == category);
  };
  all({'A', 'z', 0xAA, 0xB5, 0xE9, 0x2C1, 0x416, 0x5D0, 0x4E00, 0x9FFF, 0xAC00, 0x1D400, 0x20000}, Category::letter);
  all({'0', '9', 0xB2, 0xBD, 0x663, 0x2167, 0x3007, 0x1D7D8}, Category::number);
  all({9, 10, 11, 12, 13, ' ', 0x85, 0xA0, 0x1680, 0x2003, 0x2028, 0x202F, 0x205F, 0x3000}, Category::space);
  all({0, 8, 0x1C, 0x1F, '!', '@', '[', '`', '{', 0x7F, 0x300, 0x180E, 0x200B, 0xFEFF, 0x1F600, 0xE000, 0x10FFFF, ~0u},
      Category::other);
}

void check_wrong(const std::function<void(Vocabulary&)>& change, const std::string& word) {
  Vocabulary vocabulary = words();
  change(vocabulary);
  const auto result = vocabulary.load();
  if (!MM_CHECK(!result.is_ok())) return;
  MM_CHECK(result.status().code() == StatusCode::model_format);
  if (!MM_CHECK(result.status().message().find(word) != std::string::npos)) {
    std::fprintf(stderr, "  `%s` is not in: %s\n", word.c_str(), result.status().message().c_str());
  }
}

void check_refusals() {
  check_wrong([](Vocabulary& v) { v.model = "llama"; }, "expected `gpt2`");
  check_wrong([](Vocabulary& v) { v.tokens.clear(), v.types.clear(), v.merges.clear(); }, "0 tokens");
  check_wrong([](Vocabulary& v) { v.types.pop_back(); }, "`tokenizer.ggml.token_type` has 267 entries");
  check_wrong([](Vocabulary& v) { v.types[5] = 4; }, "is 4, expected 1 (normal) or 3 (control)");
  check_wrong([](Vocabulary& v) { v.types[5] = -1; }, "holds -1");
  check_wrong([](Vocabulary& v) { v.token(""); }, "place 268 is empty");
  check_wrong([](Vocabulary& v) { v.token(letters_of("hello")); }, "place 268 repeats the token at place 261");
  check_wrong([](Vocabulary& v) { v.token("hello", 3); }, "repeats");
  check_wrong([](Vocabulary& v) { v.token("a b"); }, "outside GPT-2's byte alphabet");
  check_wrong([](Vocabulary& v) { v.token("\xE2\x82\xAC"); }, "outside GPT-2's byte alphabet");
  check_wrong([](Vocabulary& v) { v.merges.push_back("hello"); }, "place 10 is not two pieces");
  check_wrong([](Vocabulary& v) { v.merges.push_back("a b c"); }, "place 10 is not two pieces");
  check_wrong([](Vocabulary& v) { v.merges.push_back(" a"); }, "no normal token");
  check_wrong([](Vocabulary& v) { v.merges.push_back("a "); }, "no normal token");
  check_wrong([](Vocabulary& v) { v.merges.push_back("q z"); }, "no normal token");
  check_wrong([](Vocabulary& v) { v.merges.push_back("hello zz"); }, "no normal token");
  check_wrong([](Vocabulary& v) { v.merges.push_back("l l"); }, "place 10 occurs twice");
  // A merge that spells a control token would let text produce it.
  check_wrong([](Vocabulary& v) { v.token("qz", 3), v.merges.push_back("q z"); }, "no normal token");
}

void check_speed() {
  const auto result = words().load();
  // One word of 1 MiB in which every byte merges: quadratic work would take minutes.
  const std::string text(1 << 20, 'a');
  const auto start = std::chrono::steady_clock::now();
  MM_CHECK(result.value()->encode(text).is_ok());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("byte_pair_encoding: one word of 1 MiB in %.0f ms\n", seconds * 1e3);
  MM_CHECK(seconds < 20);
}

}  // namespace

int main() {
  check_encoding();
  check_split_digits();
  check_control_names();
  check_decoding();
  check_categories();
  check_refusals();
  check_speed();
  return mm::test::finish("byte_pair_encoding");
}
