/* The C door to the core: open a model file, make sessions, caption pictures, read their text, ask about
 * them, compare them with texts, write text. C99; nothing throws,
 * prints or aborts.
 *
 * Ownership: what an `mm_..._open`, `mm_..._create` or task call hands out belongs to the caller, who gives it back
 * with the matching `mm_..._close` or `mm_..._free` (NULL is fine). Strings and arrays read from an object live as long
 * as the object. A session keeps its engine alive, so the two may be closed in any order. Inputs are borrowed for the
 * length of the call. Threads: an engine may be used by any number of threads at once, a session by one at a time.
 */
#ifndef MOBILE_MULTIMODAL_H
#define MOBILE_MULTIMODAL_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define MM_API __declspec(dllexport)
#else
#define MM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Numbers never change; new ones are appended. */
typedef enum mm_status {
  MM_OK = 0,
  MM_INVALID_INPUT = 1,
  MM_MODEL_FORMAT = 2,
  MM_NOT_FOUND = 3,
  MM_OUT_OF_MEMORY = 4,
  MM_CANCELLED = 5,
  MM_DEADLINE_EXCEEDED = 6,
  MM_UNSUPPORTED = 7,
  MM_INTERNAL = 8
} mm_status;

typedef struct mm_engine mm_engine;
typedef struct mm_session mm_session;
typedef struct mm_caption mm_caption;
typedef struct mm_text mm_text;
typedef struct mm_embedding mm_embedding;
typedef struct mm_answer mm_answer;
typedef struct mm_generated_text mm_generated_text;

MM_API const char* mm_version(void);
/* The instruction set in use: "reference", "avx2", "avx_vnni", "avx512_vnni", "amx" or "neon_dotprod". */
MM_API const char* mm_instruction_set(void);
/* What the last failed call of this thread said, and the next step it proposes; "" when there is none. Valid until the
 * next call. */
MM_API const char* mm_last_error(void);
MM_API const char* mm_last_hint(void);

/* `path` is UTF-8. The file is mapped, not copied: it must not change while the engine lives. */
MM_API mm_status mm_engine_open(const char* path, mm_engine** engine);
/* Copies the bytes: for platforms without files. */
MM_API mm_status mm_engine_open_bytes(const void* bytes, size_t size, mm_engine** engine);
MM_API void mm_engine_close(mm_engine* engine);
/* Checks every section against its SHA-256; reads the whole file. */
MM_API mm_status mm_engine_verify(const mm_engine* engine);

/* `threads` counts the calling thread; 0 takes one a processor. */
MM_API mm_status mm_session_create(const mm_engine* engine, int32_t threads, mm_session** session);
MM_API void mm_session_close(mm_session* session);
/* The one function that any thread may call while another uses the session: the call under way stops at its next
 * instruction and gives MM_CANCELLED. 0: there is none, and later calls are not touched. */
MM_API int32_t mm_cancel(mm_session* session);

/* Rows of height x width pixels, 8 bits a channel; channels: 1 gray, 3 RGB, 4 RGBA. row_stride_bytes 0: rows follow
 * each other. */
typedef struct mm_picture {
  const uint8_t* pixels;
  int32_t height;
  int32_t width;
  int32_t channels;
  int32_t row_stride_bytes;
} mm_picture;

/* Called with each piece of UTF-8 text as it is written (not NUL-terminated; the pieces add up to the caption). 0
 * cancels. */
typedef int32_t (*mm_piece_callback)(void* context, const char* piece, size_t piece_bytes, float probability);

typedef struct mm_caption_options {
  int32_t num_beams; /* 1 to 16; streaming and sampling need 1 */
  int32_t max_new_tokens;
  float length_penalty;
  float temperature; /* 0: no sampling */
  float top_p;
  uint64_t seed;
  double deadline_seconds;    /* 0: none */
  mm_piece_callback on_piece; /* may be NULL */
  void* on_piece_context;
} mm_caption_options;

/* Fills in the defaults of the model file. */
MM_API mm_status mm_caption_options_init(const mm_engine* engine, mm_caption_options* options);
/* `options` may be NULL: the defaults. */
MM_API mm_status mm_caption_picture(mm_session* session, const mm_picture* picture, const mm_caption_options* options,
                                    mm_caption** caption);
MM_API void mm_caption_free(mm_caption* caption);

MM_API const char* mm_caption_text(const mm_caption* caption); /* UTF-8, NUL-terminated */
MM_API size_t mm_caption_token_count(const mm_caption* caption);
MM_API const int32_t* mm_caption_tokens(const mm_caption* caption);
MM_API const float* mm_caption_token_probabilities(const mm_caption* caption);
/* Geometric mean of the token probabilities, the end token counted: 0 to 1. */
MM_API float mm_caption_confidence(const mm_caption* caption);
MM_API double mm_caption_milliseconds(const mm_caption* caption);

/* Called between batches of lines with how many of all pieces of lines are read. 0 cancels: MM_CANCELLED. */
typedef int32_t (*mm_progress_callback)(void* context, size_t done, size_t total);

typedef struct mm_text_options {
  int32_t max_side;                 /* the longer side of what detection sees, 32 to 4096 */
  float threshold;                  /* above it a pixel is text; between 0 and 1 */
  float box_threshold;              /* boxes of a lower mean are dropped; between 0 and 1 */
  float unclip_ratio;               /* boxes grow by area * ratio / perimeter; 0 to 10 */
  int32_t max_boxes;                /* the likeliest are read; 1 to 100000 */
  float min_confidence;             /* lines below are left out; 0 to 1 */
  int32_t batch_lines;              /* lines recognized together, 1 to 64 */
  double deadline_seconds;          /* 0: none */
  mm_progress_callback on_progress; /* may be NULL */
  void* on_progress_context;
} mm_text_options;

MM_API mm_status mm_text_options_init(mm_text_options* options);
/* `options` may be NULL: the defaults. MM_NOT_FOUND names the program that the model file lacks. */
MM_API mm_status mm_read_text(mm_session* session, const mm_picture* picture, const mm_text_options* options,
                              mm_text** text);
MM_API void mm_text_free(mm_text* text);

/* All lines in reading order, with a newline between them: UTF-8, NUL-terminated. Strings and arrays live as long as
 * `text`. */
MM_API const char* mm_text_string(const mm_text* text);
MM_API size_t mm_text_line_count(const mm_text* text);
/* What follows takes 0 to mm_text_line_count - 1 for `line`; beyond, it gives NULL or 0. */
MM_API const char* mm_text_line(const mm_text* text, size_t line);
/* x and y of four corners in pixels of the picture, clockwise from the upper left of the line as it is read. */
MM_API const float* mm_text_line_box(const mm_text* text, size_t line);
/* Mean of the characters' probabilities: 0 to 1. */
MM_API float mm_text_line_confidence(const mm_text* text, size_t line);
/* Boxes beyond max_boxes, which were not read. */
MM_API size_t mm_text_dropped_boxes(const mm_text* text);
MM_API double mm_text_milliseconds(const mm_text* text);

/* What follows works on a model file with a language tower; MM_NOT_FOUND says what a file lacks. Texts are UTF-8,
 * NUL-terminated, at most 64 KiB, and read up to the model's number of tokens. Tasks of one session on one picture
 * share its encoding: a second question costs a fraction of the first.
 *
 * An embedding is a unit vector; the dot product of a picture's and a text's is their similarity, -1 to 1.
 * `deadline_seconds` 0: none. */
MM_API mm_status mm_embed_image(mm_session* session, const mm_picture* picture, double deadline_seconds,
                                mm_embedding** embedding);
MM_API mm_status mm_embed_text(mm_session* session, const char* text, double deadline_seconds,
                               mm_embedding** embedding);
MM_API void mm_embedding_free(mm_embedding* embedding);
MM_API size_t mm_embedding_size(const mm_embedding* embedding);
MM_API const float* mm_embedding_values(const mm_embedding* embedding);

typedef struct mm_answer_options {
  int32_t top_k;           /* so many candidates, 1 to 100 */
  double deadline_seconds; /* 0: none */
} mm_answer_options;

MM_API mm_status mm_answer_options_init(mm_answer_options* options);
/* `options` may be NULL: the defaults. */
MM_API mm_status mm_answer_question(mm_session* session, const mm_picture* picture, const char* question,
                                    const mm_answer_options* options, mm_answer** answer);
MM_API void mm_answer_free(mm_answer* answer);

/* The likeliest answer, and its probability among all that the model knows, "unanswerable" included. Strings live as
 * long as `answer`. */
MM_API const char* mm_answer_text(const mm_answer* answer);
MM_API float mm_answer_confidence(const mm_answer* answer);
/* The probability that the picture does not tell. */
MM_API float mm_answer_unanswerable(const mm_answer* answer);
/* The likeliest answers, the first of them mm_answer_text. Beyond the count there is NULL or 0. */
MM_API size_t mm_answer_candidate_count(const mm_answer* answer);
MM_API const char* mm_answer_candidate(const mm_answer* answer, size_t candidate);
MM_API float mm_answer_candidate_probability(const mm_answer* answer, size_t candidate);
MM_API double mm_answer_milliseconds(const mm_answer* answer);

/* Writes the probability of each of 2 to 64 different options to `probabilities`; they sum to 1. */
MM_API mm_status mm_choose(mm_session* session, const mm_picture* picture, const char* question,
                           const char* const* options, size_t option_count, double deadline_seconds,
                           float* probabilities);

/* What follows works on a model file that writes text (`mobile-mm build --from-gguf`); MM_NOT_FOUND says what a file
 * lacks. */
typedef enum mm_role { MM_SYSTEM = 0, MM_USER = 1, MM_ASSISTANT = 2 } mm_role;

typedef struct mm_message {
  int32_t role;        /* an mm_role; MM_SYSTEM in the first message alone */
  const char* content; /* UTF-8, NUL-terminated; what spells a control token stays text */
} mm_message;

typedef enum mm_finish_reason {
  MM_FINISH_END = 0,      /* the model ended the text */
  MM_FINISH_LENGTH = 1,   /* max_new_tokens, or the context is full */
  MM_FINISH_STOP = 2,     /* a stop text */
  MM_FINISH_CANCELLED = 3 /* the callback gave 0 */
} mm_finish_reason;

typedef struct mm_generate_options {
  int32_t max_new_tokens;
  float temperature;        /* 0: the likeliest token */
  int32_t top_k;            /* draw from so many of the likeliest tokens; 0: all */
  float top_p;              /* draw from the likeliest tokens that sum to this */
  float min_p;              /* leave out tokens below this share of the likeliest one's probability */
  float repetition_penalty; /* above 1 avoids tokens that occurred */
  uint64_t seed;
  double deadline_seconds; /* 0: none */
  const char* const* stop; /* the text ends before the first of these; may be NULL */
  size_t stop_count;
  mm_piece_callback on_piece; /* may be NULL */
  void* on_piece_context;
} mm_generate_options;

MM_API mm_status mm_generate_options_init(mm_generate_options* options);
/* Continues `prompt` (UTF-8, NUL-terminated) as it is. `options` may be NULL: the defaults. What a session read and
 * wrote stays at hand: a prompt that begins like the one before is read from where it differs. */
MM_API mm_status mm_generate_text(mm_session* session, const char* prompt, const mm_generate_options* options,
                                  mm_generated_text** text);
/* Answers the messages of a conversation, put by the file's chat template. */
MM_API mm_status mm_generate_reply(mm_session* session, const mm_message* messages, size_t message_count,
                                   const mm_generate_options* options, mm_generated_text** text);
MM_API void mm_generated_text_free(mm_generated_text* text);

MM_API const char* mm_generated_text_string(const mm_generated_text* text); /* UTF-8, NUL-terminated */
MM_API size_t mm_generated_text_token_count(const mm_generated_text* text);
MM_API const int32_t* mm_generated_text_tokens(const mm_generated_text* text);
MM_API const float* mm_generated_text_token_probabilities(const mm_generated_text* text);
MM_API mm_finish_reason mm_generated_text_finish_reason(const mm_generated_text* text);
/* Tokens of the prompt, and how many of them were at hand from the call before. */
MM_API size_t mm_generated_text_prompt_tokens(const mm_generated_text* text);
MM_API size_t mm_generated_text_cached_tokens(const mm_generated_text* text);
MM_API double mm_generated_text_milliseconds(const mm_generated_text* text);

#ifdef __cplusplus
}
#endif

#endif /* MOBILE_MULTIMODAL_H */
