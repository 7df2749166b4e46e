// Holds the resize to a slow twin in double precision, with a derived bound, and to refusing what it cannot read.
#include "vision/image_transform.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <vector>

#include "check.h"
#include "picture.h"

namespace {

using mm::base::StatusCode;
using mm::vision::CropBox;
using mm::vision::PictureView;

// kind 0: noise; 1: black and white noise, where errors are largest; 2: a slope.
Picture make_picture(int height, int width, int channels, int kind) {
  Picture picture(height, width, channels);
  uint32_t state = 12345;
  for (size_t i = 0; i < picture.pixels.size(); ++i) {
    state = state * 1664525u + 1013904223u;
    const uint8_t noise = static_cast<uint8_t>(state >> 24);
    picture.pixels[i] = kind == 0   ? noise
                        : kind == 1 ? static_cast<uint8_t>(noise & 1 ? 255 : 0)
                                    : static_cast<uint8_t>(i * 7);
  }
  return picture;
}

// What a pixel shows, gray spread and transparency laid on white.
double shown(const Picture& picture, int y, int x, int c) {
  if (picture.channels == 1) return picture.at(y, x, 0);
  if (picture.channels == 3) return picture.at(y, x, c);
  const int alpha = picture.at(y, x, 3);
  return std::floor((picture.at(y, x, c) * alpha + 255 * (255 - alpha)) / 255.0 + 0.5);
}

// The weights of one output position over the whole input line.
std::vector<double> weights_at(int position, int in_size, int out_size) {
  const double scale = static_cast<double>(in_size) / out_size;
  const double half_width = std::max(scale, 1.0);
  const double center = (position + 0.5) * scale;
  std::vector<double> weights(static_cast<size_t>(in_size));
  double sum = 0;
  for (int i = 0; i < in_size; ++i) {
    weights[static_cast<size_t>(i)] = std::max(0.0, 1.0 - std::abs(i + 0.5 - center) / half_width);
    sum += weights[static_cast<size_t>(i)];
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

// Half a level for the last rounding, 1/512 for the sums kept in between, and for each pass 255 * taps * one unit of
// its weights: at most 255 * (2 f + 2) * 2 / (65534 f) < 0.032 for a shrink factor f >= 1.
constexpr double bound = 0.5 + 1.0 / 512 + 2 * 0.032;

void check_against_twin(const Picture& picture, int out_height, int out_width) {
  std::vector<uint8_t> out;
  MM_CHECK(mm::vision::resize(picture.view(), nullptr, out_height, out_width, out).is_ok());
  if (!MM_CHECK(out.size() == static_cast<size_t>(out_height * out_width * 3))) return;
  double worst = 0;
  for (int y = 0; y < out_height; ++y) {
    const std::vector<double> rows = weights_at(y, picture.height, out_height);
    for (int x = 0; x < out_width; ++x) {
      const std::vector<double> columns = weights_at(x, picture.width, out_width);
      for (int c = 0; c < 3; ++c) {
        double exact = 0;
        for (int v = 0; v < picture.height; ++v) {
          if (rows[static_cast<size_t>(v)] == 0) continue;
          for (int u = 0; u < picture.width; ++u) {
            const double weight = rows[static_cast<size_t>(v)] * columns[static_cast<size_t>(u)];
            if (weight != 0) exact += weight * shown(picture, v, u, c);
          }
        }
        worst = std::max(worst, std::abs(out[static_cast<size_t>((y * out_width + x) * 3 + c)] - exact));
      }
    }
  }
  if (!MM_CHECK(worst <= bound)) {
    std::fprintf(stderr, "  %dx%dx%d to %dx%d: off by %.3f\n", picture.height, picture.width, picture.channels,
                 out_height, out_width, worst);
  }
}

void check_values() {
  for (const int channels : {1, 3, 4}) {
    for (int kind = 0; kind < 3; ++kind) {
      for (const auto& [height, width] : {std::pair{1, 1}, {1, 9}, {9, 1}, {13, 17}, {60, 40}, {5, 700}}) {
        const Picture picture = make_picture(height, width, channels, kind);
        for (const auto& [out_height, out_width] : {std::pair{1, 1}, {7, 7}, {13, 17}, {20, 3}}) {
          check_against_twin(picture, out_height, out_width);
        }
      }
    }
  }
  // The largest shrink there is.
  std::vector<uint8_t> out;
  const Picture line = make_picture(1, 65535, 3, 2);
  check_against_twin(line, 1, 2);
  const Picture column = make_picture(65535, 1, 1, 1);
  check_against_twin(column, 2, 1);

  // The same size changes nothing; an even picture stays even.
  const Picture picture = make_picture(37, 53, 3, 0);
  MM_CHECK(mm::vision::resize(picture.view(), nullptr, 37, 53, out).is_ok() && out == picture.pixels);
  for (int level = 0; level < 256; ++level) {
    Picture even(19, 23, 3);
    std::fill(even.pixels.begin(), even.pixels.end(), static_cast<uint8_t>(level));
    for (const auto& [height, width] : {std::pair{7, 5}, {40, 50}, {1, 1}}) {
      MM_CHECK(mm::vision::resize(even.view(), nullptr, height, width, out).is_ok());
      MM_CHECK(std::all_of(out.begin(), out.end(), [&](uint8_t byte) { return byte == level; }));
    }
  }
  // Fully transparent is white, whatever color lies below.
  Picture clear = make_picture(6, 6, 4, 0);
  for (int i = 0; i < 36; ++i) clear.pixels[static_cast<size_t>(4 * i + 3)] = 0;
  MM_CHECK(mm::vision::resize(clear.view(), nullptr, 3, 3, out).is_ok());
  MM_CHECK(std::all_of(out.begin(), out.end(), [](uint8_t byte) { return byte == 255; }));
}

void check_stride_and_crop() {
  // A picture in the corner of a larger buffer equals the copied corner, by stride or by crop.
  for (const int channels : {1, 3, 4}) {
    const Picture whole = make_picture(40, 50, channels, 0);
    const CropBox box = {7, 11, 21, 17};
    Picture part(box.height, box.width, channels);
    for (int y = 0; y < box.height; ++y) {
      for (int x = 0; x < box.width; ++x) {
        for (int c = 0; c < channels; ++c) part.at(y, x, c) = whole.at(box.top + y, box.left + x, c);
      }
    }
    std::vector<uint8_t> expected, cropped, strided;
    MM_CHECK(mm::vision::resize(part.view(), nullptr, 9, 30, expected).is_ok());
    MM_CHECK(mm::vision::resize(whole.view(), &box, 9, 30, cropped).is_ok());
    const uint8_t* corner = whole.pixels.data() + (box.top * 50 + box.left) * channels;
    MM_CHECK(
        mm::vision::resize({corner, box.height, box.width, channels, 50 * channels}, nullptr, 9, 30, strided).is_ok());
    MM_CHECK(cropped == expected && strided == expected);
  }
}

void check_refusals() {
  const Picture picture = make_picture(4, 4, 3, 0);
  std::vector<uint8_t> out;
  const auto code = [&](const PictureView& view, int out_height = 2, int out_width = 2) {
    return mm::vision::resize(view, nullptr, out_height, out_width, out).code();
  };
  const uint8_t* pixels = picture.pixels.data();
  MM_CHECK(code({pixels, 4, 4, 3, 0}) == StatusCode::ok);
  for (const PictureView& wrong : {PictureView{nullptr, 4, 4, 3, 0},
                                   {pixels, 0, 4, 3, 0},
                                   {pixels, 4, -1, 3, 0},
                                   {pixels, 65536, 4, 3, 0},
                                   {pixels, 4, 65536, 3, 0},
                                   {pixels, 65535, 65535, 3, 0},
                                   {pixels, 4, 4, 0, 0},
                                   {pixels, 4, 4, 2, 0},
                                   {pixels, 4, 4, 5, 0},
                                   {pixels, 4, 4, 3, 11},
                                   {pixels, 4, 4, 3, -12}}) {
    MM_CHECK(code(wrong) == StatusCode::invalid_input);
  }
  for (const auto& [height, width] :
       {std::pair{0, 2}, {2, 0}, {-1, 2}, {4097, 2}, {2, 4097}, {2147483647, 2147483647}}) {
    MM_CHECK(code(picture.view(), height, width) == StatusCode::invalid_input);
  }
  const int huge = 2147483647;
  for (const CropBox& box : {CropBox{-1, 0, 2, 2},
                             {0, -1, 2, 2},
                             {0, 0, 0, 2},
                             {0, 0, 2, 0},
                             {3, 0, 2, 2},
                             {0, 3, 2, 2},
                             {0, 0, 5, 2},
                             {0, 0, 2, 5},
                             {huge, 0, huge, 1},
                             {0, huge, 1, huge},
                             {0, 0, -1, -1}}) {
    MM_CHECK(mm::vision::resize(picture.view(), &box, 2, 2, out).code() == StatusCode::invalid_input);
  }
  const mm::base::Status status = mm::vision::resize({pixels, 65535, 65535, 3, 0}, nullptr, 2, 2, out);
  MM_CHECK(status.message().find("65535x65535") != std::string::npos && !status.hint().empty());
}

void check_speed() {
  for (const int channels : {1, 3, 4}) {
    Picture picture = make_picture(3000, 4000, channels, 0);
    if (channels == 4) {
      for (size_t i = 3; i < picture.pixels.size(); i += 4) picture.pixels[i] = 255;
    }
    std::vector<uint8_t> out;
    double best_ms = 1e9;
    for (int i = 0; i < 5; ++i) {
      const auto start = std::chrono::steady_clock::now();
      MM_CHECK(mm::vision::resize(picture.view(), nullptr, 224, 224, out).is_ok());
      const auto end = std::chrono::steady_clock::now();
      best_ms = std::min(best_ms, std::chrono::duration<double, std::milli>(end - start).count());
    }
    std::printf("image_transform: 3000x4000x%d to 224x224 in %.1f ms\n", channels, best_ms);
  }
}

}  // namespace

int main() {
  check_values();
  check_stride_and_crop();
  check_refusals();
  check_speed();
  return mm::test::finish("image_transform");
}
