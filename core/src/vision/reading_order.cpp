// Cuts the page into bands of rows, follows gutters through bands, and sorts what lies between them.
#include "vision/reading_order.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace mm::vision {

namespace {

// What the page is taken apart by; lengths in heights of the median line of the block.
constexpr double gutter_width = 1.0;      // narrower gaps lie between words
constexpr double column_width = 6.0;      // a narrower column is a column of a table: prices, labels
constexpr size_t column_lines_least = 3;  // fewer lines do not show a column
constexpr int depth_most = 8;             // columns within columns
// Running text breaks off a word before the edge of its column; labels and values end anywhere. Half of the lines of a
// column of short paragraphs are full in this sense, of eight invoices' labels a third at most.
constexpr double full_line = 0.7;     // of the width of its column
constexpr double full_share = 0.5;    // of the rows of a column of running text
constexpr double level_share = 0.75;  // of the rows of the shorter columns of a form

// The upright box of a line after the page was turned.
struct Box {
  size_t index;
  double left, right, top, bottom;
  double height() const { return bottom - top; }
  double middle() const { return (top + bottom) / 2; }
};
using Boxes = std::vector<Box>;

struct Interval {
  double begin, end;
};

Point along(const Quad& line) { return line[1] - line[0] + line[2] - line[3]; }

// The mean direction of the text. Lines vote with their length for twice their angle, so that lines at right angles
// cancel out instead of pulling the page to a slant.
Point mean_direction(const std::vector<Quad>& lines) {
  Point doubled, total;
  for (const Quad& line : lines) {
    const Point vote = along(line);
    const double length = std::hypot(vote.x, vote.y);
    if (!(length > 0)) continue;
    doubled = doubled + Point{vote.x * vote.x - vote.y * vote.y, 2 * vote.x * vote.y} * (1 / length);
    total = total + vote;
  }
  if (doubled.x == 0 && doubled.y == 0) return {1, 0};
  const double angle = std::atan2(doubled.y, doubled.x) / 2;
  const Point axis = {std::cos(angle), std::sin(angle)};
  return dot(axis, total) < 0 ? axis * -1 : axis;
}

// The direction of most of the text: of the lines within 45 degrees of the mean, the median by length. A slanted stamp
// would pull the mean, and a degree is half a line at the other end of a row.
Point page_direction(const std::vector<Quad>& lines) {
  const Point mean = mean_direction(lines);
  std::vector<std::pair<double, double>> votes;  // slope to the mean, length
  double total = 0;
  for (const Quad& line : lines) {
    const double forward = std::abs(dot(along(line), mean)), aside = cross(mean, along(line));
    if (!(forward > std::abs(aside))) continue;
    votes.emplace_back(dot(along(line), mean) < 0 ? -aside / forward : aside / forward, forward);
    total += forward;
  }
  std::sort(votes.begin(), votes.end());
  double passed = 0;
  for (const auto& [slope, length] : votes) {
    passed += length;
    if (passed < total / 2) continue;
    const Point axis = mean + Point{-mean.y, mean.x} * slope;
    return axis * (1 / std::hypot(axis.x, axis.y));
  }
  return mean;
}

Boxes upright(const std::vector<Quad>& lines) {
  const Point axis = page_direction(lines), down = {-axis.y, axis.x};
  Boxes boxes;
  for (size_t i = 0; i < lines.size(); ++i) {
    Box box = {i, 1e300, -1e300, 1e300, -1e300};
    for (const Point& corner : lines[i]) {
      box.left = std::min(box.left, dot(corner, axis));
      box.right = std::max(box.right, dot(corner, axis));
      box.top = std::min(box.top, dot(corner, down));
      box.bottom = std::max(box.bottom, dot(corner, down));
    }
    boxes.push_back(box);
  }
  return boxes;
}

double median_height(const Boxes& boxes) {
  std::vector<double> heights;
  for (const Box& box : boxes) heights.push_back(box.height());
  std::nth_element(heights.begin(), heights.begin() + static_cast<long>(heights.size() / 2), heights.end());
  return heights[heights.size() / 2];
}

// Lines that overlap vertically, neighbours of neighbours included. Boxes grew around their text, so only the middle
// half of each counts.
std::vector<Boxes> bands_of(Boxes boxes) {
  const auto core_top = [](const Box& box) { return box.middle() - box.height() / 4; };
  std::sort(boxes.begin(), boxes.end(), [&](const Box& a, const Box& b) {
    return core_top(a) != core_top(b) ? core_top(a) < core_top(b) : a.index < b.index;
  });
  std::vector<Boxes> bands;
  double bottom = -1e300;
  for (const Box& box : boxes) {
    if (bands.empty() || core_top(box) >= bottom) bands.emplace_back();
    bands.back().push_back(box);
    bottom = std::max(bottom, box.middle() + box.height() / 4);
  }
  return bands;
}

// Where no line of the band stands, from left to right; the outermost reach to infinity.
std::vector<Interval> gaps_of(const Boxes& band) {
  Boxes boxes = band;
  std::sort(boxes.begin(), boxes.end(), [](const Box& a, const Box& b) { return a.left < b.left; });
  std::vector<Interval> gaps;
  double end = -1e300;
  for (const Box& box : boxes) {
    if (box.left > end) gaps.push_back({end, box.left});
    end = std::max(end, box.right);
  }
  gaps.push_back({end, 1e300});
  return gaps;
}

std::vector<Interval> intersection(const std::vector<Interval>& a, const std::vector<Interval>& b) {
  std::vector<Interval> both;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const Interval common = {std::max(a[i].begin, b[j].begin), std::min(a[i].end, b[j].end)};
    if (common.begin < common.end) both.push_back(common);
    if (a[i].end < b[j].end)
      ++i;
    else
      ++j;
  }
  return both;
}

bool has_gutter(const std::vector<Interval>& gaps, double width) {
  for (const Interval& gap : gaps)
    if (gap.begin > -1e300 && gap.end < 1e300 && gap.end - gap.begin >= width) return true;
  return false;
}

Interval extent_of(const Boxes& boxes) {
  Interval extent = {1e300, -1e300};
  for (const Box& box : boxes) extent = {std::min(extent.begin, box.left), std::max(extent.end, box.right)};
  return extent;
}

// Whether most rows of a column end near its right edge.
bool is_wrapped(const Boxes& column) {
  const Interval whole = extent_of(column);
  const std::vector<Boxes> rows = bands_of(column);
  size_t full = 0;
  for (const Boxes& row : rows) {
    const Interval extent = extent_of(row);
    full += extent.end - extent.begin >= full_line * (whole.end - whole.begin);
  }
  return static_cast<double>(full) >= full_share * static_cast<double>(rows.size());
}

// Whether most lines of `column` have a line of `other` at their height.
bool is_level(const Boxes& column, const Boxes& other) {
  size_t level = 0;
  for (const Box& box : column)
    level += std::any_of(other.begin(), other.end(), [&](const Box& beside) {
      return std::abs(beside.middle() - box.middle()) <= 0.5 * std::min(beside.height(), box.height());
    });
  return static_cast<double>(level) >= level_share * static_cast<double>(column.size());
}

// Labels beside their values: level rows, and at least one column that is no running text.
bool is_form(const std::vector<Boxes>& columns) {
  const auto shortest = std::min_element(columns.begin(), columns.end(),
                                         [](const Boxes& a, const Boxes& b) { return a.size() < b.size(); });
  return std::all_of(columns.begin(), columns.end(), [&](const Boxes& other) { return is_level(*shortest, other); }) &&
         !std::all_of(columns.begin(), columns.end(), is_wrapped);
}

// The lines between the gutters, or nothing when these are no columns of running text.
std::vector<Boxes> columns_between(const Boxes& boxes, const std::vector<Interval>& gaps, double unit) {
  std::vector<double> cuts;
  for (const Interval& gap : gaps)
    if (gap.begin > -1e300 && gap.end < 1e300 && gap.end - gap.begin >= gutter_width * unit)
      cuts.push_back((gap.begin + gap.end) / 2);
  std::vector<Boxes> columns(cuts.size() + 1);
  for (const Box& box : boxes)
    columns[static_cast<size_t>(std::upper_bound(cuts.begin(), cuts.end(), box.left) - cuts.begin())].push_back(box);
  for (const Boxes& column : columns) {
    const Interval extent = extent_of(column);
    if (bands_of(column).size() < column_lines_least || extent.end - extent.begin < column_width * unit) return {};
  }
  if (is_form(columns)) return {};
  return columns;
}

// Rows from top to bottom: a line joins a row when its middle is within half the smaller height of the row's first.
void append_rows(Boxes boxes, std::vector<size_t>& order) {
  std::sort(boxes.begin(), boxes.end(), [](const Box& a, const Box& b) {
    return a.middle() != b.middle() ? a.middle() < b.middle() : a.left < b.left;
  });
  for (size_t begin = 0; begin < boxes.size();) {
    size_t end = begin + 1;
    while (end < boxes.size() &&
           boxes[end].middle() - boxes[begin].middle() <= 0.5 * std::min(boxes[begin].height(), boxes[end].height()))
      ++end;
    std::sort(boxes.begin() + static_cast<long>(begin), boxes.begin() + static_cast<long>(end),
              [](const Box& a, const Box& b) { return a.left != b.left ? a.left < b.left : a.index < b.index; });
    for (size_t i = begin; i < end; ++i) order.push_back(boxes[i].index);
    begin = end;
  }
}

void append_block(const Boxes& block, int depth, std::vector<size_t>& order) {
  const double unit = median_height(block);
  const std::vector<Boxes> bands = bands_of(block);
  for (size_t begin = 0; begin < bands.size();) {
    // As many bands as one gutter runs through.
    std::vector<Interval> gaps = gaps_of(bands[begin]);
    Boxes run = bands[begin];
    size_t end = begin + 1;
    for (; end < bands.size() && has_gutter(gaps, gutter_width * unit); ++end) {
      std::vector<Interval> narrowed = intersection(gaps, gaps_of(bands[end]));
      if (!has_gutter(narrowed, gutter_width * unit)) break;
      gaps = std::move(narrowed);
      run.insert(run.end(), bands[end].begin(), bands[end].end());
    }
    const std::vector<Boxes> columns = depth < depth_most && has_gutter(gaps, gutter_width * unit)
                                           ? columns_between(run, gaps, unit)
                                           : std::vector<Boxes>();
    for (const Boxes& column : columns) append_block(column, depth + 1, order);
    if (columns.empty())
      for (size_t band = begin; band < end; ++band) append_rows(bands[band], order);
    begin = end;
  }
}

}  // namespace

std::vector<size_t> reading_order(const std::vector<Quad>& lines) {
  std::vector<size_t> order;
  if (!lines.empty()) append_block(upright(lines), 0, order);
  return order;
}

}  // namespace mm::vision
