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
  std::vector<uint8_t> pixels;
  for (int index = 0; index < plan.tiles; ++index) {
    const vision::CropBox crop = crop_of(plan, index, picture);
    MM_RETURN_IF_ERROR(vision::resize(picture, &crop, tile_height, tile_width, pixels));
    MM_ASSIGN_OR_RETURN(const tensor::TensorView output,
                        program.run(pixels, tensor::Shape::of(1, tile_height, tile_width, 3)));
    if (output.shape.elements() != int64_t{tile_height} * tile_width)
      return base::model_format("program `detect_text` gives a map of shape " + output.shape.text() +
                                " for a picture of " + std::to_string(tile_height) + "x" + std::to_string(tile_width) +
                                ", expected one value a pixel");
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
