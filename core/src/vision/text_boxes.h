// Finds text lines in a map of probabilities: the post-processing of differentiable binarization (Liao et al. 2019,
// arXiv:1911.08947).
#pragma once

#include <cstddef>
#include <vector>

#include "base/status.h"
#include "vision/geometry.h"

namespace mm::vision {

// Each position holds how likely it is text: [height, width] floats. NaN counts as 0.
struct ProbabilityMap {
  const float* values = nullptr;
  int height = 0;  // sides 1 to 65536, at most 2^24 positions
  int width = 0;
};

// The values that tinyocr 0.1.0 runs PP-OCRv6 tiny with (its runtime.py); PaddleOCR's own defaults are 0.3, 0.6, 1.5.
struct TextBoxSettings {
  float threshold = 0.2f;      // above it a position is text
  float box_threshold = 0.4f;  // a box below this mean probability is dropped
  float unclip_ratio = 1.4f;   // how far a box grows: area * ratio / perimeter
  int max_boxes = 3000;        // the likeliest are kept
};

struct TextBox {
  Quad quad;        // in positions of the map, clockwise from the upper left
  float score = 0;  // mean probability inside the box before it grows
};

struct TextBoxes {
  std::vector<TextBox> boxes;  // in the order of their uppermost positions
  size_t dropped = 0;          // boxes beyond max_boxes
};

// Time and memory are linear in the map whatever it holds.
base::Result<TextBoxes> find_text_boxes(const ProbabilityMap& map, const TextBoxSettings& settings);

}  // namespace mm::vision
