// Asks and compares through the C door, with a small model that knows red and blue.
//
// `encode_image` scales the pixels; memories hold their colors; a word's row is the color it names. So the mean of the
// attention over the memory is the picture's color, and its product with a word's row says whether they agree.
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "gguf_writer.h"
#include "mobile_multimodal/mobile_multimodal.h"

namespace {

constexpr uint32_t none = 0xFFFFFFFFu;
constexpr int side = 4;
enum : uint32_t {
  op_image_normalize,
  op_reshape,
  op_linear_f32,
  op_state_write,
  op_embedding_f32,
  op_global_average_pool,
  op_attention_memory,
  op_mul,
  op_attention
};

uint32_t bits(float value) {
  uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  return word;
}

struct ProgramText {
  std::vector<std::string> inputs, types, tensors, outputs;
  std::vector<uint32_t> output_slots;
  uint32_t slots;
  std::vector<uint32_t> code;
};

void add_program(mm::test::GgufWriter& writer, const std::string& name, const ProgramText& text) {
  const std::string prefix = "mm.program." + name + ".";
  writer.strings(prefix + "inputs", text.inputs);
  writer.strings(prefix + "input_types", text.types);
  writer.strings(prefix + "tensors", text.tensors);
  writer.strings(prefix + "outputs", text.outputs);
  writer.array<uint32_t>(prefix + "output_slots", 4, text.output_slots);
  writer.u32(prefix + "slots", text.slots);
  writer.array<uint32_t>(prefix + "code", 4, text.code);
}

void add_tensor(mm::test::GgufWriter& writer, const std::string& name, std::vector<uint64_t> dims,
                const std::vector<float>& values) {
  writer.tensors.push_back({name, std::move(dims), 0, mm::test::raw_bytes(values)});
}

struct Wrong {
  bool without_answer = false;  // the program answer_question
  bool is_infinite = false;     // its scores
  bool has_details = false;     // a second branch, which takes red for blue and blue for red
};

std::string color_model(const Wrong& wrong = {}) {
  mm::test::GgufWriter writer;
  writer.string("general.architecture", "mobile-mm");
  writer.u32("general.alignment", 64);
  writer.u32("mm.format_version", 1);
  writer.u32("mm.image.size", side);
  writer.strings("mm.wordpiece.tokens", {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "what", "red", "blue", "?"});
  writer.u32("mm.text.max_length", 8);
  writer.strings("mm.answers", {"unanswerable", "red", "blue"});
  writer.strings("mm.op_names", {"image_normalize", "reshape", "linear_f32", "state_write", "embedding_f32",
                                 "global_average_pool", "attention_memory", "mul", "attention"});
  std::vector<std::string> programs = {"encode_image", "embed_image", "embed_text", "prepare_question",
                                       "answer_question"};
  if (wrong.without_answer) programs.pop_back();
  if (wrong.has_details) programs.push_back("encode_details");
  writer.strings("mm.programs", programs);
  const float inverse = 1 / 255.0f;
  add_program(writer, "encode_image",
              {{"pixels"},
               {"u8"},
               {},
               wrong.has_details ? std::vector<std::string>{"features", "trunk"} : std::vector<std::string>{"features"},
               wrong.has_details ? std::vector<uint32_t>{1, 1} : std::vector<uint32_t>{1},
               2,
               {op_image_normalize, 1, 1, 6, 0, 1, 0, 0, 0, bits(inverse), bits(inverse), bits(inverse)}});
  if (wrong.has_details) {
    add_program(writer, "encode_details",
                {{"trunk"},
                 {"f32"},
                 {"details.exchange"},
                 {"features"},
                 {2},
                 3,
                 {op_linear_f32, 4, 1, 1, 0, 1, none, none, 2, 0}});
    add_tensor(writer, "details.exchange", {3, 3}, {0, 0, 1, 0, 1, 0, 1, 0, 0});
  }
  add_program(writer, "embed_image",
              {{"features"}, {"f32"}, {}, {"embedding"}, {1}, 2, {op_global_average_pool, 1, 1, 0, 0, 1}});
  add_program(writer, "embed_text",
              {{"tokens", "positions"},
               {"i32", "i32"},
               {"language.colors"},
               {"embedding"},
               {6},
               7,
               {op_embedding_f32,       2, 1, 0, 0, 2, 3,          op_reshape, 1, 1, 3, 3, 4, ~uint32_t{0}, 1, 4,
                op_global_average_pool, 1, 1, 0, 4, 5, op_reshape, 1,          1, 1, 5, 6, 4}});
  add_program(writer, "prepare_question",
              {{"features"},
               {"f32"},
               {"language.memory"},
               {},
               {},
               4,
               {op_reshape,     1, 1, 2, 0, 2, ~uint32_t{0}, 3, op_linear_f32, 4, 1, 1, 2, 1, none, none, 3, 0,
                op_state_write, 1, 0, 1, 3, 0}});
  // Slots: tokens 0, positions 1, segments 2, colors 3, answers 4, score 5; rows 6, seen 7, their means 8 to 11,
  // product 12.
  add_program(writer, "answer_question",
              {{"tokens", "positions", "segments"},
               {"i32", "i32", "i32"},
               {"language.colors", "language.answers", "language.score"},
               {"answers", "score"},
               {13, 14},
               15,
               {op_embedding_f32,
                2,
                1,
                0,
                0,
                3,
                6,
                op_attention_memory,
                1,
                1,
                4,
                6,
                7,
                0,
                1,
                1,
                4,
                op_reshape,
                1,
                1,
                3,
                6,
                8,
                ~uint32_t{0},
                1,
                4,
                op_global_average_pool,
                1,
                1,
                0,
                8,
                9,
                op_reshape,
                1,
                1,
                3,
                7,
                10,
                ~uint32_t{0},
                1,
                4,
                op_global_average_pool,
                1,
                1,
                0,
                10,
                11,
                op_mul,
                2,
                1,
                0,
                9,
                11,
                12,
                op_linear_f32,
                4,
                1,
                1,
                11,
                4,
                none,
                none,
                13,
                0,
                op_linear_f32,
                4,
                1,
                1,
                12,
                5,
                none,
                none,
                14,
                0}});
  std::vector<float> colors(8 * 4, 0.0f);
  colors[5 * 4] = 1;      // red
  colors[6 * 4 + 2] = 1;  // blue
  add_tensor(writer, "language.colors", {4, 8}, colors);
  // Keys are 0: attention is the mean. Values are the pixels' colors.
  add_tensor(writer, "language.memory", {8, 3},
             {0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0});
  add_tensor(writer, "language.answers", {3, 4}, {0, 4, 0, 3, 0, 0, 0, 0, 4, 0, 0, 0});  // green: it cannot tell
  const float strength = wrong.is_infinite ? INFINITY : 20.0f;
  add_tensor(writer, "language.score", {1, 4}, {strength, strength, strength, strength});
  writer.strings("mm.states", {"memory"});
  writer.strings("mm.state.kinds", {"memory"});
  writer.array<uint32_t>("mm.state.widths", 4, {8});
  writer.array<uint32_t>("mm.state.rows", 4, {side * side});
  writer.seal(wrong.has_details ? std::vector<std::string>{"details", "language"}
                                : std::vector<std::string>{"language"});
  return writer.file();
}

mm_session* open_session(const Wrong& wrong = {}) {
  const std::string bytes = color_model(wrong);
  mm_engine* engine = nullptr;
  mm_session* session = nullptr;
  if (!MM_CHECK(mm_engine_open_bytes(bytes.data(), bytes.size(), &engine) == MM_OK) ||
      !MM_CHECK(mm_session_create(engine, 1, &session) == MM_OK))
    std::fprintf(stderr, "  %s\n", mm_last_error());
  mm_engine_close(engine);
  return session;
}

std::vector<uint8_t> plain_picture(uint8_t red, uint8_t green, uint8_t blue) {
  std::vector<uint8_t> pixels;
  for (int i = 0; i < side * side; ++i) pixels.insert(pixels.end(), {red, green, blue});
  return pixels;
}

mm_picture picture_of(const std::vector<uint8_t>& pixels) { return {pixels.data(), side, side, 3, 0}; }

void test_answers() {
  mm_session* session = open_session();
  if (session == nullptr) return;
  const std::vector<uint8_t> red = plain_picture(255, 0, 0), blue = plain_picture(0, 0, 255),
                             green = plain_picture(0, 255, 0);
  for (int round = 0; round < 2; ++round)  // the second time, features and memories are at hand
    for (const auto* pixels : {&red, &blue, &red}) {
      const mm_picture picture = picture_of(*pixels);
      mm_answer* answer = nullptr;
      if (!MM_CHECK(mm_answer_question(session, &picture, "What?", nullptr, &answer) == MM_OK)) {
        std::fprintf(stderr, "  %s\n", mm_last_error());
        continue;
      }
      MM_CHECK(std::strcmp(mm_answer_text(answer), pixels == &blue ? "blue" : "red") == 0);
      // Logits 0, 4, 0: e^4 / (e^4 + 2).
      MM_CHECK(std::abs(mm_answer_confidence(answer) - 0.96466f) < 1e-4f);
      MM_CHECK(std::abs(mm_answer_unanswerable(answer) - 0.01767f) < 1e-4f);
      MM_CHECK(mm_answer_candidate_count(answer) == 2);
      MM_CHECK(std::strcmp(mm_answer_candidate(answer, 1), pixels == &blue ? "red" : "blue") == 0);
      MM_CHECK(mm_answer_candidate_probability(answer, 0) == mm_answer_confidence(answer));
      MM_CHECK(mm_answer_candidate(answer, 2) == nullptr && mm_answer_candidate_probability(answer, 2) == 0);
      MM_CHECK(mm_answer_milliseconds(answer) > 0);
      mm_answer_free(answer);
    }
  mm_answer_options options;
  MM_CHECK(mm_answer_options_init(&options) == MM_OK && options.top_k == 5 && options.deadline_seconds == 0);
  options.top_k = 1;
  mm_answer* answer = nullptr;
  const mm_picture picture = picture_of(green);
  MM_CHECK(mm_answer_question(session, &picture, "what", &options, &answer) == MM_OK);
  if (answer != nullptr) {
    MM_CHECK(mm_answer_candidate_count(answer) == 1);
    MM_CHECK(mm_answer_unanswerable(answer) > 0.8f && mm_answer_confidence(answer) < 0.1f);
  }
  mm_answer_free(answer);
  mm_answer_free(nullptr);
  for (const int32_t top_k : {0, -1, 101}) {
    options.top_k = top_k;
    MM_CHECK(mm_answer_question(session, &picture, "what", &options, &answer) == MM_INVALID_INPUT);
    MM_CHECK(answer == nullptr);
  }
  MM_CHECK(mm_answer_options_init(&options) == MM_OK);
  options.deadline_seconds = 1e-9;
  MM_CHECK(mm_answer_question(session, &picture, "what", &options, &answer) == MM_DEADLINE_EXCEEDED);
  options.deadline_seconds = std::nan("");
  MM_CHECK(mm_answer_question(session, &picture, "what", &options, &answer) == MM_INVALID_INPUT);
  for (const char* question : {"", " \n", "?", " .! ", "\xFF", "\xE2\x80\x8B"})
    MM_CHECK(mm_answer_question(session, &picture, question, nullptr, &answer) == MM_INVALID_INPUT);
  const std::string longest(65535, 'a'), longer(65536, 'a');  // a question mark comes behind
  MM_CHECK(mm_answer_question(session, &picture, longest.c_str(), nullptr, &answer) == MM_OK);
  mm_answer_free(answer);
  MM_CHECK(mm_answer_question(session, &picture, longer.c_str(), nullptr, &answer) == MM_INVALID_INPUT);
  MM_CHECK(mm_answer_question(nullptr, &picture, "what", nullptr, &answer) == MM_INVALID_INPUT);
  MM_CHECK(mm_answer_question(session, nullptr, "what", nullptr, &answer) == MM_INVALID_INPUT);
  MM_CHECK(mm_answer_question(session, &picture, nullptr, nullptr, &answer) == MM_INVALID_INPUT);
  MM_CHECK(mm_answer_question(session, &picture, "what", nullptr, nullptr) == MM_INVALID_INPUT);
  MM_CHECK(mm_answer_options_init(nullptr) == MM_INVALID_INPUT);
  const mm_picture wrong[] = {{nullptr, 4, 4, 3, 0}, {green.data(), 0, 4, 3, 0}, {green.data(), 4, 4, 2, 0}};
  for (const mm_picture& bad : wrong)
    MM_CHECK(mm_answer_question(session, &bad, "what", nullptr, &answer) == MM_INVALID_INPUT);
  mm_session_close(session);
}

// Questions look at the second branch, whichever task meets the picture first; retrieval looks at the first.
void test_details() {
  Wrong exchanged;
  exchanged.has_details = true;
  mm_session *session = open_session(exchanged), *plain = open_session();
  if (session == nullptr || plain == nullptr) return;
  const std::vector<uint8_t> red = plain_picture(255, 0, 0), blue = plain_picture(0, 0, 255);
  for (int round = 0; round < 3; ++round)
    for (const auto* pixels : {&red, &blue}) {
      const mm_picture picture = picture_of(*pixels);
      mm_embedding *embedding = nullptr, *other = nullptr;
      if (MM_CHECK(mm_embed_image(session, &picture, 0, &embedding) == MM_OK) &&
          MM_CHECK(mm_embed_image(plain, &picture, 0, &other) == MM_OK))
        for (size_t i = 0; i < 3; ++i) MM_CHECK(mm_embedding_values(embedding)[i] == mm_embedding_values(other)[i]);
      mm_embedding_free(embedding);
      mm_embedding_free(other);
      mm_answer* answer = nullptr;
      if (MM_CHECK(mm_answer_question(session, &picture, "What?", nullptr, &answer) == MM_OK))
        MM_CHECK(std::strcmp(mm_answer_text(answer), pixels == &blue ? "red" : "blue") == 0);
      mm_answer_free(answer);
    }
  mm_session_close(session);
  mm_session_close(plain);
}

void test_choices() {
  mm_session* session = open_session();
  if (session == nullptr) return;
  const std::vector<uint8_t> red = plain_picture(255, 0, 0), blue = plain_picture(0, 0, 255);
  const char* options[] = {"red", "Blue"};
  float probabilities[2] = {};
  for (const auto* pixels : {&red, &blue, &red}) {
    const mm_picture picture = picture_of(*pixels);
    MM_CHECK(mm_choose(session, &picture, "what?", options, 2, 0, probabilities) == MM_OK);
    const float right = probabilities[pixels == &blue ? 1 : 0];
    // [CLS] what ? [SEP] red [SEP]: one row of six is the color, so that the score is 20 / 6.
    MM_CHECK(std::abs(right - 1 / (1 + std::exp(-20.0f / 6))) < 1e-4f);
    MM_CHECK(std::abs(probabilities[0] + probabilities[1] - 1) < 1e-6f);
  }
  const mm_picture picture = picture_of(red);
  const char* twice[] = {"red", "red"};
  const char* empty[] = {"red", ""};
  const char* missing[] = {"red", nullptr};
  const std::vector<const char*> many(1000, "red");
  MM_CHECK(mm_choose(session, &picture, "what", twice, 2, 0, probabilities) == MM_INVALID_INPUT);
  MM_CHECK(mm_choose(session, &picture, "what", empty, 2, 0, probabilities) == MM_INVALID_INPUT);
  MM_CHECK(mm_choose(session, &picture, "what", missing, 2, 0, probabilities) == MM_INVALID_INPUT);
  MM_CHECK(mm_choose(session, &picture, "what", options, 1, 0, probabilities) == MM_INVALID_INPUT);
  MM_CHECK(mm_choose(session, &picture, "what", options, 0, 0, probabilities) == MM_INVALID_INPUT);
  MM_CHECK(mm_choose(session, &picture, "what", many.data(), many.size(), 0, probabilities) == MM_INVALID_INPUT);
  MM_CHECK(mm_choose(session, &picture, "", options, 2, 0, probabilities) == MM_INVALID_INPUT);
  MM_CHECK(mm_choose(session, &picture, "what", options, 2, -1, probabilities) == MM_INVALID_INPUT);
  MM_CHECK(mm_choose(session, &picture, "what", options, 2, 1e-9, probabilities) == MM_DEADLINE_EXCEEDED);
  MM_CHECK(mm_choose(nullptr, &picture, "what", options, 2, 0, probabilities) == MM_INVALID_INPUT);
  MM_CHECK(mm_choose(session, nullptr, "what", options, 2, 0, probabilities) == MM_INVALID_INPUT);
  MM_CHECK(mm_choose(session, &picture, nullptr, options, 2, 0, probabilities) == MM_INVALID_INPUT);
  MM_CHECK(mm_choose(session, &picture, "what", nullptr, 2, 0, probabilities) == MM_INVALID_INPUT);
  MM_CHECK(mm_choose(session, &picture, "what", options, 2, 0, nullptr) == MM_INVALID_INPUT);
  mm_session_close(session);
}

float dot(const mm_embedding* a, const float* b, size_t first) {
  float sum = 0;
  for (size_t i = 0; i < 3; ++i) sum += mm_embedding_values(a)[first + i] * b[i];
  return sum;
}

void test_embeddings() {
  mm_session* session = open_session();
  if (session == nullptr) return;
  const std::vector<uint8_t> purple = plain_picture(120, 0, 160), black = plain_picture(0, 0, 0);
  const mm_picture picture = picture_of(purple), dark = picture_of(black);
  mm_embedding* image = nullptr;
  mm_embedding* text = nullptr;
  if (MM_CHECK(mm_embed_image(session, &picture, 0, &image) == MM_OK)) {
    MM_CHECK(mm_embedding_size(image) == 3);
    const float expected[] = {0.6f, 0, 0.8f};
    MM_CHECK(std::abs(dot(image, expected, 0) - 1) < 1e-6f);
  }
  if (MM_CHECK(mm_embed_text(session, "red, what?", 0, &text) == MM_OK)) {
    MM_CHECK(mm_embedding_size(text) == 4);
    MM_CHECK(std::abs(mm_embedding_values(text)[0] - 1) < 1e-6f);
  }
  mm_embedding_free(image);
  mm_embedding_free(text);
  mm_embedding_free(nullptr);
  MM_CHECK(mm_embed_image(session, &dark, 0, &image) == MM_MODEL_FORMAT);  // zeros have no direction
  MM_CHECK(image == nullptr && std::strstr(mm_last_error(), "without a direction") != nullptr);
  MM_CHECK(mm_embed_text(session, "", 0, &text) == MM_INVALID_INPUT);
  MM_CHECK(mm_embed_text(session, "\xC3", 0, &text) == MM_INVALID_INPUT && text == nullptr);
  MM_CHECK(mm_embed_text(session, "red", 1e-9, &text) == MM_DEADLINE_EXCEEDED);
  MM_CHECK(mm_embed_image(session, &picture, 1e-9, &image) == MM_DEADLINE_EXCEEDED);
  MM_CHECK(mm_embed_image(session, nullptr, 0, &image) == MM_INVALID_INPUT);
  MM_CHECK(mm_embed_image(nullptr, &picture, 0, &image) == MM_INVALID_INPUT);
  MM_CHECK(mm_embed_image(session, &picture, 0, nullptr) == MM_INVALID_INPUT);
  MM_CHECK(mm_embed_text(session, nullptr, 0, &text) == MM_INVALID_INPUT);
  MM_CHECK(mm_embed_text(nullptr, "red", 0, &text) == MM_INVALID_INPUT);
  MM_CHECK(mm_embed_text(session, "red", 0, nullptr) == MM_INVALID_INPUT);
  mm_session_close(session);
}

void test_wrong_files() {
  const std::vector<uint8_t> red = plain_picture(255, 0, 0);
  const mm_picture picture = picture_of(red);
  const char* options[] = {"red", "blue"};
  float probabilities[2] = {};
  mm_answer* answer = nullptr;
  mm_session* session = open_session({true, false});
  MM_CHECK(mm_answer_question(session, &picture, "what", nullptr, &answer) == MM_NOT_FOUND);
  MM_CHECK(std::strstr(mm_last_error(), "answer_question") != nullptr && std::strlen(mm_last_hint()) > 0);
  MM_CHECK(mm_choose(session, &picture, "what", options, 2, 0, probabilities) == MM_NOT_FOUND);
  mm_session_close(session);
  session = open_session({false, true});
  MM_CHECK(mm_choose(session, &picture, "what", options, 2, 0, probabilities) == MM_MODEL_FORMAT);
  MM_CHECK(std::strstr(mm_last_error(), "not a number") != nullptr);
  mm_session_close(session);
}

}  // namespace

int main() {
  test_answers();
  test_details();
  test_choices();
  test_embeddings();
  test_wrong_files();
  return mm::test::finish("language");
}
