// Resizes in two passes, rows before columns: adding up whole rows vectorizes on every CPU, at any number of channels.
#include "vision/image_transform.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <string>

namespace mm::vision {

using base::invalid_input;
using base::Status;

namespace {

constexpr int max_side = 65535;
constexpr int64_t max_area = 178956970;
constexpr int max_out_side = 4096;
// Sums of bytes times weights are kept in 32 bits: 255 * 2^24 < 2^32.
constexpr int max_weight_bits = 24;
// The sums between the passes keep 8 bits behind the point (255 * 256 < 2^16). Pillow rounds to bytes there: at most
// half a level off, then half a level more at the end; here half a level at the end alone, so results differ by 1 at
// most.
constexpr int middle_bits = 8;
// 512 pixels of up to 4 channels: their sums (8 KB) stay in the level-1 cache while the rows pass.
constexpr int strip_pixels = 512;

// For each output position the input positions [first, first + count) and their weights, which add up to 2^bits
// exactly.
struct Filter {
  struct Window {
    int first;
    int count;
    size_t weights;  // where they begin
  };
  std::vector<Window> windows;
  std::vector<uint16_t> weights;
  int bits = 0;
};

// A triangle over the output pixel's footprint: half-width 1 input pixel when enlarging, in_size / out_size when
// shrinking.
Filter make_filter(int in_size, int out_size) {
  const double scale = static_cast<double>(in_size) / out_size;
  const double half_width = std::max(scale, 1.0);
  std::vector<std::vector<double>> cumulative(static_cast<size_t>(out_size));
  Filter filter;
  double largest = 0;
  for (int i = 0; i < out_size; ++i) {
    const double center = (i + 0.5) * scale;
    // The pixels whose centers, rounded, lie inside the triangle: Pillow's choice of window.
    const int first = std::max(static_cast<int>(center - half_width + 0.5), 0);
    const int end = std::min(static_cast<int>(center + half_width + 0.5), in_size);
    std::vector<double>& sums = cumulative[static_cast<size_t>(i)];
    double sum = 0;
    for (int x = first; x < end; ++x) {
      sum += std::max(0.0, 1.0 - std::abs(x + 0.5 - center) / half_width);
      sums.push_back(sum);
    }
    double before = 0;
    for (double& value : sums) {
      value /= sum;
      largest = std::max(largest, value - before);
      before = value;
    }
    filter.windows.push_back({first, end - first, 0});
  }

  // As many bits as let the largest weight, rounded up, fit into 16.
  filter.bits = std::min(max_weight_bits, static_cast<int>(std::floor(std::log2(65534.0 / largest))));
  for (int i = 0; i < out_size; ++i) {
    Filter::Window& window = filter.windows[static_cast<size_t>(i)];
    window.weights = filter.weights.size();
    // Rounding the running sums, not the weights, makes the total exact: an even picture stays even.
    int64_t before = 0;
    for (const double sum : cumulative[static_cast<size_t>(i)]) {
      const int64_t rounded = std::llround(std::ldexp(sum, filter.bits));
      filter.weights.push_back(static_cast<uint16_t>(rounded - before));
      before = rounded;
    }
    while (window.count > 1 && filter.weights.back() == 0) {
      filter.weights.pop_back();
      --window.count;
    }
    while (window.count > 1 && filter.weights[window.weights] == 0) {
      ++window.weights;
      ++window.first;
      --window.count;
    }
  }
  return filter;
}

// The inner loops of the first pass: 16 x 16 -> 32 bit products, which every vector unit has.
void add_row(uint32_t* __restrict sums, const uint8_t* __restrict row, uint16_t weight, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    const uint16_t value = row[i];
    sums[i] += static_cast<uint32_t>(value) * weight;
  }
}

void add_two_rows(uint32_t* __restrict sums, const uint8_t* __restrict row0, uint16_t weight0,
                  const uint8_t* __restrict row1, uint16_t weight1, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    const uint16_t value0 = row0[i];
    const uint16_t value1 = row1[i];
    sums[i] += static_cast<uint32_t>(value0) * weight0 + static_cast<uint32_t>(value1) * weight1;
  }
}

bool is_opaque(const uint8_t* rgba, int pixels) {
  uint32_t common = 0xFFFFFFFFu;
  for (int i = 0; i < pixels; ++i) {
    uint32_t pixel;  // whole pixels, so that the compiler can take four or more at once
    std::memcpy(&pixel, rgba + 4 * i, 4);
    common &= pixel;
  }
  return common >> 24 == 255;
}

// Colors over white, rounded to nearest; what stands in the alpha channel afterwards is not used.
void lay_on_white(const uint8_t* __restrict rgba, int pixels, uint8_t* __restrict target) {
  for (int i = 0; i < 4 * pixels; i += 4) {
    const uint32_t alpha = rgba[i + 3];
    const uint32_t white = 255 * (255 - alpha) + 128;
    // (x + 128) * 257 / 65536 is x / 255 rounded, for all x up to 255 * 255.
    target[i + 0] = static_cast<uint8_t>((rgba[i + 0] * alpha + white) * 257 >> 16);
    target[i + 1] = static_cast<uint8_t>((rgba[i + 1] * alpha + white) * 257 >> 16);
    target[i + 2] = static_cast<uint8_t>((rgba[i + 2] * alpha + white) * 257 >> 16);
    target[i + 3] = 255;
  }
}

// The picture after its crop.
struct Source {
  const uint8_t* pixels;
  size_t row_stride;
  int height;
  int width;
  int channels;

  const uint8_t* row(int y, int x) const {
    return pixels + static_cast<size_t>(y) * row_stride + static_cast<size_t>(x) * static_cast<size_t>(channels);
  }
};

// Pixels [x, x + pixels) of row y without transparency; `scratch` is for changed ones. Camera and canvas pictures are
// opaque RGBA, so they are used as they lie, with a fourth channel that is summed and dropped.
const uint8_t* strip_of(const Source& source, int y, int x, int pixels, uint8_t* scratch) {
  const uint8_t* strip = source.row(y, x);
  if (source.channels != 4 || is_opaque(strip, pixels)) return strip;
  lay_on_white(strip, pixels, scratch);
  return scratch;
}

// One row of the first pass: the weighted rows of `window`, with middle_bits behind the point.
void sum_rows(const Source& source, const Filter& filter, const Filter::Window& window, uint16_t* middle) {
  uint32_t sums[strip_pixels * 4];
  uint8_t scratch[2][strip_pixels * 4];
  const uint16_t* weights = filter.weights.data() + window.weights;
  const int shift = filter.bits - middle_bits;
  const uint32_t half = uint32_t{1} << (shift - 1);
  for (int x = 0; x < source.width; x += strip_pixels) {
    const int pixels = std::min(strip_pixels, source.width - x);
    const size_t n = static_cast<size_t>(pixels) * static_cast<size_t>(source.channels);
    std::fill_n(sums, n, half);
    int tap = 0;
    for (; tap + 1 < window.count; tap += 2) {
      const uint8_t* row0 = strip_of(source, window.first + tap, x, pixels, scratch[0]);
      const uint8_t* row1 = strip_of(source, window.first + tap + 1, x, pixels, scratch[1]);
      add_two_rows(sums, row0, weights[tap], row1, weights[tap + 1], n);
    }
    if (tap < window.count) {
      add_row(sums, strip_of(source, window.first + tap, x, pixels, scratch[0]), weights[tap], n);
    }
    uint16_t* target = middle + static_cast<size_t>(x) * static_cast<size_t>(source.channels);
    for (size_t i = 0; i < n; ++i) target[i] = static_cast<uint16_t>(sums[i] >> shift);
  }
}

// One row of the second pass: from `middle` to finished bytes, gray repeated three times, a fourth channel left out.
template <int channels>
void sum_columns(const uint16_t* middle, const Filter& filter, uint8_t* out) {
  constexpr int colors = channels == 1 ? 1 : 3;
  const int shift = filter.bits + middle_bits;
  const uint64_t half = uint64_t{1} << (shift - 1);
  for (const Filter::Window& window : filter.windows) {
    const uint16_t* weights = filter.weights.data() + window.weights;
    const uint16_t* values = middle + static_cast<size_t>(window.first) * channels;
    uint64_t sums[colors];
    for (uint64_t& sum : sums) sum = half;
    for (int tap = 0; tap < window.count; ++tap) {
      // A product is below 2^32; their sum, up to 2^40, needs 64 bits.
      for (int c = 0; c < colors; ++c) sums[c] += static_cast<uint32_t>(values[tap * channels + c]) * weights[tap];
    }
    for (int c = 0; c < 3; ++c) *out++ = static_cast<uint8_t>(sums[c % colors] >> shift);
  }
}

std::string size_text(int64_t height, int64_t width) { return std::to_string(height) + "x" + std::to_string(width); }

Status check(const PictureView& picture, const CropBox* crop, int out_height, int out_width) {
  MM_RETURN_IF_ERROR(check_picture(picture));
  if (out_height < 1 || out_height > max_out_side || out_width < 1 || out_width > max_out_side) {
    return invalid_input("the wanted size is " + size_text(out_height, out_width) + ", expected sides of 1 to " +
                         std::to_string(max_out_side));
  }
  // Subtracted, not added: left + width could overflow.
  if (crop != nullptr && (crop->left < 0 || crop->top < 0 || crop->width < 1 || crop->height < 1 ||
                          crop->width > picture.width || crop->height > picture.height ||
                          crop->left > picture.width - crop->width || crop->top > picture.height - crop->height)) {
    return invalid_input("the crop of " + size_text(crop->height, crop->width) + " at row " +
                         std::to_string(crop->top) + ", column " + std::to_string(crop->left) +
                         " is not inside the picture of " + size_text(picture.height, picture.width));
  }
  return {};
}

}  // namespace

Status check_picture(const PictureView& picture) {
  if (picture.pixels == nullptr) return invalid_input("the picture has no pixels (null), expected its first byte");
  if (picture.height < 1 || picture.height > max_side || picture.width < 1 || picture.width > max_side) {
    return invalid_input("the picture is " + size_text(picture.height, picture.width) + ", expected sides of 1 to " +
                         std::to_string(max_side));
  }
  if (int64_t{picture.height} * picture.width > max_area) {
    return invalid_input("the picture is " + size_text(picture.height, picture.width) + ", expected at most " +
                             std::to_string(max_area) + " pixels",
                         "shrink it first");
  }
  if (picture.channels != 1 && picture.channels != 3 && picture.channels != 4) {
    return invalid_input(
        "the picture has " + std::to_string(picture.channels) + " channels, expected 1 (gray), 3 (RGB) or 4 (RGBA)",
        "convert it to RGB");
  }
  if (picture.row_stride_bytes != 0 && picture.row_stride_bytes < picture.width * picture.channels) {
    return invalid_input("the picture's rows are " + std::to_string(picture.row_stride_bytes) +
                         " bytes apart, expected at least " + std::to_string(picture.width * picture.channels));
  }
  return {};
}

Status resize(const PictureView& picture, const CropBox* crop, int out_height, int out_width,
              std::vector<uint8_t>& out) {
  MM_RETURN_IF_ERROR(check(picture, crop, out_height, out_width));
  const CropBox box = crop != nullptr ? *crop : CropBox{0, 0, picture.width, picture.height};
  Source source;
  source.channels = picture.channels;
  source.row_stride =
      static_cast<size_t>(picture.row_stride_bytes != 0 ? picture.row_stride_bytes : picture.width * picture.channels);
  source.height = box.height;
  source.width = box.width;
  source.pixels = picture.pixels;
  source.pixels = source.row(box.top, box.left);
  try {
    const Filter rows = make_filter(source.height, out_height);
    const Filter columns = make_filter(source.width, out_width);
    std::vector<uint16_t> middle(static_cast<size_t>(source.width) * static_cast<size_t>(source.channels));
    const size_t out_row_bytes = static_cast<size_t>(out_width) * 3;
    out.resize(static_cast<size_t>(out_height) * out_row_bytes);
    for (int y = 0; y < out_height; ++y) {
      sum_rows(source, rows, rows.windows[static_cast<size_t>(y)], middle.data());
      uint8_t* target = out.data() + static_cast<size_t>(y) * out_row_bytes;
      if (source.channels == 1) {
        sum_columns<1>(middle.data(), columns, target);
      } else if (source.channels == 3) {
        sum_columns<3>(middle.data(), columns, target);
      } else {
        sum_columns<4>(middle.data(), columns, target);
      }
    }
  } catch (const std::bad_alloc&) {
    return Status(base::StatusCode::out_of_memory,
                  "no memory left to resize a picture to " + size_text(out_height, out_width));
  }
  return {};
}

}  // namespace mm::vision
