// Feeds random bytes and ids to the tokenizers: what goes in comes out, all text is UTF-8, no control token appears.
// Usage: fuzz_text [runs [seed]]
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "check.h"
#include "gguf_writer.h"
#include "mutation.h"
#include "text/byte_pair_encoding.h"
#include "text/word_piece.h"

namespace {

using mm::attacks::Random;
using mm::text::BytePairEncoding;

// All 256 bytes, two control tokens, and merges over the bytes that the random text is rich in.
std::shared_ptr<const BytePairEncoding> make_encoding() {
  std::vector<std::string> letters;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool is_own = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const int code_point = is_own ? byte : next++;
    letters.push_back(code_point < 128 ? std::string(1, static_cast<char>(code_point))
                                       : std::string{static_cast<char>(0xC0 | (code_point >> 6)),
                                                     static_cast<char>(0x80 | (code_point & 63))});
  }
  std::vector<std::string> tokens = {"<|bos|>", "<|eos|>"};
  std::vector<int32_t> types = {3, 3};
  std::vector<std::string> merges;
  for (const std::string& letter : letters) tokens.push_back(letter);
  std::vector<std::string> parts = {letters['a'],  letters['b'],  letters[' '],
                                    letters['\''], letters[0xC3], letters[0xA9]};
  for (size_t i = 0; i < 40; ++i) {
    const std::string left = parts[(i * 7) % parts.size()];
    const std::string right = parts[(i * 5 + 1) % parts.size()];
    bool is_new = true;
    for (const std::string& token : tokens) is_new = is_new && token != left + right;
    if (!is_new) continue;
    merges.push_back(left + " " + right);
    tokens.push_back(left + right);
    parts.push_back(left + right);
  }
  types.resize(tokens.size(), 1);
  mm::test::GgufWriter model;
  model.u32("general.alignment", 64);
  model.string("tokenizer.ggml.model", "gpt2");
  model.strings("tokenizer.ggml.tokens", tokens);
  model.strings("tokenizer.ggml.merges", merges);
  model.array("tokenizer.ggml.token_type", 5, types);
  const std::string bytes = model.file();
  const auto file = mm::tensor::ModelFile::from_bytes(bytes.data(), bytes.size());
  if (!MM_CHECK(file.is_ok())) return nullptr;
  const auto encoding = BytePairEncoding::from_model(*file.value());
  return MM_CHECK(encoding.is_ok()) ? encoding.value() : nullptr;
}

// Letters with and without marks, in front of a word and inside one.
std::shared_ptr<const mm::text::WordPiece> make_word_pieces() {
  std::vector<std::string> tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"};
  for (const std::string piece : {"a", "b", "ab", "s", "ll", "e", "1", "23", "'", "<", "|", ">", "eos", "\xCC\x81"}) {
    tokens.push_back(piece);
    tokens.push_back("##" + piece);
  }
  mm::test::GgufWriter model;
  model.u32("general.alignment", 64);
  model.strings("mm.wordpiece.tokens", tokens);
  const std::string bytes = model.file();
  const auto file = mm::tensor::ModelFile::from_bytes(bytes.data(), bytes.size());
  if (!MM_CHECK(file.is_ok())) return nullptr;
  const auto pieces = mm::text::WordPiece::from_model(*file.value());
  return MM_CHECK(pieces.is_ok()) ? pieces.value() : nullptr;
}

// Bytes that are no text are refused; any text gives ids of pieces, one a code point at most and never a control token
// but [UNK].
void check_word_pieces(const mm::text::WordPiece& pieces, const std::string& text) {
  const auto result = pieces.encode(text);
  MM_CHECK(result.is_ok() == mm::base::is_valid_utf8(text));
  if (!result.is_ok()) {
    MM_CHECK(result.status().code() == mm::base::StatusCode::invalid_input);
    return;
  }
  MM_CHECK(result.value().size() <= 3 * text.size());  // a syllable of Hangul becomes three jamo
  for (const int32_t id : result.value())
    MM_CHECK(id == pieces.unknown() || (id >= 4 && id < pieces.vocabulary_size()));
}

std::string random_text(Random& random) {
  const std::vector<std::string> parts = {"a",
                                          "b",
                                          "ab",
                                          " ",
                                          "  ",
                                          "'",
                                          "'s",
                                          "'ll",
                                          "\n",
                                          "\t",
                                          "1",
                                          "23",
                                          "<|eos|>",
                                          "\xC3\xA9",
                                          "\xC2\xA0",
                                          "\xE3\x80\x80",
                                          "\xF0\x9F\x98\x80",
                                          "\xC3",
                                          "\xE2\x82",
                                          "\xFF",
                                          "\x80"};
  std::string text;
  const size_t length = random.below(64);
  for (size_t i = 0; i < length; ++i) {
    if (random.below(5) == 0) {
      text += static_cast<char>(random.next());
    } else {
      text += parts[random.below(parts.size())];
    }
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  const size_t runs = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 20000;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  const std::shared_ptr<const BytePairEncoding> encoding = make_encoding();
  const std::shared_ptr<const mm::text::WordPiece> pieces = make_word_pieces();
  if (encoding == nullptr || pieces == nullptr) return 1;
  for (size_t run = 0; run < runs; ++run) {
    Random random(seed * 1000003 + run);
    const int failures = mm::test::failures;
    const std::string text = random_text(random);
    const auto result = encoding->encode(text);
    MM_CHECK(result.is_ok());
    std::string back;
    for (const int32_t id : result.value()) {
      MM_CHECK(id >= 0 && id < encoding->vocabulary_size() && !encoding->is_control(id));
      back += encoding->piece(id);
    }
    MM_CHECK(back == text);
    check_word_pieces(*pieces, text);

    std::vector<int32_t> ids(random.below(32));
    for (int32_t& id : ids) {
      id = random.below(8) == 0 ? static_cast<int32_t>(random.next())
                                : static_cast<int32_t>(random.below(static_cast<size_t>(encoding->vocabulary_size())));
    }
    mm::text::Utf8Stream stream;
    std::string streamed;
    for (const int32_t id : ids) {
      const std::string part = stream.push(encoding->piece(id));
      MM_CHECK(mm::base::is_valid_utf8(part));
      streamed += part;
    }
    streamed += stream.finish();
    MM_CHECK(encoding->decode(ids.data(), ids.size()) == streamed);
    MM_CHECK(mm::base::is_valid_utf8(encoding->decode(ids.data(), ids.size(), false)));
    if (mm::test::failures != failures) std::fprintf(stderr, "  in run %zu\n", run);
  }
  return mm::test::finish("fuzz_text");
}
