// Finds the text lines of a picture: scale, tile, run `detect_text`, take boxes from its map.
#pragma once

#include "tasks/session.h"
#include "vision/text_boxes.h"

namespace mm::tasks {

// How a picture becomes a map: [height, width] positions, made of `tiles` pieces of `tile` positions along the longer
// side (one: as long as the map). Sides are multiples of 32, as the network asks.
struct DetectionPlan {
  int height = 0, width = 0;
  bool is_tall = false;  // tiles lie below each other
  int tiles = 1;
  int tile = 0;

  int start(int index) const;  // of a tile, along the longer side
};

// Scales the longer side to `max_side` at most, never up. A picture more than twice as long as wide is cut into
// tiles that overlap, and scaled as if it was twice as long: a screenshot of a long page stays readable.
DetectionPlan plan_detection(int height, int width, int max_side);

// Boxes in pixels of the picture, clipped to it. `max_side` is 32 to 4096.
base::Result<vision::TextBoxes> detect_text(Session& session, const vision::PictureView& picture, int max_side,
                                            const vision::TextBoxSettings& settings);

}  // namespace mm::tasks
