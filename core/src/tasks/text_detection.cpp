// Makes one probability map of all tiles, so that a line across two of them is found whole.
#include "tasks/text_detection.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tasks/picture_program.h"
#include "vision/line_crop.h"

namespace mm::tasks {

namespace {

constexpr int step = 32;
constexpr int64_t max_positions = int64_t{1} << 24;  // what find_text_boxes takes: 4096 x 4096
constexpr double aspect_of_tile = 2;
// Half of it is what a position near a seam sees of the other tile: two lines of ordinary height.
constexpr int overlap_most = 128;

int rounded(double side) { return std::max(step, static_cast<int>(std::lround(side / step)) * step); }

int overlap_of(int tile) { return std::min(overlap_most, tile / 4); }

// The network's deepest map has one position for 32 x 32: of a thinner strip it sees the border and little else. Of
// 32 lines cut out closely it found 12 whole; with a margin, all.
constexpr int least_side = 128;

// A tile inside a margin of the mean color of its edge, where it is thinner than least_side.
struct Framed {
  int height = 0, width = 0;
  int top = 0, left = 0;  // of the tile
  bool has_margin = false;
};

Framed frame_of(int height, int width) {
  Framed frame = {std::max(height, least_side), std::max(width, least_side)};
  frame.top = (frame.height - height) / 2;
  frame.left = (frame.width - width) / 2;
  frame.has_margin = frame.height > height || frame.width > width;
  return frame;
}

// Lays the tile, [height, width, 3] bytes, into its margin.
void add_margin(const Framed& frame, int height, int width, std::vector<uint8_t>& pixels) {
  if (!frame.has_margin) return;
  const auto pixel = [&](int y, int x) { return pixels.data() + (static_cast<size_t>(y) * width + x) * 3; };
  uint64_t sums[3] = {0, 0, 0}, count = 0;
  const auto add = [&](const uint8_t* level) {
    for (int color = 0; color < 3; ++color) sums[color] += level[color];
    ++count;
  };
  for (int x = 0; x < width; ++x) add(pixel(0, x)), add(pixel(height - 1, x));
  for (int y = 0; y < height; ++y) add(pixel(y, 0)), add(pixel(y, width - 1));
  std::vector<uint8_t> framed(static_cast<size_t>(frame.height) * static_cast<size_t>(frame.width) * 3);
  for (size_t i = 0; i < framed.size(); ++i) framed[i] = static_cast<uint8_t>((sums[i % 3] + count / 2) / count);
  for (int y = 0; y < height; ++y) {
    const size_t target = (static_cast<size_t>(frame.top + y) * frame.width + frame.left) * 3;
    std::copy(pixel(y, 0), pixel(y, 0) + static_cast<size_t>(width) * 3, framed.begin() + static_cast<long>(target));
  }
  pixels = std::move(framed);
}

// The part of the map that shows the tile.
std::vector<float> without_margin(const Framed& frame, int height, int width, const float* map) {
  std::vector<float> inner(static_cast<size_t>(height) * static_cast<size_t>(width));
  for (int y = 0; y < height; ++y) {
    const float* row = map + static_cast<size_t>(frame.top + y) * static_cast<size_t>(frame.width) + frame.left;
    std::copy(row, row + width, inner.begin() + static_cast<long>(static_cast<size_t>(y) * width));
  }
  return inner;
}

// The part of the picture that a tile shows. Rounded to whole pixels: a seam is off by half a pixel at most.
vision::CropBox crop_of(const DetectionPlan& plan, int index, const vision::PictureView& picture) {
  const int side = plan.is_tall ? picture.height : picture.width;
  const double pixels = static_cast<double>(side) / (plan.is_tall ? plan.height : plan.width);
  const int begin = std::min(static_cast<int>(std::lround(plan.start(index) * pixels)), side - 1);
  const int end = std::clamp(static_cast<int>(std::lround((plan.start(index) + plan.tile) * pixels)), begin + 1, side);
  return plan.is_tall ? vision::CropBox{0, begin, picture.width, end - begin}
                      : vision::CropBox{begin, 0, end - begin, picture.height};
}

// Copies the part of a tile's map that is nearer to its middle than to those of its neighbours.
void paste(const DetectionPlan& plan, int index, const float* tile, std::vector<float>& map) {
  const int start = plan.start(index);
  const int begin = index == 0 ? 0 : (start + plan.start(index - 1) + plan.tile) / 2;
  const int end = index + 1 == plan.tiles ? start + plan.tile : (plan.start(index + 1) + start + plan.tile) / 2;
  const size_t width = static_cast<size_t>(plan.width);
  if (plan.is_tall) {
    std::copy(tile + static_cast<size_t>(begin - start) * width, tile + static_cast<size_t>(end - start) * width,
              map.begin() + static_cast<long>(static_cast<size_t>(begin) * width));
    return;
  }
  for (int y = 0; y < plan.height; ++y) {
    const float* row = tile + static_cast<size_t>(y) * static_cast<size_t>(plan.tile);
    std::copy(row + (begin - start), row + (end - start), map.begin() + static_cast<long>(y * width + begin));
  }
}

// From positions of the map to pixels of the picture; false when nothing of the box is left.
bool scale_to_picture(const DetectionPlan& plan, const vision::PictureView& picture, vision::Quad& quad) {
  for (vision::Point& corner : quad) {
    corner.x = std::clamp(corner.x * picture.width / plan.width, 0.0, static_cast<double>(picture.width));
    corner.y = std::clamp(corner.y * picture.height / plan.height, 0.0, static_cast<double>(picture.height));
  }
  return vision::line_width(quad) >= 1 && vision::line_height(quad) >= 1;
}

}  // namespace

int DetectionPlan::start(int index) const {
  const int64_t spread = (is_tall ? height : width) - tile;
  return tiles == 1 ? 0 : static_cast<int>(spread * index / (tiles - 1));
}

DetectionPlan plan_detection(int height, int width, int max_side) {
  const double longer = std::max(height, width), shorter = std::min(height, width);
  double scale = std::min(1.0, max_side / std::min(longer, aspect_of_tile * shorter));
  scale = std::min(scale, std::sqrt(static_cast<double>(max_positions) / (longer * shorter)));
  DetectionPlan plan;
  plan.is_tall = height > width;
  plan.height = rounded(height * scale);
  plan.width = rounded(width * scale);
  int& side = plan.is_tall ? plan.height : plan.width;
  while (int64_t{plan.height} * plan.width > max_positions) side -= step;  // rounding up may have gone too far
  plan.tile = std::min(side, rounded(max_side));
  const int overlap = overlap_of(plan.tile);
  if (side > plan.tile) plan.tiles = (side - overlap + plan.tile - overlap - 1) / (plan.tile - overlap);
  return plan;
}

base::Result<vision::TextBoxes> detect_text(Session& session, const vision::PictureView& picture, int max_side,
                                            const vision::TextBoxSettings& settings) {
  MM_ASSIGN_OR_RETURN(PictureProgram program, PictureProgram::find(session, "detect_text"));
  const DetectionPlan plan = plan_detection(picture.height, picture.width, max_side);
  const int tile_height = plan.is_tall ? plan.tile : plan.height, tile_width = plan.is_tall ? plan.width : plan.tile;
  std::vector<float> map(static_cast<size_t>(plan.height) * static_cast<size_t>(plan.width));
  const Framed frame = frame_of(tile_height, tile_width);
  std::vector<uint8_t> pixels;
  for (int index = 0; index < plan.tiles; ++index) {
    const vision::CropBox crop = crop_of(plan, index, picture);
    MM_RETURN_IF_ERROR(vision::resize(picture, &crop, tile_height, tile_width, pixels));
    add_margin(frame, tile_height, tile_width, pixels);
    MM_ASSIGN_OR_RETURN(const tensor::TensorView output,
                        program.run(pixels, tensor::Shape::of(1, frame.height, frame.width, 3)));
    if (output.shape.elements() != int64_t{frame.height} * frame.width)
      return base::model_format("program `detect_text` gives a map of shape " + output.shape.text() +
                                " for a picture of " + std::to_string(frame.height) + "x" +
                                std::to_string(frame.width) + ", expected one value a pixel");
    if (frame.has_margin)
      paste(plan, index, without_margin(frame, tile_height, tile_width, output.as<const float>()).data(), map);
    else
      paste(plan, index, output.as<const float>(), map);
  }
  MM_ASSIGN_OR_RETURN(vision::TextBoxes found, find_text_boxes({map.data(), plan.height, plan.width}, settings));
  std::vector<vision::TextBox> kept;
  for (vision::TextBox& box : found.boxes)
    if (scale_to_picture(plan, picture, box.quad)) kept.push_back(box);
  found.boxes = std::move(kept);
  return found;
}

}  // namespace mm::tasks
