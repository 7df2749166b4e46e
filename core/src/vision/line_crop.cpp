// Samples the picture along a projective map.
#include "vision/line_crop.h"

#include <algorithm>
#include <cmath>

namespace mm::vision {

SquareToQuad::SquareToQuad(const Quad& quad) {
  const Point skew = quad[0] - quad[1] + quad[2] - quad[3];
  const Point right = quad[1] - quad[2], lower = quad[3] - quad[2];
  const double area = cross(right, lower);
  // A parallelogram has no skew; a degenerate one has no area either, and stays affine.
  g_ = area == 0 ? 0 : cross(skew, lower) / area;
  h_ = area == 0 ? 0 : cross(right, skew) / area;
  a_ = quad[1].x - quad[0].x + g_ * quad[1].x;
  b_ = quad[3].x - quad[0].x + h_ * quad[3].x;
  c_ = quad[0].x;
  d_ = quad[1].y - quad[0].y + g_ * quad[1].y;
  e_ = quad[3].y - quad[0].y + h_ * quad[3].y;
  f_ = quad[0].y;
}

Point SquareToQuad::operator()(double u, double v) const {
  const double w = g_ * u + h_ * v + 1;
  return {(a_ * u + b_ * v + c_) / w, (d_ * u + e_ * v + f_) / w};
}

double line_width(const Quad& quad) { return std::max(distance(quad[0], quad[1]), distance(quad[2], quad[3])); }
double line_height(const Quad& quad) { return std::max(distance(quad[0], quad[3]), distance(quad[1], quad[2])); }

Quad in_reading_direction(const Quad& quad) {
  if (line_height(quad) < 1.5 * line_width(quad)) return quad;
  return {quad[1], quad[2], quad[3], quad[0]};
}

namespace {

// A bilinear sample between two pixels spans two of them, so 8 samples a side see every pixel of a picture that is
// shrunk by up to 16: letters 768 pixels high.
constexpr int max_samples = 8;

struct Color {
  float red = 0, green = 0, blue = 0;
};

Color color_at(const PictureView& picture, size_t row_stride, int y, int x) {
  const uint8_t* pixel = picture.pixels + static_cast<size_t>(y) * row_stride +
                         static_cast<size_t>(x) * static_cast<size_t>(picture.channels);
  const float first = pixel[0];
  if (picture.channels == 1) return {first, first, first};
  Color color = {first, static_cast<float>(pixel[1]), static_cast<float>(pixel[2])};
  if (picture.channels == 4) {  // laid on white
    const float alpha = static_cast<float>(pixel[3]) / 255.0f, white = 255.0f * (1.0f - alpha);
    color = {color.red * alpha + white, color.green * alpha + white, color.blue * alpha + white};
  }
  return color;
}

// Adds the bilinear sample at `point` to `sum`.
void add_sample(const PictureView& picture, size_t row_stride, Point point, Color& sum) {
  // Clamped as a double: a cast of a number beyond int is undefined. NaN becomes the left or upper border.
  const double x = std::min(std::max(0.0, point.x - 0.5), picture.width - 1.0);
  const double y = std::min(std::max(0.0, point.y - 0.5), picture.height - 1.0);
  const int x0 = static_cast<int>(x), y0 = static_cast<int>(y);
  const int x1 = std::min(x0 + 1, picture.width - 1), y1 = std::min(y0 + 1, picture.height - 1);
  const float dx = static_cast<float>(x - x0), dy = static_cast<float>(y - y0);
  const auto add = [&](int row, int column, float weight) {
    const Color color = color_at(picture, row_stride, row, column);
    sum.red += weight * color.red;
    sum.green += weight * color.green;
    sum.blue += weight * color.blue;
  };
  add(y0, x0, (1 - dx) * (1 - dy));
  add(y0, x1, dx * (1 - dy));
  add(y1, x0, (1 - dx) * dy);
  add(y1, x1, dx * dy);
}

int samples_for(double source_pixels, int target_pixels) {
  return static_cast<int>(std::clamp(std::ceil(source_pixels / target_pixels - 1e-9), 1.0, double{max_samples}));
}

}  // namespace

void crop_line(const PictureView& picture, const Quad& quad, const Strip& strip, uint8_t* out,
               size_t row_stride_bytes) {
  const SquareToQuad map(quad);
  const size_t row_stride =
      static_cast<size_t>(picture.row_stride_bytes != 0 ? picture.row_stride_bytes : picture.width * picture.channels);
  const int across = samples_for(line_width(quad), strip.whole_width);
  const int down = samples_for(line_height(quad), strip.height);
  const float share = 1.0f / static_cast<float>(across * down);
  for (int y = 0; y < strip.height; ++y) {
    uint8_t* target = out + static_cast<size_t>(y) * row_stride_bytes;
    for (int x = strip.begin; x < strip.end; ++x) {
      Color sum;
      for (int j = 0; j < down; ++j)
        for (int i = 0; i < across; ++i)
          add_sample(picture, row_stride,
                     map((x + (i + 0.5) / across) / strip.whole_width, (y + (j + 0.5) / down) / strip.height), sum);
      for (const float level : {sum.red, sum.green, sum.blue})
        *target++ = static_cast<uint8_t>(std::clamp(level * share + 0.5f, 0.0f, 255.0f));
    }
  }
}

}  // namespace mm::vision
