// The C functions: each one is a thin, exception-free shell over the C++ tasks.
#include <array>
#include <cmath>
#include <cstdint>

#include "c_api/handles.h"
#include "tasks/captioning.h"
#include "tasks/text_reading.h"

struct mm_caption {
  mm::tasks::Caption caption;
};
struct mm_text {
  mm::tasks::ReadText read;
  std::string whole;
  std::vector<std::array<float, 8>> boxes;
};

using mm::c_api::guarded;
using mm::c_api::missing;
using mm::c_api::report;
using mm::c_api::view_of;

namespace {

thread_local std::string last_error;  // NOLINT: one a thread by design
thread_local std::string last_hint;

mm_status hand_out_engine(mm::base::Result<std::shared_ptr<const mm::tasks::Engine>> opened, mm_engine** engine) {
  if (!opened.is_ok()) return report(opened.status());
  *engine = new mm_engine{std::move(opened.value())};
  return MM_OK;
}

mm::tasks::TextSettings settings_from(const mm_text_options& options) {
  mm::tasks::TextSettings settings;
  settings.max_side = options.max_side;
  settings.boxes = {options.threshold, options.box_threshold, options.unclip_ratio, options.max_boxes};
  settings.min_confidence = options.min_confidence;
  settings.batch_lines = options.batch_lines;
  settings.deadline_seconds = options.deadline_seconds;
  return settings;
}

mm_text* new_text(mm::tasks::ReadText read) {
  auto text = std::make_unique<mm_text>();
  text->read = std::move(read);
  for (const mm::tasks::TextLine& line : text->read.lines) {
    if (!text->boxes.empty()) text->whole += '\n';
    text->whole += line.text;
    std::array<float, 8> box;
    for (size_t i = 0; i < 4; ++i) {
      box[2 * i] = static_cast<float>(line.box[i].x);
      box[2 * i + 1] = static_cast<float>(line.box[i].y);
    }
    text->boxes.push_back(box);
  }
  return text.release();
}

}  // namespace

mm_status mm::c_api::report(const mm::base::Status& status) {
  last_error = status.message();
  last_hint = status.hint();
  return static_cast<mm_status>(status.code());
}

void mm::c_api::forget_report() {
  last_error.clear();
  last_hint.clear();
}

extern "C" {

const char* mm_version(void) { return MM_VERSION; }
const char* mm_instruction_set(void) { return mm::kernels::best_table().name; }
const char* mm_last_error(void) { return last_error.c_str(); }
const char* mm_last_hint(void) { return last_hint.c_str(); }

mm_status mm_engine_open(const char* path, mm_engine** engine) {
  return guarded([&] {
    if (engine == nullptr) return missing("engine");
    *engine = nullptr;
    if (path == nullptr) return missing("path");
    return hand_out_engine(mm::tasks::Engine::open(path), engine);
  });
}

mm_status mm_engine_open_bytes(const void* bytes, size_t size, mm_engine** engine) {
  return guarded([&] {
    if (engine == nullptr) return missing("engine");
    *engine = nullptr;
    if (bytes == nullptr) return missing("bytes");
    return hand_out_engine(mm::tasks::Engine::from_bytes(bytes, size), engine);
  });
}

void mm_engine_close(mm_engine* engine) { delete engine; }

mm_status mm_engine_verify(const mm_engine* engine) {
  return guarded([&] { return engine == nullptr ? missing("engine") : report(engine->engine->file().verify()); });
}

mm_status mm_session_create(const mm_engine* engine, int32_t threads, mm_session** session) {
  return guarded([&] {
    if (session == nullptr) return missing("session");
    *session = nullptr;
    if (engine == nullptr) return missing("engine");
    auto created = mm::tasks::Session::create(engine->engine, threads);
    if (!created.is_ok()) return report(created.status());
    *session = new mm_session{std::move(created.value())};
    return MM_OK;
  });
}

void mm_session_close(mm_session* session) { delete session; }

mm_status mm_caption_options_init(const mm_engine* engine, mm_caption_options* options) {
  return guarded([&] {
    if (engine == nullptr) return missing("engine");
    if (options == nullptr) return missing("options");
    const mm::tasks::GenerationSettings& defaults = engine->engine->caption_defaults();
    *options = {defaults.num_beams,
                defaults.max_new_tokens,
                defaults.length_penalty,
                defaults.temperature,
                defaults.top_p,
                defaults.seed,
                0,
                nullptr,
                nullptr};
    return MM_OK;
  });
}

mm_status mm_caption_picture(mm_session* session, const mm_picture* picture, const mm_caption_options* options,
                             mm_caption** caption) {
  return guarded([&] {
    if (caption == nullptr) return missing("caption");
    *caption = nullptr;
    if (session == nullptr) return missing("session");
    if (picture == nullptr) return missing("picture");
    mm::tasks::CaptionSettings settings;
    settings.generation = session->session->engine().caption_defaults();
    mm::tasks::PieceCallback on_piece;
    if (options != nullptr) {
      settings.generation = {options->num_beams,   options->max_new_tokens, options->length_penalty,
                             options->temperature, options->top_p,          options->seed};
      settings.deadline_seconds = options->deadline_seconds;
      if (options->on_piece != nullptr)
        on_piece = [options](int32_t, std::string_view piece, float probability) {
          return options->on_piece(options->on_piece_context, piece.data(), piece.size(), probability) != 0;
        };
    }
    auto made = mm::tasks::caption(*session->session, view_of(*picture), settings, on_piece);
    if (!made.is_ok()) return report(made.status());
    *caption = new mm_caption{std::move(made.value())};
    return MM_OK;
  });
}

int32_t mm_cancel(mm_session* session) { return session != nullptr && session->session->cancel() ? 1 : 0; }

void mm_caption_free(mm_caption* caption) { delete caption; }

const char* mm_caption_text(const mm_caption* caption) { return caption->caption.text.c_str(); }
size_t mm_caption_token_count(const mm_caption* caption) { return caption->caption.generated.tokens.size(); }
const int32_t* mm_caption_tokens(const mm_caption* caption) { return caption->caption.generated.tokens.data(); }
const float* mm_caption_token_probabilities(const mm_caption* caption) {
  return caption->caption.generated.probabilities.data();
}
float mm_caption_confidence(const mm_caption* caption) {
  const mm::tasks::Generated& generated = caption->caption.generated;
  return generated.probabilities.empty()
             ? 0.0f
             : std::exp(generated.log_probability / static_cast<float>(generated.probabilities.size()));
}
double mm_caption_milliseconds(const mm_caption* caption) { return caption->caption.timings.total; }

mm_status mm_text_options_init(mm_text_options* options) {
  return guarded([&] {
    if (options == nullptr) return missing("options");
    const mm::tasks::TextSettings defaults;
    *options = {defaults.max_side,
                defaults.boxes.threshold,
                defaults.boxes.box_threshold,
                defaults.boxes.unclip_ratio,
                defaults.boxes.max_boxes,
                defaults.min_confidence,
                defaults.batch_lines,
                defaults.deadline_seconds,
                nullptr,
                nullptr};
    return MM_OK;
  });
}

mm_status mm_read_text(mm_session* session, const mm_picture* picture, const mm_text_options* options, mm_text** text) {
  return guarded([&] {
    if (text == nullptr) return missing("text");
    *text = nullptr;
    if (session == nullptr) return missing("session");
    if (picture == nullptr) return missing("picture");
    mm::tasks::TextSettings settings;
    mm::tasks::ProgressCallback on_progress;
    if (options != nullptr) {
      settings = settings_from(*options);
      if (options->on_progress != nullptr)
        on_progress = [options](size_t done, size_t total) {
          return options->on_progress(options->on_progress_context, done, total) != 0;
        };
    }
    auto read = mm::tasks::read_text(*session->session, view_of(*picture), settings, on_progress);
    if (!read.is_ok()) return report(read.status());
    *text = new_text(std::move(read.value()));
    return MM_OK;
  });
}

void mm_text_free(mm_text* text) { delete text; }

const char* mm_text_string(const mm_text* text) { return text->whole.c_str(); }
size_t mm_text_line_count(const mm_text* text) { return text->boxes.size(); }
const char* mm_text_line(const mm_text* text, size_t line) {
  return line < text->boxes.size() ? text->read.lines[line].text.c_str() : nullptr;
}
const float* mm_text_line_box(const mm_text* text, size_t line) {
  return line < text->boxes.size() ? text->boxes[line].data() : nullptr;
}
float mm_text_line_confidence(const mm_text* text, size_t line) {
  return line < text->boxes.size() ? text->read.lines[line].confidence : 0.0f;
}
size_t mm_text_dropped_boxes(const mm_text* text) { return text->read.dropped_boxes; }
double mm_text_milliseconds(const mm_text* text) { return text->read.timings.total; }

}  // extern "C"
