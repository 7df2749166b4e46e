// Loads every program of a file and the settings of the tasks it can do.
#include "tasks/engine.h"

#include <algorithm>
#include <limits>

namespace mm::tasks {

namespace {

base::Result<int64_t> bounded(const tensor::ModelFile& file, const char* key, int64_t least, int64_t most) {
  MM_ASSIGN_OR_RETURN(const int64_t value, file.integer(key));
  if (value < least || value > most)
    return base::model_format(std::string("`") + key + "` is " + std::to_string(value) + ", expected " +
                              std::to_string(least) + " to " + std::to_string(most));
  return value;
}

}  // namespace

base::Result<std::shared_ptr<const Engine>> Engine::open(const std::string& path) {
  MM_ASSIGN_OR_RETURN(std::shared_ptr<const tensor::ModelFile> file, tensor::ModelFile::open(path));
  return from_file(std::move(file));
}

base::Result<std::shared_ptr<const Engine>> Engine::from_bytes(const void* bytes, size_t size) {
  MM_ASSIGN_OR_RETURN(std::shared_ptr<const tensor::ModelFile> file, tensor::ModelFile::from_bytes(bytes, size));
  return from_file(std::move(file));
}

const program::Program* Engine::find_program(std::string_view name) const {
  for (const auto& program : programs_)
    if (program->name() == name) return program.get();
  return nullptr;
}

base::Result<std::shared_ptr<const Engine>> Engine::from_file(std::shared_ptr<const tensor::ModelFile> file) {
  std::shared_ptr<Engine> engine(new Engine());
  engine->file_ = file;
  MM_ASSIGN_OR_RETURN(const std::string_view architecture, file->string("general.architecture"));
  if (architecture != "mobile-mm")
    return base::model_format("`general.architecture` is `" + std::string(architecture) + "`, expected `mobile-mm`",
                              "this is a GGUF file of another program; build one with `mobile-mm build`");
  MM_ASSIGN_OR_RETURN(const int64_t version, file->integer("mm.format_version"));
  if (version != 1)
    return base::model_format("`mm.format_version` is " + std::to_string(version) + ", expected 1",
                              "upgrade mobile-multimodal or build the file again");
  MM_ASSIGN_OR_RETURN(const std::vector<std::string_view> names, file->strings("mm.programs"));
  if (names.size() > 256)
    return base::model_format("`mm.programs` lists " + std::to_string(names.size()) +
                              " programs, expected at most 256");
  for (std::string_view name : names) {
    if (engine->find_program(name) != nullptr)
      return base::model_format("program `" + std::string(name) + "` is listed twice");
    MM_ASSIGN_OR_RETURN(std::shared_ptr<const program::Program> program, program::Program::load(file, name));
    engine->programs_.push_back(std::move(program));
  }
  MM_ASSIGN_OR_RETURN(engine->states_, program::load_states(*file));
  if (engine->find_program("encode_image") != nullptr) {
    MM_ASSIGN_OR_RETURN(const int64_t side, bounded(*file, "mm.image.size", 1, 4096));
    engine->image_size_ = static_cast<int>(side);
  }
  if (file->find("tokenizer.ggml.model") != nullptr) {
    MM_ASSIGN_OR_RETURN(engine->tokenizer_, text::BytePairEncoding::from_model(*file));
  }
  engine->can_caption_ = engine->image_size_ > 0 && engine->tokenizer_ != nullptr &&
                         engine->find_program("prefill") != nullptr && engine->find_program("decode") != nullptr;
  if (engine->can_caption_) MM_RETURN_IF_ERROR(engine->read_caption_settings());
  if (engine->tokenizer_ != nullptr && engine->find_program("decode_text") != nullptr) {
    MM_ASSIGN_OR_RETURN(engine->text_model_, TextModel::from_model(*file, *engine->tokenizer_, engine->states_));
  }
  MM_RETURN_IF_ERROR(engine->read_text_settings());
  MM_RETURN_IF_ERROR(engine->read_language_settings());
  return std::shared_ptr<const Engine>(std::move(engine));
}

base::Status Engine::read_text_settings() {
  if (file_->find("mm.ocr.characters") != nullptr) {
    MM_ASSIGN_OR_RETURN(characters_, file_->strings("mm.ocr.characters"));
    if (characters_.empty() || characters_.size() > 65536)
      return base::model_format("`mm.ocr.characters` has " + std::to_string(characters_.size()) +
                                " entries, expected 1 to 65536");
  }
  if (file_->find("mm.ocr.line_width") != nullptr) {
    MM_ASSIGN_OR_RETURN(const int64_t width, bounded(*file_, "mm.ocr.line_width", 1, 3200));
    line_width_ = static_cast<int>(width);
  }
  return {};
}

base::Status Engine::read_language_settings() {
  if (file_->find("mm.wordpiece.tokens") != nullptr) {
    MM_ASSIGN_OR_RETURN(word_pieces_, text::WordPiece::from_model(*file_));
    // [CLS] question [SEP] option [SEP] with a word of each is the least.
    MM_ASSIGN_OR_RETURN(const int64_t positions, bounded(*file_, "mm.text.max_length", 5, 4096));
    text_positions_ = static_cast<int>(positions);
  }
  if (file_->find("mm.answers") != nullptr) {
    MM_ASSIGN_OR_RETURN(answers_, file_->strings("mm.answers"));
    if (answers_.size() < 2 || answers_.size() > 65536)
      return base::model_format("`mm.answers` has " + std::to_string(answers_.size()) +
                                " entries, expected 2 to 65536");
    if (answers_[0] != "unanswerable")
      return base::model_format("the first of `mm.answers` is another than `unanswerable`, which is its place");
    for (size_t i = 0; i < answers_.size(); ++i)
      if (answers_[i].empty())
        return base::model_format("`mm.answers` at place " + std::to_string(i) + " is empty, expected an answer");
  }
  return {};
}

base::Status Engine::read_caption_settings() {
  const int64_t last = tokenizer_->vocabulary_size() - 1;
  MM_ASSIGN_OR_RETURN(const int64_t begin, bounded(*file_, "mm.caption.bos", 0, last));
  MM_ASSIGN_OR_RETURN(const int64_t end, bounded(*file_, "mm.caption.eos", 0, last));
  MM_ASSIGN_OR_RETURN(const int64_t pad, bounded(*file_, "mm.caption.pad", 0, last));
  if (begin == end || pad == end)
    return base::model_format("`mm.caption.eos` equals bos or pad, expected a token of its own");
  caption_ids_ = {
      static_cast<int32_t>(begin), static_cast<int32_t>(end), {static_cast<int32_t>(begin), static_cast<int32_t>(pad)}};
  caption_positions_ = std::numeric_limits<int>::max();
  for (const ops::StateInfo& state : states_)
    if (state.kind == ops::StateKind::cache) caption_positions_ = std::min(caption_positions_, state.rows);
  caption_positions_ = std::min(caption_positions_, 4096);
  MM_ASSIGN_OR_RETURN(const int64_t tokens, bounded(*file_, "mm.caption.max_tokens", 1, caption_positions_));
  MM_ASSIGN_OR_RETURN(const int64_t beams, bounded(*file_, "mm.caption.num_beams", 1, 16));
  MM_ASSIGN_OR_RETURN(const double penalty, file_->real("mm.caption.length_penalty"));
  caption_defaults_.max_new_tokens = static_cast<int>(tokens);
  caption_defaults_.num_beams = static_cast<int>(beams);
  caption_defaults_.length_penalty = static_cast<float>(penalty);
  const base::Status status = check_settings(caption_defaults_, caption_positions_);
  if (!status.is_ok()) return base::model_format("`mm.caption`: " + status.message());
  return {};
}

}  // namespace mm::tasks
