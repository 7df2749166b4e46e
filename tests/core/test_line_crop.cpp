// Holds crops to pictures whose levels are known everywhere, and the projective map to its corners and straight lines.
#include "vision/line_crop.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "picture.h"

namespace {

using mm::vision::PictureView;
using mm::vision::Point;
using mm::vision::Quad;

std::vector<uint8_t> crop(const PictureView& picture, const Quad& quad, int height, int width) {
  std::vector<uint8_t> out(static_cast<size_t>(height * width * 3));
  crop_line(picture, quad, {height, width, 0, width}, out.data(), static_cast<size_t>(width) * 3);
  return out;
}

void test_projective_map() {
  std::mt19937 generator(1);
  std::uniform_real_distribution<double> shift(-9, 9);
  for (int run = 0; run < 200; ++run) {
    Quad quad = {Point{0, 0}, Point{60, 0}, Point{60, 30}, Point{0, 30}};
    for (Point& corner : quad) corner = corner + Point{shift(generator), shift(generator)};
    const mm::vision::SquareToQuad map(quad);
    const Point corners[] = {map(0, 0), map(1, 0), map(1, 1), map(0, 1)};
    for (size_t i = 0; i < 4; ++i) MM_CHECK(distance(corners[i], quad[i]) < 1e-9);
    // Straight lines stay straight: the middle of the square is where the diagonals of the quadrilateral cross.
    const Point middle = map(0.5, 0.5);
    MM_CHECK(std::abs(cross(quad[2] - quad[0], middle - quad[0])) < 1e-7);
    MM_CHECK(std::abs(cross(quad[3] - quad[1], middle - quad[1])) < 1e-7);
    for (const double t : {0.1, 0.3, 0.8})
      MM_CHECK(std::abs(cross(map(t, 1) - map(t, 0), map(t, 0.4) - map(t, 0))) < 1e-7);
  }
}

// Levels that rise evenly with x and y: bilinear interpolation and means are exact, so only the last rounding is left.
void test_slopes() {
  Picture picture(200, 300, 3);
  for (int y = 0; y < 200; ++y)
    for (int x = 0; x < 300; ++x) {
      picture.at(y, x, 0) = static_cast<uint8_t>(x * 2 / 3);
      picture.at(y, x, 1) = static_cast<uint8_t>(y);
      picture.at(y, x, 2) = static_cast<uint8_t>((x + y) / 2);
    }
  for (const double angle : {0.0, 0.2, -0.5, 1.4}) {
    for (const double height : {10.0, 48.0, 90.0}) {
      const Point axis = {std::cos(angle), std::sin(angle)}, down = {-axis.y, axis.x}, center = {150, 100};
      const Point along = axis * 40, across = down * (height / 2);
      const Quad quad = {center - along - across, center + along - across, center + along + across,
                         center - along + across};
      const int width = static_cast<int>(std::ceil(48 * 80 / height));
      const std::vector<uint8_t> out = crop(picture.view(), quad, 48, width);
      for (int y = 0; y < 48; ++y)
        for (int x = 0; x < width; ++x) {
          const Point p = quad[0] + axis * (80 * (x + 0.5) / width) + down * (height * (y + 0.5) / 48);
          if (p.x < 6 || p.y < 6 || p.x > 294 || p.y > 194) continue;
          const uint8_t* pixel = out.data() + (y * width + x) * 3;
          // Whole numbers were cut off when the slope was drawn: up to 1 below, then half a level of rounding.
          MM_CHECK(std::abs(pixel[1] - (p.y - 0.5)) <= 0.5 + 1e-3);
          const double red = (p.x - 0.5) * 2 / 3, blue = (p.x + p.y - 1) / 2;
          MM_CHECK(pixel[0] - red <= 0.5 + 1e-3 && red - pixel[0] <= 1.5);
          MM_CHECK(pixel[2] - blue <= 0.5 + 1e-3 && blue - pixel[2] <= 1.5);
        }
    }
  }
}

void test_pixels_are_copied_where_nothing_is_scaled() {
  Picture picture(48, 100, 3);
  std::mt19937 generator(2);
  for (uint8_t& level : picture.pixels) level = static_cast<uint8_t>(generator());
  const Quad all = {Point{0, 0}, Point{100, 0}, Point{100, 48}, Point{0, 48}};
  MM_CHECK(crop(picture.view(), all, 48, 100) == picture.pixels);
  // Turned by a quarter: reading begins at the upper right and runs down.
  const Quad tall = mm::vision::in_reading_direction({Point{0, 0}, Point{20, 0}, Point{20, 48}, Point{0, 48}});
  const std::vector<uint8_t> out = crop(picture.view(), tall, 20, 48);
  for (int y = 0; y < 20; ++y)
    for (int x = 0; x < 48; ++x)
      for (int c = 0; c < 3; ++c) MM_CHECK(out[static_cast<size_t>((y * 48 + x) * 3 + c)] == picture.at(x, 19 - y, c));
  MM_CHECK(in_reading_direction(all)[0].x == 0);
  // A part of the strip is that part of the whole.
  std::vector<uint8_t> part(48 * 30 * 3);
  crop_line(picture.view(), all, {48, 100, 50, 80}, part.data(), 30 * 3);
  for (int y = 0; y < 48; ++y)
    for (int i = 0; i < 90; ++i) MM_CHECK(part[static_cast<size_t>(y * 90 + i)] == picture.at(y, 50 + i / 3, i % 3));
}

// Stripes of one pixel shrunk by 4: without a mean they would come out black or white.
void test_shrinking_takes_means() {
  Picture picture(480, 960, 1);
  for (int y = 0; y < 480; ++y)
    for (int x = 0; x < 960; ++x) picture.at(y, x, 0) = (x + y) % 2 == 0 ? 255 : 0;
  const Quad all = {Point{0, 0}, Point{960, 0}, Point{960, 480}, Point{0, 480}};
  for (const uint8_t level : crop(picture.view(), all, 120, 240)) MM_CHECK(level >= 127 && level <= 128);
}

void test_channels_and_borders() {
  for (const int channels : {1, 3, 4}) {
    Picture picture(3, 5, channels);
    for (uint8_t& level : picture.pixels) level = 100;
    const Quad beyond = {Point{-50, -50}, Point{1e9, -50}, Point{1e9, 50}, Point{-50, 50}};
    const uint8_t expected = channels == 4 ? static_cast<uint8_t>(std::lround(255 - 100 * 155 / 255.0)) : 100;
    for (const uint8_t level : crop(picture.view(), beyond, 48, 64)) MM_CHECK(std::abs(level - expected) <= 1);
    // Corners that lie on each other, or beyond numbers, give some level and no crash.
    const double inf = std::numeric_limits<double>::infinity();
    crop(picture.view(), {}, 48, 16);
    crop(picture.view(), {Point{inf, 0}, Point{0, inf}, Point{-inf, 0}, Point{0, 0}}, 48, 16);
    crop(picture.view(), {Point{0, 0}, Point{5, 3}, Point{0, 3}, Point{5, 0}}, 48, 16);
  }
}

}  // namespace

int main() {
  test_projective_map();
  test_slopes();
  test_pixels_are_copied_where_nothing_is_scaled();
  test_shrinking_takes_means();
  test_channels_and_borders();
  return mm::test::finish("line_crop");
}
