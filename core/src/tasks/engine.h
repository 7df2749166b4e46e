// Opens a model file once: weights, programs and tokenizer, immutable and shared by all sessions and threads.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "ops/state.h"
#include "program/program.h"
#include "tasks/generation.h"
#include "tasks/text_model.h"
#include "tensor/model_file.h"
#include "text/byte_pair_encoding.h"
#include "text/word_piece.h"

namespace mm::tasks {

class Engine {
 public:
  static base::Result<std::shared_ptr<const Engine>> open(const std::string& path);
  static base::Result<std::shared_ptr<const Engine>> from_bytes(const void* bytes, size_t size);

  const tensor::ModelFile& file() const { return *file_; }
  const std::vector<std::shared_ptr<const program::Program>>& programs() const { return programs_; }
  const program::Program* find_program(std::string_view name) const;  // nullptr: absent
  const std::vector<ops::StateInfo>& states() const { return states_; }
  const text::BytePairEncoding* tokenizer() const { return tokenizer_.get(); }  // nullptr: an encoder-only file
  int image_size() const { return image_size_; }  // side of encode_image's picture; 0: none

  bool can_caption() const { return can_caption_; }
  const GenerationSettings& caption_defaults() const { return caption_defaults_; }
  const TokenIds& caption_ids() const { return caption_ids_; }
  int caption_positions() const { return caption_positions_; }  // the most tokens a caption may have

  const TextModel* text_model() const { return text_model_.get(); }  // nullptr: the file cannot write text

  // What recognize_text's classes mean: entry i is class i + 1 (0 is the blank). Empty: a file without a table.
  const std::vector<std::string_view>& characters() const { return characters_; }
  int line_width() const { return line_width_; }  // recognize_text's least columns; shorter lines are padded to it

  const text::WordPiece* word_pieces() const { return word_pieces_.get(); }  // nullptr: no language tower
  int text_positions() const { return text_positions_; }                     // the most tokens a text may have
  // What answer_question's classes mean; answer 0 is "unanswerable". Empty: a file without answers.
  const std::vector<std::string_view>& answers() const { return answers_; }
  bool can_embed_image() const { return image_size_ > 0 && find_program("embed_image") != nullptr; }
  bool can_embed_text() const { return word_pieces_ != nullptr && find_program("embed_text") != nullptr; }
  bool can_answer() const {
    return image_size_ > 0 && word_pieces_ != nullptr && !answers_.empty() &&
           find_program("prepare_question") != nullptr && find_program("answer_question") != nullptr;
  }

 private:
  Engine() = default;
  static base::Result<std::shared_ptr<const Engine>> from_file(std::shared_ptr<const tensor::ModelFile> file);
  base::Status read_caption_settings();
  base::Status read_text_settings();
  base::Status read_language_settings();

  std::shared_ptr<const tensor::ModelFile> file_;
  std::vector<std::shared_ptr<const program::Program>> programs_;
  std::vector<ops::StateInfo> states_;
  std::shared_ptr<const text::BytePairEncoding> tokenizer_;
  int image_size_ = 0;
  bool can_caption_ = false;
  GenerationSettings caption_defaults_;
  TokenIds caption_ids_;
  int caption_positions_ = 0;
  std::unique_ptr<const TextModel> text_model_;
  std::vector<std::string_view> characters_;  // point into the file
  int line_width_ = 320;                      // what PP-OCR recognizers were trained on
  std::shared_ptr<const text::WordPiece> word_pieces_;
  int text_positions_ = 0;
  std::vector<std::string_view> answers_;  // point into the file
};

}  // namespace mm::tasks
