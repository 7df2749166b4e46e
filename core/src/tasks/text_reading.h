// Turns a picture into lines of text: detect, straighten, recognize, order.
#pragma once

#include <string>
#include <vector>

#include "tasks/session.h"
#include "tasks/text_recognition.h"
#include "vision/text_boxes.h"

namespace mm::tasks {

struct TextSettings {
  int max_side = 960;             // the longer side of what detection sees, 32 to 4096
  vision::TextBoxSettings boxes;  // how the map of probabilities becomes boxes
  float min_confidence = 0.5f;    // lines below are left out (PaddleOCR's and tinyocr's value)
  int batch_lines = 8;            // recognized together, 1 to 64
  double deadline_seconds = 0;    // 0: none
  std::shared_ptr<Cancellation> cancellation;
};

struct TextLine {
  std::string text;                  // UTF-8, never empty
  vision::Quad box;                  // pixels of the picture, clockwise from where the line's text has its upper left
  float confidence;                  // mean of `probabilities`
  std::vector<float> probabilities;  // of each character
};

struct TextTimings {  // milliseconds
  double detect = 0, recognize = 0, total = 0;
};

struct ReadText {
  std::vector<TextLine> lines;  // in reading order
  size_t dropped_boxes = 0;     // found beyond max_boxes and not read
  TextTimings timings;
};

base::Result<ReadText> read_text(Session& session, const vision::PictureView& picture, const TextSettings& settings,
                                 const ProgressCallback& on_progress);

}  // namespace mm::tasks
