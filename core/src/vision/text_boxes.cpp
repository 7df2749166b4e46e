// Takes connected regions one by one: outline, hull, smallest rectangle, mean probability, growth.
#include "vision/text_boxes.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <new>
#include <string>

namespace mm::vision {

namespace {

constexpr int max_side = 65536;
constexpr int64_t max_positions = int64_t{1} << 24;
// PaddleOCR drops a region whose rectangle between centers is under 3 positions thin, and a grown box under 5.
constexpr double min_side = 3;
constexpr double min_grown_side = 5;

struct Run {
  int y, first, last;  // columns first..last are text
};

// Leftmost and rightmost column of each row of a region, from row `top` on.
struct Outline {
  int top = 0;
  std::vector<int> first, last;
};

// Text or not, and taken already or not. Hands out connected regions (8 neighbours) with an explicit stack of runs: no
// recursion, every position is taken once.
class Regions {
 public:
  Regions(const ProbabilityMap& map, float threshold)
      : height_(map.height), width_(map.width), is_open_(static_cast<size_t>(map.height) * map.width) {
    // A comparison with NaN is false.
    for (size_t i = 0; i < is_open_.size(); ++i) is_open_[i] = map.values[i] > threshold;
  }

  // The region that has its uppermost, then leftmost position at or after `cursor`; false when there is none.
  bool next(size_t& cursor, Outline& outline) {
    while (cursor < is_open_.size() && !is_open_[cursor]) ++cursor;
    if (cursor == is_open_.size()) return false;
    outline.top = static_cast<int>(cursor / static_cast<size_t>(width_));
    outline.first.clear();
    outline.last.clear();
    take(outline.top, static_cast<int>(cursor % static_cast<size_t>(width_)), outline);
    while (!stack_.empty()) {
      const Run run = stack_.back();
      stack_.pop_back();
      take_neighbours(run.y - 1, run, outline);
      take_neighbours(run.y + 1, run, outline);
    }
    return true;
  }

 private:
  uint8_t* row(int y) { return is_open_.data() + static_cast<size_t>(y) * static_cast<size_t>(width_); }

  void take_neighbours(int y, const Run& run, Outline& outline) {
    if (y < 0 || y >= height_) return;
    const int end = std::min(run.last + 2, width_);
    for (int x = std::max(run.first - 1, 0); x < end; ++x)
      if (row(y)[x]) x = take(y, x, outline);
  }

  // Takes the whole run around (x, y); returns its last column.
  int take(int y, int x, Outline& outline) {
    uint8_t* open = row(y);
    Run run = {y, x, x};
    while (run.first > 0 && open[run.first - 1]) --run.first;
    while (run.last + 1 < width_ && open[run.last + 1]) ++run.last;
    std::fill(open + run.first, open + run.last + 1, uint8_t{0});
    stack_.push_back(run);
    const size_t at = static_cast<size_t>(y - outline.top);  // a region is entered at its top: never negative
    if (at >= outline.first.size()) {
      outline.first.resize(at + 1, width_);
      outline.last.resize(at + 1, -1);
    }
    outline.first[at] = std::min(outline.first[at], run.first);
    outline.last[at] = std::max(outline.last[at], run.last);
    return run.last;
  }

  int height_, width_;
  std::vector<uint8_t> is_open_;
  std::vector<Run> stack_;
};

// Running sums of each row in units of 1/65535, exact in 32 bits: 65535 * 65536 < 2^32. They make the mean of a box
// cost its height, not its area: nested regions have far more area than the map.
class RowSums {
 public:
  explicit RowSums(const ProbabilityMap& map)
      : width_(static_cast<size_t>(map.width)), sums_(static_cast<size_t>(map.height) * (width_ + 1)) {
    for (size_t y = 0; y < static_cast<size_t>(map.height); ++y) {
      const float* values = map.values + y * width_;
      uint32_t* sums = sums_.data() + y * (width_ + 1);
      for (size_t x = 0; x < width_; ++x) {
        const float value = values[x] > 0 ? std::min(values[x], 1.0f) : 0.0f;  // NaN: 0
        sums[x + 1] = sums[x] + static_cast<uint32_t>(value * 65535.0f + 0.5f);
      }
    }
  }
  double sum(int y, int begin, int end) const {
    const uint32_t* sums = sums_.data() + static_cast<size_t>(y) * (width_ + 1);
    return static_cast<double>(sums[end] - sums[begin]) / 65535.0;
  }

 private:
  size_t width_;
  std::vector<uint32_t> sums_;
};

// Where the line y = `level` crosses a quadrilateral: [left, right], empty when left > right.
void crossing(const Quad& quad, double level, double& left, double& right) {
  left = 1e300;
  right = -1e300;
  for (size_t i = 0; i < 4; ++i) {
    const Point a = quad[i], b = quad[(i + 1) % 4];
    // The ends of a level side belong to the sides beside it as well.
    if (a.y == b.y || std::min(a.y, b.y) > level || std::max(a.y, b.y) < level) continue;
    const double x = a.x + (level - a.y) / (b.y - a.y) * (b.x - a.x);
    left = std::min(left, x);
    right = std::max(right, x);
  }
}

// Mean over the positions whose centers lie in the box, its border included.
float mean_inside(const ProbabilityMap& map, const RowSums& sums, const Quad& quad) {
  constexpr double slack = 1e-6;  // corners come out of rotations: a center on the border must not fall out
  double top = quad[0].y, bottom = quad[0].y;
  for (const Point& corner : quad) {
    top = std::min(top, corner.y);
    bottom = std::max(bottom, corner.y);
  }
  const int first_row = std::max(0, static_cast<int>(std::ceil(top - 0.5 - slack)));
  const int last_row = std::min(map.height - 1, static_cast<int>(std::floor(bottom - 0.5 + slack)));
  double total = 0, count = 0;
  for (int y = first_row; y <= last_row; ++y) {
    double left, right;
    crossing(quad, std::clamp(y + 0.5, top, bottom), left, right);
    const double begin = std::max(0.0, std::ceil(left - 0.5 - slack));
    const double end = std::min(static_cast<double>(map.width), std::floor(right - 0.5 + slack) + 1);
    if (!(begin < end)) continue;
    total += sums.sum(y, static_cast<int>(begin), static_cast<int>(end));
    count += end - begin;
  }
  return count > 0 ? static_cast<float>(total / count) : 0.0f;
}

// Centers of the outermost positions of each row, sorted by y, then x.
void collect_centers(const Outline& outline, std::vector<Point>& centers) {
  centers.clear();
  for (size_t i = 0; i < outline.first.size(); ++i) {
    const double y = outline.top + static_cast<double>(i) + 0.5;
    centers.push_back({outline.first[i] + 0.5, y});
    if (outline.last[i] > outline.first[i]) centers.push_back({outline.last[i] + 0.5, y});
  }
}

// A region with fewer rows and columns than this has no rectangle of min_side, at any angle: its diagonal is shorter.
bool is_tiny(const Outline& outline) {
  const auto [first, last] = std::minmax_element(outline.first.begin(), outline.first.end());
  return outline.first.size() <= 2 && *last - *first <= 2 &&
         *std::max_element(outline.last.begin(), outline.last.end()) - *first <= 2;
}

// Keeps the likeliest, in their old order.
void keep_likeliest(TextBoxes& found, size_t most) {
  if (found.boxes.size() <= most) return;
  std::vector<size_t> order(found.boxes.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::nth_element(order.begin(), order.begin() + static_cast<long>(most), order.end(), [&](size_t a, size_t b) {
    return found.boxes[a].score != found.boxes[b].score ? found.boxes[a].score > found.boxes[b].score : a < b;
  });
  order.resize(most);
  std::sort(order.begin(), order.end());
  std::vector<TextBox> kept;
  for (const size_t i : order) kept.push_back(found.boxes[i]);
  found.dropped += found.boxes.size() - most;
  found.boxes = std::move(kept);
}

base::Status check(const ProbabilityMap& map, const TextBoxSettings& settings) {
  if (map.values == nullptr || map.height < 1 || map.width < 1 || map.height > max_side || map.width > max_side ||
      int64_t{map.height} * map.width > max_positions)
    return base::invalid_input("the probability map is " + std::to_string(map.height) + "x" +
                               std::to_string(map.width) +
                               ", expected sides of 1 to 65536 and at most 16777216 values");
  const auto check_share = [](const char* name, float value) -> base::Status {
    if (value > 0 && value < 1) return {};
    return base::invalid_input(std::string("`") + name + "` is " + std::to_string(value) +
                               ", expected between 0 and 1");
  };
  MM_RETURN_IF_ERROR(check_share("threshold", settings.threshold));
  MM_RETURN_IF_ERROR(check_share("box_threshold", settings.box_threshold));
  if (!(settings.unclip_ratio >= 0 && settings.unclip_ratio <= 10))
    return base::invalid_input("`unclip_ratio` is " + std::to_string(settings.unclip_ratio) + ", expected 0 to 10");
  if (settings.max_boxes < 1 || settings.max_boxes > 100000)
    return base::invalid_input("`max_boxes` is " + std::to_string(settings.max_boxes) + ", expected 1 to 100000");
  return {};
}

TextBoxes find(const ProbabilityMap& map, const TextBoxSettings& settings) {
  TextBoxes found;
  Regions regions(map, settings.threshold);
  const RowSums sums(map);
  const size_t most = static_cast<size_t>(settings.max_boxes);
  size_t cursor = 0;
  Outline outline;
  std::vector<Point> centers;
  while (regions.next(cursor, outline)) {
    if (is_tiny(outline)) continue;
    collect_centers(outline, centers);
    const Rectangle kernel = smallest_rectangle(convex_hull(centers));
    if (std::min(kernel.length, kernel.breadth) < min_side) continue;
    const float score = mean_inside(map, sums, corners_of(kernel));
    if (score < settings.box_threshold) continue;
    const Rectangle box = grown(kernel, unclip_margin(kernel, static_cast<double>(settings.unclip_ratio)));
    if (std::min(box.length, box.breadth) < min_grown_side) continue;
    found.boxes.push_back({corners_of(box), score});
    if (found.boxes.size() >= 2 * most) keep_likeliest(found, most);
  }
  keep_likeliest(found, most);
  return found;
}

}  // namespace

base::Result<TextBoxes> find_text_boxes(const ProbabilityMap& map, const TextBoxSettings& settings) {
  MM_RETURN_IF_ERROR(check(map, settings));
  try {
    return find(map, settings);
  } catch (const std::bad_alloc&) {
    return base::Status(
        base::StatusCode::out_of_memory,
        "no memory left to find text in a map of " + std::to_string(map.height) + "x" + std::to_string(map.width));
  }
}

}  // namespace mm::vision
