/* Uses the C door as a C program would: argument 1 is the packaged model file. */
#include <math.h>
#include <mobile_multimodal/mobile_multimodal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checks = 0, failures = 0;

static int check(int passed, const char* expression, int line) {
  ++checks;
  if (!passed) {
    ++failures;
    fprintf(stderr, "test_c_api.c:%d: failed: %s (%s)\n", line, expression, mm_last_error());
  }
  return passed;
}
#define CHECK(expression) check((expression) != 0, #expression, __LINE__)

struct stream {
  char text[1024];
  size_t bytes;
  int pieces;
  int stop_after;        /* 0: never */
  mm_session* cancelled; /* NULL: none */
};

static int32_t on_piece(void* context, const char* piece, size_t piece_bytes, float probability) {
  struct stream* stream = context;
  CHECK(probability > 0 && probability <= 1);
  if (stream->bytes + piece_bytes < sizeof stream->text) memcpy(stream->text + stream->bytes, piece, piece_bytes);
  stream->bytes += piece_bytes;
  ++stream->pieces;
  if (stream->cancelled != NULL) CHECK(mm_cancel(stream->cancelled) == 1);
  return stream->stop_after == 0 || stream->pieces < stream->stop_after;
}

static void test_wrong_arguments(const char* model) {
  mm_engine* engine = (mm_engine*)1;
  CHECK(mm_engine_open("/no/such/file.gguf", &engine) == MM_NOT_FOUND);
  CHECK(engine == NULL);
  CHECK(strstr(mm_last_error(), "/no/such/file.gguf") != NULL);
  CHECK(mm_engine_open(NULL, &engine) == MM_INVALID_INPUT);
  CHECK(mm_engine_open(model, NULL) == MM_INVALID_INPUT);
  CHECK(mm_engine_open_bytes("GGUF", 4, &engine) == MM_MODEL_FORMAT);
  CHECK(mm_engine_verify(NULL) == MM_INVALID_INPUT);
  mm_session* session = (mm_session*)1;
  CHECK(mm_session_create(NULL, 1, &session) == MM_INVALID_INPUT);
  CHECK(session == NULL);
  mm_engine_close(NULL);
  mm_session_close(NULL);
  mm_caption_free(NULL);
}

static void test_captions(const char* model) {
  mm_engine* engine = NULL;
  if (!CHECK(mm_engine_open(model, &engine) == MM_OK)) return;
  CHECK(strcmp(mm_last_error(), "") == 0);
  CHECK(mm_engine_verify(engine) == MM_OK);
  mm_session* session = NULL;
  CHECK(mm_session_create(engine, -1, &session) == MM_INVALID_INPUT);
  CHECK(mm_session_create(engine, 2, &session) == MM_OK);
  mm_engine_close(engine); /* the session keeps what it needs */

  enum { height = 90, width = 120 };
  uint8_t* pixels = malloc(height * width * 3);
  for (int i = 0; i < height * width * 3; ++i) pixels[i] = (uint8_t)(i * 2654435761u >> 24);
  mm_picture picture = {pixels, height, width, 3, 0};

  mm_caption* beams = NULL;
  CHECK(mm_caption_picture(session, &picture, NULL, &beams) == MM_OK);
  if (CHECK(beams != NULL)) {
    const size_t length = strlen(mm_caption_text(beams));
    CHECK(length > 3);
    CHECK(mm_caption_text(beams)[0] >= 'A' && mm_caption_text(beams)[0] <= 'Z');
    CHECK(mm_caption_confidence(beams) > 0 && mm_caption_confidence(beams) <= 1);
    CHECK(mm_caption_milliseconds(beams) > 0);
    CHECK(mm_caption_token_count(beams) > 0);
    for (size_t i = 0; i < mm_caption_token_count(beams); ++i) {
      CHECK(mm_caption_tokens(beams)[i] >= 0);
      CHECK(mm_caption_token_probabilities(beams)[i] > 0);
    }
    mm_caption* again = NULL; /* the same picture, the same sentence */
    CHECK(mm_caption_picture(session, &picture, NULL, &again) == MM_OK);
    CHECK(again != NULL && strcmp(mm_caption_text(again), mm_caption_text(beams)) == 0);
    mm_caption_free(again);
  }
  mm_caption_free(beams);

  mm_session* other = NULL;
  CHECK(mm_engine_open(model, &engine) == MM_OK);
  CHECK(mm_session_create(engine, 1, &other) == MM_OK);
  mm_caption_options options;
  CHECK(mm_caption_options_init(engine, &options) == MM_OK);
  options.num_beams = 1;
  struct stream stream = {{0}, 0, 0, 0, NULL};
  options.on_piece = on_piece;
  options.on_piece_context = &stream;
  mm_caption* streamed = NULL;
  CHECK(mm_caption_picture(other, &picture, &options, &streamed) == MM_OK);
  if (CHECK(streamed != NULL)) {
    CHECK(strlen(mm_caption_text(streamed)) == stream.bytes);
    CHECK(memcmp(mm_caption_text(streamed), stream.text, stream.bytes) == 0);
    CHECK(stream.pieces > 1);
  }
  mm_caption_free(streamed);
  stream.bytes = 0;
  stream.pieces = 0;
  stream.stop_after = 1;
  CHECK(mm_caption_picture(other, &picture, &options, &streamed) == MM_OK);
  CHECK(stream.pieces == 1);
  mm_caption_free(streamed);

  stream.stop_after = 0; /* cancelled in the middle: an error, and the next call is whole */
  stream.cancelled = other;
  CHECK(mm_cancel(NULL) == 0);
  CHECK(mm_cancel(other) == 0);
  CHECK(mm_caption_picture(other, &picture, &options, &streamed) == MM_CANCELLED);
  CHECK(streamed == NULL);
  stream.cancelled = NULL;
  CHECK(mm_caption_picture(other, &picture, &options, &streamed) == MM_OK);
  mm_caption_free(streamed);

  mm_caption* refused = (mm_caption*)1;
  options.num_beams = 3; /* with a callback */
  CHECK(mm_caption_picture(other, &picture, &options, &refused) == MM_INVALID_INPUT);
  CHECK(refused == NULL);
  CHECK(strlen(mm_last_hint()) > 0);
  options.on_piece = NULL;
  options.num_beams = 99;
  CHECK(mm_caption_picture(other, &picture, &options, &refused) == MM_INVALID_INPUT);
  options.num_beams = 3;
  options.deadline_seconds = 1e-9;
  CHECK(mm_caption_picture(other, &picture, &options, &refused) == MM_DEADLINE_EXCEEDED);
  const mm_picture wrong[] = {
      {NULL, 4, 4, 3, 0}, {pixels, 0, 4, 3, 0}, {pixels, 4, -1, 3, 0}, {pixels, 4, 4, 2, 0}, {pixels, 4, 4, 3, 5}};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; ++i)
    CHECK(mm_caption_picture(other, &wrong[i], NULL, &refused) == MM_INVALID_INPUT);
  CHECK(mm_caption_picture(other, NULL, NULL, &refused) == MM_INVALID_INPUT);
  mm_session_close(other);
  mm_engine_close(engine);
  mm_session_close(session);
  free(pixels);
}

/* Black bars on white. */
static void fill(uint8_t* pixels, int width, int left, int top, int right, int bottom) {
  for (int y = top; y < bottom; ++y) memset(pixels + 3 * (y * width + left), 0, 3 * (size_t)(right - left));
}

static void test_reading(const char* model) {
  enum { height = 128, width = 288 };
  uint8_t* pixels = malloc(height * width * 3);
  memset(pixels, 255, height * width * 3);
  fill(pixels, width, 60, 40, 67, 88); /* H */
  fill(pixels, width, 67, 60, 83, 67);
  fill(pixels, width, 83, 40, 90, 88);
  fill(pixels, width, 104, 40, 111, 88); /* L */
  fill(pixels, width, 111, 81, 132, 88);
  fill(pixels, width, 142, 40, 174, 47); /* T */
  fill(pixels, width, 154, 47, 161, 88);
  const mm_picture page = {pixels, height, width, 3, 0};
  mm_engine* engine = NULL;
  mm_session* session = NULL;
  CHECK(mm_engine_open(model, &engine) == MM_OK);
  CHECK(mm_session_create(engine, 1, &session) == MM_OK);
  mm_text* text = NULL;
  CHECK(mm_read_text(session, &page, NULL, &text) == MM_OK);
  if (CHECK(text != NULL) && CHECK(mm_text_line_count(text) == 1)) {
    CHECK(strcmp(mm_text_line(text, 0), "HLT") == 0);
    CHECK(mm_text_line_confidence(text, 0) > 0.5f && mm_text_line_confidence(text, 0) <= 1);
  }
  mm_text_free(text);
  CHECK(mm_read_text(session, NULL, NULL, &text) == MM_INVALID_INPUT);
  CHECK(text == NULL);
  mm_session_close(session);
  mm_engine_close(engine);
  free(pixels);
}

int main(int count, char** arguments) {
  if (count != 2) {
    fprintf(stderr, "usage: test_c_api MODEL.gguf\n");
    return 2;
  }
  CHECK(strlen(mm_version()) > 0 && strlen(mm_instruction_set()) > 0);
  test_wrong_arguments(arguments[1]);
  test_captions(arguments[1]);
  test_reading(arguments[1]);
  printf("c_api: %d checks, %d failed\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
