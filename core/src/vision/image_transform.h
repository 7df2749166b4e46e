// Resizes pictures of bytes as Pillow's BILINEAR filter does, so that training, devices and servers feed a model the
// same pixels.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"

namespace mm::vision {

// A picture in the caller's memory: [height, width, channels] bytes, rows row_stride_bytes apart.
struct PictureView {
  const uint8_t* pixels = nullptr;
  int height = 0;            // 1..65535, height * width at most 178,956,970 (Pillow's own bound against image bombs)
  int width = 0;             // 1..65535
  int channels = 3;          // 1 (gray), 3 (RGB) or 4 (RGBA: laid on white)
  int row_stride_bytes = 0;  // at least width * channels; 0: rows follow each other without a gap
};

// The part of a picture to use; it must lie inside. Pixels outside it have no influence, not even on its edge.
struct CropBox {
  int left = 0;
  int top = 0;
  int width = 0;
  int height = 0;
};

// invalid_input names what is wrong with the picture.
base::Status check_picture(const PictureView& picture);

// Writes [out_height, out_width, 3] bytes; out sides 1..4096. A triangle filter as wide as the shrink factor
// (antialiasing), bilinear interpolation when enlarging; within 1 level of Pillow, equal where nothing is resized.
// invalid_input names what is wrong.
base::Status resize(const PictureView& picture, const CropBox* crop, int out_height, int out_width,
                    std::vector<uint8_t>& out);

inline base::Status resize_rgb_u8(const uint8_t* pixels, int height, int width, int row_stride_bytes, int out_height,
                                  int out_width, std::vector<uint8_t>& out) {
  return resize({pixels, height, width, 3, row_stride_bytes}, nullptr, out_height, out_width, out);
}

}  // namespace mm::vision
