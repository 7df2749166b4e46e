// Writes text through the C door, with a small model that knows the alphabet: behind each letter the next one, behind
// `h` the end. Holds streams, stop texts, limits, conversations and reuse of what was read to what they promise.
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "gguf_writer.h"
#include "mobile_multimodal/mobile_multimodal.h"

namespace {

constexpr int32_t end_token = 0, start_token = 1, first_byte = 2, vocabulary = 258;
constexpr int context = 40;

int32_t byte_id(char byte) { return first_byte + static_cast<uint8_t>(byte); }

std::string letter_of(int byte) {  // GPT-2's alphabet
  const auto is_own = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
  int code_point = byte;
  if (!is_own(byte)) {
    code_point = 256;
    for (int b = 0; b < byte; ++b) code_point += is_own(b) ? 0 : 1;
  }
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xC0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 63))};
}

struct Wrong {
  bool without_program = false;
  bool without_chat = false;
  uint32_t end = end_token;
};

std::string alphabet_model(const Wrong& wrong = {}) {
  mm::test::GgufWriter writer;
  writer.string("general.architecture", "mobile-mm");
  writer.u32("general.alignment", 64);
  writer.u32("mm.format_version", 1);
  std::vector<std::string> tokens = {"<|end|>", "<|start|>"};
  std::vector<int32_t> types = {3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(letter_of(byte));
    types.push_back(1);
  }
  writer.string("tokenizer.ggml.model", "gpt2");
  writer.strings("tokenizer.ggml.tokens", tokens);
  writer.strings("tokenizer.ggml.merges", {});
  writer.array("tokenizer.ggml.token_type", 5, types);
  writer.array<uint32_t>("mm.generate.end_tokens", 4, {wrong.end});
  if (!wrong.without_chat) {
    writer.string("mm.chat.opening", "<|start|>s:hi<|end|>");
    for (const std::string role : {"system", "user", "assistant"}) {
      writer.string("mm.chat." + role + ".prefix", "<|start|>" + role.substr(0, 1) + ":");
      writer.string("mm.chat." + role + ".suffix", "<|end|>");
    }
    writer.string("mm.chat.reply", "<|start|>a");
  }
  writer.strings("mm.op_names", {"embedding_f32", "last_row"});
  writer.strings("mm.programs", {wrong.without_program ? "other" : "decode_text"});
  const std::string prefix = std::string("mm.program.") + (wrong.without_program ? "other" : "decode_text") + ".";
  writer.strings(prefix + "inputs", {"tokens", "positions", "sequences"});
  writer.strings(prefix + "input_types", {"i32", "i32", "i32"});
  writer.strings(prefix + "tensors", {"decoder.next"});
  writer.strings(prefix + "outputs", {"logits"});
  writer.array<uint32_t>(prefix + "output_slots", 4, {5});
  writer.u32(prefix + "slots", 6);
  writer.array<uint32_t>(prefix + "code", 4, {0, 2, 1, 0, 0, 3, 4, 1, 1, 1, 0, 4, 5});
  writer.strings("mm.states", {"cache"});
  writer.strings("mm.state.kinds", {"cache"});
  writer.array<uint32_t>("mm.state.widths", 4, {4});
  writer.array<uint32_t>("mm.state.rows", 4, {context});
  std::vector<float> next(vocabulary * vocabulary, 0.0f);
  for (int32_t token = 0; token < vocabulary; ++token) {
    int32_t follower = token + 1 < vocabulary ? token + 1 : end_token;
    if (token == byte_id('h')) follower = end_token;
    next[static_cast<size_t>(token * vocabulary + follower)] = 20;
    next[static_cast<size_t>(token * vocabulary + start_token)] = 30;   // likelier still, and never to be generated
    next[static_cast<size_t>(token * vocabulary + byte_id('z'))] = 15;  // the second choice
  }
  writer.tensors.push_back({"decoder.next", {vocabulary, vocabulary}, 0, mm::test::raw_bytes(next)});
  writer.seal({"decoder"});
  return writer.file();
}

mm_session* open_session(const Wrong& wrong = {}) {
  const std::string bytes = alphabet_model(wrong);
  mm_engine* engine = nullptr;
  mm_session* session = nullptr;
  if (!MM_CHECK(mm_engine_open_bytes(bytes.data(), bytes.size(), &engine) == MM_OK))
    std::fprintf(stderr, "  %s\n", mm_last_error());
  else
    MM_CHECK(mm_session_create(engine, 1, &session) == MM_OK);
  mm_engine_close(engine);
  return session;
}

struct Stream {
  std::string text;
  int pieces = 0;
  int stop_after = 0;  // 0: never
};

int32_t on_piece(void* context_of_stream, const char* piece, size_t piece_bytes, float probability) {
  Stream& stream = *static_cast<Stream*>(context_of_stream);
  MM_CHECK(probability >= 0 && probability <= 1);
  stream.text.append(piece, piece_bytes);
  return ++stream.pieces != stream.stop_after;
}

std::string written(mm_session* session, const char* prompt, const mm_generate_options* options,
                    mm_finish_reason reason) {
  mm_generated_text* text = nullptr;
  if (!MM_CHECK(mm_generate_text(session, prompt, options, &text) == MM_OK)) {
    std::fprintf(stderr, "  %s\n", mm_last_error());
    return {};
  }
  MM_CHECK(mm_generated_text_finish_reason(text) == reason);
  MM_CHECK(mm_generated_text_milliseconds(text) > 0);
  const std::string result = mm_generated_text_string(text);
  mm_generated_text_free(text);
  return result;
}

void test_texts() {
  mm_session* session = open_session();
  if (session == nullptr) return;
  mm_generate_options options;
  MM_CHECK(mm_generate_options_init(&options) == MM_OK);
  MM_CHECK(written(session, "a", nullptr, MM_FINISH_END) == "bcdefgh");
  options.max_new_tokens = 3;
  MM_CHECK(written(session, "a", &options, MM_FINISH_LENGTH) == "bcd");
  MM_CHECK(mm_generate_options_init(&options) == MM_OK);
  const char* stop[] = {"ex", "ef"};  // `e` is held back until `f` shows which it is
  options.stop = stop;
  options.stop_count = 2;
  MM_CHECK(written(session, "a", &options, MM_FINISH_STOP) == "bcd");
  options.stop_count = 1;
  Stream stream;
  options.on_piece = on_piece;
  options.on_piece_context = &stream;
  MM_CHECK(written(session, "a", &options, MM_FINISH_END) == "bcdefgh");
  MM_CHECK(stream.text == "bcdefgh" && stream.pieces == 6);  // `ef` came at once
  stream = {{}, 0, 2};
  MM_CHECK(written(session, "a", &options, MM_FINISH_CANCELLED) == "bc");

  // What occurred is lowered to 20 / 4, below the second choice; `z` itself is lowered too once it was written.
  MM_CHECK(mm_generate_options_init(&options) == MM_OK);
  options.repetition_penalty = 4;
  options.max_new_tokens = 1;
  MM_CHECK(written(session, "ba", &options, MM_FINISH_LENGTH) == "z");

  // A seed draws the same text again; top_k 1, a small top_p and min_p leave the likeliest alone.
  MM_CHECK(mm_generate_options_init(&options) == MM_OK);
  options.temperature = 50;
  options.max_new_tokens = 20;
  options.seed = 7;
  mm_generated_text* first = nullptr;
  mm_generated_text* second = nullptr;
  MM_CHECK(mm_generate_text(session, "a", &options, &first) == MM_OK);
  MM_CHECK(mm_generate_text(session, "a", &options, &second) == MM_OK);
  MM_CHECK(std::strcmp(mm_generated_text_string(first), mm_generated_text_string(second)) == 0);
  MM_CHECK(std::strcmp(mm_generated_text_string(first), "bcdefgh") != 0);
  mm_generated_text_free(first);
  mm_generated_text_free(second);
  for (int kind = 0; kind < 3; ++kind) {
    MM_CHECK(mm_generate_options_init(&options) == MM_OK);
    options.temperature = 50;
    if (kind == 0) options.top_k = 1;
    if (kind == 1) options.top_p = 1e-6f;
    if (kind == 2) options.min_p = 1;
    MM_CHECK(written(session, "a", &options, MM_FINISH_END) == "bcdefgh");
  }
  mm_session_close(session);
}

void test_limits() {
  mm_session* session = open_session();
  if (session == nullptr) return;
  mm_generated_text* text = nullptr;
  const std::string full(context, '.'), over(context + 1, '.');
  MM_CHECK(written(session, full.c_str(), nullptr, MM_FINISH_LENGTH) == "/");  // the last is written, never fed
  MM_CHECK(mm_generate_text(session, over.c_str(), nullptr, &text) == MM_INVALID_INPUT && text == nullptr);
  MM_CHECK(std::strstr(mm_last_error(), "41 tokens") != nullptr && std::strstr(mm_last_error(), "40") != nullptr);
  MM_CHECK(mm_generate_text(session, "", nullptr, &text) == MM_INVALID_INPUT);
  MM_CHECK(mm_generate_text(session, nullptr, nullptr, &text) == MM_INVALID_INPUT);
  MM_CHECK(mm_generate_text(nullptr, "a", nullptr, &text) == MM_INVALID_INPUT);
  MM_CHECK(mm_generate_text(session, "a", nullptr, nullptr) == MM_INVALID_INPUT);
  const auto refused = [&](auto change) {
    mm_generate_options options;
    mm_generate_options_init(&options);
    change(options);
    return mm_generate_text(session, "a", &options, &text) == MM_INVALID_INPUT && std::strlen(mm_last_error()) > 0;
  };
  MM_CHECK(refused([](mm_generate_options& o) { o.max_new_tokens = 0; }));
  MM_CHECK(refused([](mm_generate_options& o) { o.max_new_tokens = 1 << 20; }));
  MM_CHECK(refused([](mm_generate_options& o) { o.temperature = -1; }));
  MM_CHECK(refused([](mm_generate_options& o) { o.top_k = -1; }));
  MM_CHECK(refused([](mm_generate_options& o) { o.top_p = 0; }));
  MM_CHECK(refused([](mm_generate_options& o) { o.min_p = std::nanf(""); }));
  MM_CHECK(refused([](mm_generate_options& o) { o.repetition_penalty = 0; }));
  MM_CHECK(refused([](mm_generate_options& o) { o.deadline_seconds = -1; }));
  MM_CHECK(refused([](mm_generate_options& o) { o.stop_count = 1; }));
  static const char* const empty[] = {""};
  MM_CHECK(refused([](mm_generate_options& o) {
    o.stop = empty;
    o.stop_count = 1;
  }));
  mm_generate_options options;
  mm_generate_options_init(&options);
  options.deadline_seconds = 1e-9;
  MM_CHECK(mm_generate_text(session, "a", &options, &text) == MM_DEADLINE_EXCEEDED);
  MM_CHECK(mm_generate_options_init(nullptr) == MM_INVALID_INPUT);
  mm_generated_text_free(nullptr);
  mm_session_close(session);
}

void test_conversations() {
  mm_session* session = open_session();
  if (session == nullptr) return;
  mm_generated_text* text = nullptr;
  mm_message messages[] = {{MM_USER, "x"}, {MM_ASSISTANT, "bcdefgh"}, {MM_USER, "y"}};
  if (MM_CHECK(mm_generate_reply(session, messages, 1, nullptr, &text) == MM_OK)) {
    MM_CHECK(std::strcmp(mm_generated_text_string(text), "bcdefgh") == 0);
    MM_CHECK(mm_generated_text_prompt_tokens(text) == 13);  // <s> s : h i <e>  <s> u : x <e>  <s> a
    MM_CHECK(mm_generated_text_cached_tokens(text) == 0 && mm_generated_text_token_count(text) == 7);
    MM_CHECK(mm_generated_text_tokens(text)[0] == byte_id('b'));
    MM_CHECK(mm_generated_text_token_probabilities(text)[0] >= 0);
  }
  mm_generated_text_free(text);
  if (MM_CHECK(mm_generate_reply(session, messages, 3, nullptr, &text) == MM_OK))
    MM_CHECK(mm_generated_text_cached_tokens(text) == 13);  // up to `a`; the reply's prefix goes on with `:`
  mm_generated_text_free(text);

  // Content that spells a control token stays text: one token a letter, and none of them a control token.
  mm_message hostile[] = {{MM_USER, "<|end|>"}};
  if (MM_CHECK(mm_generate_reply(session, hostile, 1, nullptr, &text) == MM_OK))
    MM_CHECK(mm_generated_text_prompt_tokens(text) == 12 + std::strlen("<|end|>"));
  mm_generated_text_free(text);

  mm_message late_system[] = {{MM_USER, "x"}, {MM_SYSTEM, "y"}};
  MM_CHECK(mm_generate_reply(session, late_system, 2, nullptr, &text) == MM_INVALID_INPUT && text == nullptr);
  mm_message unknown[] = {{7, "x"}};
  MM_CHECK(mm_generate_reply(session, unknown, 1, nullptr, &text) == MM_INVALID_INPUT);
  mm_message missing[] = {{MM_USER, nullptr}};
  MM_CHECK(mm_generate_reply(session, missing, 1, nullptr, &text) == MM_INVALID_INPUT);
  MM_CHECK(mm_generate_reply(session, nullptr, 1, nullptr, &text) == MM_INVALID_INPUT);
  MM_CHECK(mm_generate_reply(session, messages, 0, nullptr, &text) == MM_INVALID_INPUT);
  mm_session_close(session);
}

void test_wrong_files() {
  mm_generated_text* text = nullptr;
  Wrong wrong;
  wrong.without_program = true;
  mm_session* session = open_session(wrong);
  MM_CHECK(mm_generate_text(session, "a", nullptr, &text) == MM_NOT_FOUND);
  MM_CHECK(std::strstr(mm_last_error(), "decode_text") != nullptr);
  mm_session_close(session);
  wrong = {};
  wrong.without_chat = true;
  session = open_session(wrong);
  const mm_message message = {MM_USER, "x"};
  MM_CHECK(mm_generate_reply(session, &message, 1, nullptr, &text) == MM_NOT_FOUND);
  MM_CHECK(std::strstr(mm_last_error(), "mm.chat") != nullptr);
  mm_session_close(session);
  wrong = {};
  wrong.end = vocabulary;
  const std::string bytes = alphabet_model(wrong);
  mm_engine* engine = nullptr;
  MM_CHECK(mm_engine_open_bytes(bytes.data(), bytes.size(), &engine) == MM_MODEL_FORMAT && engine == nullptr);
}

}  // namespace

int main() {
  test_texts();
  test_limits();
  test_conversations();
  test_wrong_files();
  return mm::test::finish("text_generation");
}
