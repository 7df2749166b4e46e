// Feeds hostile probability maps to the search for text boxes: noise, NaN, spirals, nested corners, up to 4096 x 4096.
// Usage: fuzz_text_boxes [runs [seed]]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <vector>

#include "check.h"
#include "mutation.h"
#include "vision/line_crop.h"
#include "vision/reading_order.h"
#include "vision/text_boxes.h"

namespace {

using mm::attacks::Random;

float odd_value(Random& random) {
  constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float values[] = {0.0f, 1.0f, -1.0f, inf, -inf, nan, -nan, 0.2f, 1e-45f, 3e38f};
  return random.below(4) == 0 ? values[random.below(10)] : static_cast<float>(random.below(1000)) / 1000.0f;
}

// One of eight textures; `at` runs over rows, then columns.
float texture(int kind, int y, int x, Random& random) {
  switch (kind) {
    case 0:
      return odd_value(random);
    case 1:
      return 1.0f;
    case 2:
      return std::numeric_limits<float>::quiet_NaN();
    case 3:  // one region of every second position
      return (x + y) % 2 == 0 ? 0.9f : 0.0f;
    case 4:  // corners inside corners: their rectangles add up to far more than the map
      return std::min(x, y) % 4 < 2 ? 0.9f : 0.0f;
    case 5:  // islands: as many regions as there can be
      return x % 6 < 4 && y % 6 < 4 ? 0.9f : 0.0f;
    case 6:  // one long winding region
      return y % 4 == 0 || (y % 4 == 2 ? x % 512 == 0 : y % 8 < 4 ? x % 512 == 511 : x % 512 == 0) ? 0.9f : 0.0f;
    default:  // diagonals
      return (x + y) % 16 < 5 ? 0.7f : 0.1f;
  }
}

void attack(int height, int width, int kind, Random& random) {
  std::vector<float> map(static_cast<size_t>(height) * static_cast<size_t>(width));
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      map[static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)] = texture(kind, y, x, random);
  mm::vision::TextBoxSettings settings;
  settings.max_boxes = 1 + static_cast<int>(random.below(3000));
  settings.unclip_ratio = static_cast<float>(random.below(11));
  const auto start = std::chrono::steady_clock::now();
  const auto found = mm::vision::find_text_boxes({map.data(), height, width}, settings);
  if (!MM_CHECK(found.is_ok())) return;
  MM_CHECK(found.value().boxes.size() <= static_cast<size_t>(settings.max_boxes));
  std::vector<mm::vision::Quad> quads;
  for (const mm::vision::TextBox& box : found.value().boxes) {
    MM_CHECK(box.score >= settings.box_threshold && box.score <= 1);
    for (const mm::vision::Point& corner : box.quad) MM_CHECK(std::isfinite(corner.x) && std::isfinite(corner.y));
    quads.push_back(mm::vision::in_reading_direction(box.quad));
  }
  std::vector<bool> is_seen(quads.size(), false);
  for (const size_t i : mm::vision::reading_order(quads)) {
    MM_CHECK(i < is_seen.size() && !is_seen[i]);
    is_seen[i] = true;
  }
  for (const bool seen : is_seen) MM_CHECK(seen);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  // Linear: 16 million positions take 0.1 to 2 s; the bound leaves room for sanitizers and a busy machine.
  if (!MM_CHECK(seconds < 1 + 5e-6 * static_cast<double>(map.size())))
    std::fprintf(stderr, "%dx%d of kind %d took %.2f s\n", height, width, kind, seconds);
  if (map.size() >= size_t{1} << 24)
    std::printf("  kind %d: %.2f s, %zu boxes, %zu dropped\n", kind, seconds, quads.size(), found.value().dropped);
}

}  // namespace

int main(int argc, char** argv) {
  const size_t runs = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 300;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  constexpr int sides[] = {1, 2, 3, 4, 5, 31, 32, 33, 100, 257};
  for (size_t run = 0; run < runs; ++run) {
    Random random(seed * 1000003 + run);
    attack(sides[random.below(10)], sides[random.below(10)], static_cast<int>(random.below(8)), random);
  }
  Random random(seed);
  attack(1, 65536, 7, random);
  attack(65536, 1, 1, random);
  attack(65536, 256, 4, random);
  for (int kind = 0; kind < 8; ++kind) attack(4096, 4096, kind, random);
  return mm::test::finish("fuzz_text_boxes");
}
