// Feeds odd sizes, strides and crops to the resize; buffers end exactly where the picture does, so a read too far is
// seen. Usage: fuzz_pictures [runs [seed]]
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "check.h"
#include "mutation.h"
#include "vision/image_transform.h"

namespace {

using mm::attacks::Random;
using mm::base::StatusCode;

int odd_side(Random& random, int most) {
  constexpr int sides[] = {1, 2, 3, 7, 16, 31, 64, 127, 224, 511, 512, 513, 1025};
  const int side = random.below(3) == 0 ? sides[random.below(13)] : 1 + static_cast<int>(random.below(100));
  return side < most ? side : most;
}

}  // namespace

int main(int argc, char** argv) {
  const size_t runs = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1000;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  std::vector<uint8_t> out;
  for (size_t run = 0; run < runs; ++run) {
    Random random(seed * 1000003 + run);
    const int channels = static_cast<int>(random.below(3)) == 0 ? 1 : random.below(2) == 0 ? 3 : 4;
    const int height = odd_side(random, 300);
    const int width = odd_side(random, 1100);
    const int gap = static_cast<int>(random.below(3)) * 5;
    const int stride = width * channels + gap;
    // The last row has no gap behind it: a heap block of exactly the picture's bytes.
    const size_t bytes =
        static_cast<size_t>(height - 1) * static_cast<size_t>(stride) + static_cast<size_t>(width * channels);
    const std::unique_ptr<uint8_t[]> pixels(new uint8_t[bytes]);
    const int low = static_cast<int>(random.below(256));
    for (size_t i = 0; i < bytes; ++i) pixels[i] = static_cast<uint8_t>(random.next());
    const bool is_even = random.below(4) == 0;
    if (is_even) std::memset(pixels.get(), channels == 4 ? 255 : low, bytes);

    const mm::vision::CropBox box = {static_cast<int>(random.below(static_cast<size_t>(width))),
                                     static_cast<int>(random.below(static_cast<size_t>(height))),
                                     odd_side(random, width), odd_side(random, height)};
    const bool is_inside = box.left <= width - box.width && box.top <= height - box.height;
    const int out_height = odd_side(random, 300);
    const int out_width = odd_side(random, 300);
    const mm::vision::PictureView view = {pixels.get(), height, width, channels, stride};
    for (const mm::vision::CropBox* crop : {static_cast<const mm::vision::CropBox*>(nullptr), &box}) {
      const mm::base::Status status = mm::vision::resize(view, crop, out_height, out_width, out);
      const StatusCode expected = crop == nullptr || is_inside ? StatusCode::ok : StatusCode::invalid_input;
      if (!MM_CHECK(status.code() == expected) || !status.is_ok()) continue;
      MM_CHECK(out.size() == static_cast<size_t>(out_height * out_width * 3));
      const uint8_t level = static_cast<uint8_t>(channels == 4 ? 255 : low);
      for (const uint8_t byte : out) {
        if (is_even && byte != level) {
          MM_CHECK(byte == level);
          break;
        }
      }
    }

    // Any integers at all: refused or done, never a crash. Only sizes that fit the buffer are run.
    const auto any = [&] { return static_cast<int>(mm::attacks::boundary_integer(random)); };
    const mm::vision::PictureView wild = {pixels.get(), any(), any(), any(), any()};
    const int wild_out_height = any();
    const int wild_out_width = any();
    // A plausible picture larger than the buffer is the caller's lie, which nobody can check.
    const auto is_side = [](int side) { return side > 0 && side < 65536; };
    if (is_side(wild.height) && is_side(wild.width)) {
      const int64_t row = wild.row_stride_bytes != 0 ? wild.row_stride_bytes : int64_t{wild.width} * wild.channels;
      if (wild.height * row > static_cast<int64_t>(bytes)) continue;
    }
    const mm::base::Status status = mm::vision::resize(wild, nullptr, wild_out_height, wild_out_width, out);
    MM_CHECK(status.is_ok() || status.code() == StatusCode::invalid_input);
  }
  return mm::test::finish("fuzz_pictures");
}
