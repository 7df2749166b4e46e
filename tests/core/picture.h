// Holds the pixels of a test picture.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "vision/image_transform.h"

struct Picture {
  int height, width, channels;
  std::vector<uint8_t> pixels;

  Picture(int h, int w, int c) : height(h), width(w), channels(c), pixels(static_cast<size_t>(h * w * c)) {}
  mm::vision::PictureView view() const { return {pixels.data(), height, width, channels, 0}; }
  uint8_t& at(int y, int x, int c) { return pixels[static_cast<size_t>((y * width + x) * channels + c)]; }
  uint8_t at(int y, int x, int c) const { return pixels[static_cast<size_t>((y * width + x) * channels + c)]; }
};
