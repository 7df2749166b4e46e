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
  const double inverse = 1 / (g_ * u + h_ * v + 1);
  return {(a_ * u + b_ * v + c_) * inverse, (d_ * u + e_ * v + f_) * inverse};
}

double line_width(const Quad& quad) { return std::max(distance(quad[0], quad[1]), distance(quad[2], quad[3])); }
double line_height(const Quad& quad) { return std::max(distance(quad[0], quad[3]), distance(quad[1], quad[2])); }

Quad in_reading_direction(const Quad& quad) {
  if (line_height(quad) < 1.5 * line_width(quad)) return quad;
  return {quad[1], quad[2], quad[3], quad[0]};
}

namespace {

// Samples lie up to 1.25 pixels apart, and a bilinear one spans two: every pixel counts. 8 samples a side do so for
// pictures that are shrunk by up to 16: letters 768 pixels high.
constexpr int max_samples = 8;
constexpr double spacing = 1.25;

int samples_for(double source_pixels, int target_pixels) {
  return static_cast<int>(std::clamp(std::ceil(source_pixels / target_pixels / spacing), 1.0, double{max_samples}));
}

template <int channels>
float level_of(const uint8_t* pixel, int color) {
  if constexpr (channels == 1) return pixel[0];
  if constexpr (channels == 3) return pixel[color];
  const float alpha = static_cast<float>(pixel[3]) / 255.0f;  // laid on white
  return static_cast<float>(pixel[color]) * alpha + 255.0f * (1.0f - alpha);
}

// Adds the bilinear sample at `point` to the sums of red, green and blue.
template <int channels>
void add_sample(const PictureView& picture, size_t row_stride, Point point, float* sums) {
  // Clamped as a double: a cast of a number beyond int is undefined. NaN becomes the left or upper border.
  const double x = std::min(std::max(0.0, point.x - 0.5), picture.width - 1.0);
  const double y = std::min(std::max(0.0, point.y - 0.5), picture.height - 1.0);
  const int x0 = static_cast<int>(x), y0 = static_cast<int>(y);
  const float dx = static_cast<float>(x - x0), dy = static_cast<float>(y - y0);
  const size_t right = x0 + 1 < picture.width ? channels : 0, below = y0 + 1 < picture.height ? row_stride : 0;
  const uint8_t* pixel = picture.pixels + static_cast<size_t>(y0) * row_stride + static_cast<size_t>(x0) * channels;
  for (int color = 0; color < 3; ++color) {
    const float left = level_of<channels>(pixel, color), lower = level_of<channels>(pixel + below, color);
    const float upper = left + dx * (level_of<channels>(pixel + right, color) - left);
    const float under = lower + dx * (level_of<channels>(pixel + below + right, color) - lower);
    sums[color] += upper + dy * (under - upper);
  }
}

template <int channels>
void crop(const PictureView& picture, const Quad& quad, const Strip& strip, uint8_t* out, size_t row_stride_bytes) {
  const SquareToQuad map(quad);
  const size_t row_stride =
      static_cast<size_t>(picture.row_stride_bytes != 0 ? picture.row_stride_bytes : picture.width * channels);
  const int across = samples_for(line_width(quad), strip.whole_width);
  const int down = samples_for(line_height(quad), strip.height);
  const float share = 1.0f / static_cast<float>(across * down);
  const double u_step = 1.0 / across / strip.whole_width, v_step = 1.0 / down / strip.height;
  for (int y = 0; y < strip.height; ++y) {
    uint8_t* target = out + static_cast<size_t>(y) * row_stride_bytes;
    for (int x = strip.begin; x < strip.end; ++x) {
      float sums[3] = {0, 0, 0};
      for (int j = 0; j < down; ++j)
        for (int i = 0; i < across; ++i)
          add_sample<channels>(picture, row_stride, map((x * across + i + 0.5) * u_step, (y * down + j + 0.5) * v_step),
                               sums);
      for (const float level : sums) *target++ = static_cast<uint8_t>(std::clamp(level * share + 0.5f, 0.0f, 255.0f));
    }
  }
}

}  // namespace

void crop_line(const PictureView& picture, const Quad& quad, const Strip& strip, uint8_t* out,
               size_t row_stride_bytes) {
  const auto run = picture.channels == 1 ? crop<1> : picture.channels == 3 ? crop<3> : crop<4>;
  run(picture, quad, strip, out, row_stride_bytes);
}

}  // namespace mm::vision
