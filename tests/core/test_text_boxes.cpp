// Holds hulls, smallest rectangles and text boxes to slow twins: half-planes, an angle sweep, flood fill, a count of
// positions.
#include "vision/text_boxes.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "vision/geometry.h"

namespace {

using mm::base::StatusCode;
using mm::vision::Point;
using mm::vision::Quad;
using mm::vision::Rectangle;

constexpr double pi = 3.14159265358979323846;

std::vector<Point> sorted(std::vector<Point> points) {
  std::sort(points.begin(), points.end(), [](Point a, Point b) { return a.y != b.y ? a.y < b.y : a.x < b.x; });
  return points;
}

double area_of(const std::vector<Point>& polygon) {
  double twice = 0;
  for (size_t i = 0; i < polygon.size(); ++i) twice += cross(polygon[i], polygon[(i + 1) % polygon.size()]);
  return twice / 2;
}

double area_of(const Quad& quad) { return area_of(std::vector<Point>(quad.begin(), quad.end())); }

// The smallest area of a rectangle around the points, over `steps` angles.
double sweep_area(const std::vector<Point>& points, int steps) {
  double best = std::numeric_limits<double>::max();
  for (int i = 0; i < steps; ++i) {
    const double angle = pi / 2 * i / steps;
    const Point axis = {std::cos(angle), std::sin(angle)}, down = {-axis.y, axis.x};
    double low[2] = {1e300, 1e300}, high[2] = {-1e300, -1e300};
    for (const Point& point : points) {
      const double reach[2] = {dot(point, axis), dot(point, down)};
      for (int d = 0; d < 2; ++d) {
        low[d] = std::min(low[d], reach[d]);
        high[d] = std::max(high[d], reach[d]);
      }
    }
    best = std::min(best, (high[0] - low[0]) * (high[1] - low[1]));
  }
  return best;
}

bool holds(const Rectangle& rectangle, Point point) {
  const Point offset = point - rectangle.center;
  return std::abs(dot(offset, rectangle.axis)) <= rectangle.length / 2 + 1e-9 &&
         std::abs(cross(rectangle.axis, offset)) <= rectangle.breadth / 2 + 1e-9;
}

void check_hull(const std::vector<Point>& points) {
  const std::vector<Point> hull = mm::vision::convex_hull(sorted(points));
  if (hull.size() < 3) return;
  for (size_t i = 0; i < hull.size(); ++i) {
    const Point a = hull[i], b = hull[(i + 1) % hull.size()], c = hull[(i + 2) % hull.size()];
    MM_CHECK(cross(b - a, c - b) > 0);                                     // turns clockwise, never straight
    for (const Point& p : points) MM_CHECK(cross(b - a, p - a) >= -1e-9);  // every point is inside
  }
}

void test_hull_and_rectangle() {
  std::mt19937 generator(7);
  for (int run = 0; run < 300; ++run) {
    const int side = run % 3 == 0 ? 4 : run % 3 == 1 ? 40 : 1000;
    std::uniform_int_distribution<int> coordinate(0, side);
    std::vector<Point> points(3 + static_cast<size_t>(run % 60));
    for (Point& point : points)
      point = {static_cast<double>(coordinate(generator)), static_cast<double>(coordinate(generator))};
    check_hull(points);
    const std::vector<Point> hull = mm::vision::convex_hull(sorted(points));
    const Rectangle rectangle = mm::vision::smallest_rectangle(hull);
    for (const Point& point : points) MM_CHECK(holds(rectangle, point));
    const double area = rectangle.length * rectangle.breadth, swept = sweep_area(points, 3600);
    // The sweep misses the best angle by pi / 14400 at most; a side as long as the diagonal then gains that share of
    // it.
    const double diagonal = side * std::sqrt(2.0);
    MM_CHECK(area <= swept + 1e-6);
    MM_CHECK(swept - area <= 2 * diagonal * diagonal * pi / 7200 + 1e-6);
    MM_CHECK(area + 1e-9 >= area_of(hull));
  }
  MM_CHECK(mm::vision::convex_hull({}).empty());
  MM_CHECK(mm::vision::smallest_rectangle({}).length == 0);
  MM_CHECK(mm::vision::smallest_rectangle({{3, 4}}).breadth == 0);
  const Rectangle segment = mm::vision::smallest_rectangle({{0, 0}, {3, 4}});
  // Not exactly 0 where the compiler fuses multiply and add.
  MM_CHECK(std::abs(std::max(segment.length, segment.breadth) - 5) < 1e-9 &&
           std::min(segment.length, segment.breadth) < 1e-9);
}

void test_corners_and_growth() {
  for (int degree = -44; degree <= 44; degree += 4) {
    const double angle = degree * pi / 180;
    const Rectangle rectangle = {{50, 40}, {std::cos(angle), std::sin(angle)}, 60, 10};
    const Quad quad = corners_of(rectangle);
    MM_CHECK(std::abs(area_of(quad) - 600) < 1e-9);  // positive: clockwise
    MM_CHECK(distance(quad[0], quad[1]) > 59);       // the upper side first, whatever the slant
    MM_CHECK(quad[0].x < quad[1].x && quad[0].y < quad[3].y);
    // Equation 10: area * ratio / perimeter.
    const double margin = unclip_margin(rectangle, 1.5);
    MM_CHECK(std::abs(margin - 600 * 1.5 / 140) < 1e-12);
    MM_CHECK(std::abs(area_of(corners_of(grown(rectangle, margin))) - (60 + 2 * margin) * (10 + 2 * margin)) < 1e-9);
  }
  MM_CHECK(mm::vision::unclip_margin({}, 2) == 0);
}

struct Map {
  int height, width;
  std::vector<float> values;
  Map(int h, int w, float value = 0.0f)
      : height(h), width(w), values(static_cast<size_t>(h) * static_cast<size_t>(w), value) {}
  float& at(int y, int x) {
    return values[static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)];
  }
  mm::vision::ProbabilityMap view() const { return {values.data(), height, width}; }
};

mm::vision::TextBoxes find(const Map& map, const mm::vision::TextBoxSettings& settings = {}) {
  auto found = mm::vision::find_text_boxes(map.view(), settings);
  return MM_CHECK(found.is_ok()) ? found.value() : mm::vision::TextBoxes();
}

void test_one_box() {
  Map map(64, 128);
  for (int y = 20; y < 30; ++y)
    for (int x = 10; x < 90; ++x) map.at(y, x) = 0.8f;
  const mm::vision::TextBoxes found = find(map);
  if (!MM_CHECK(found.boxes.size() == 1)) return;
  // Centers span 79 x 9; all four sides move out by 79 * 9 * 1.4 / 176.
  const double margin = 79 * 9 * static_cast<double>(1.4f) / 176;
  const Quad& quad = found.boxes[0].quad;
  MM_CHECK(std::abs(quad[0].x - (10.5 - margin)) < 1e-9 && std::abs(quad[0].y - (20.5 - margin)) < 1e-9);
  MM_CHECK(std::abs(quad[2].x - (89.5 + margin)) < 1e-9 && std::abs(quad[2].y - (29.5 + margin)) < 1e-9);
  MM_CHECK(std::abs(found.boxes[0].score - 0.8f) < 1e-4f);  // 16 bits a value
}

// Regions by recursion over positions, as a queue: the slow twin.
std::vector<std::vector<Point>> flood_regions(Map map, float threshold) {
  std::vector<std::vector<Point>> regions;
  for (int y = 0; y < map.height; ++y)
    for (int x = 0; x < map.width; ++x) {
      if (!(map.at(y, x) > threshold)) continue;
      regions.emplace_back();
      std::vector<std::pair<int, int>> queue = {{y, x}};
      map.at(y, x) = 0;
      while (!queue.empty()) {
        const auto [row, column] = queue.back();
        queue.pop_back();
        regions.back().push_back({column + 0.5, row + 0.5});
        for (int r = std::max(0, row - 1); r <= std::min(map.height - 1, row + 1); ++r)
          for (int c = std::max(0, column - 1); c <= std::min(map.width - 1, column + 1); ++c)
            if (map.at(r, c) > threshold) {
              map.at(r, c) = 0;
              queue.push_back({r, c});
            }
      }
    }
  return regions;
}

// Mean over all positions whose centers are in the rectangle, one by one; 1e-5 of slack for centers on its sides.
double mean_inside(Map& map, const Rectangle& rectangle) {
  Rectangle wider = grown(rectangle, 1e-5);
  double sum = 0, count = 0;
  for (int y = 0; y < map.height; ++y)
    for (int x = 0; x < map.width; ++x)
      if (holds(wider, {x + 0.5, y + 0.5})) {
        sum += static_cast<double>(map.at(y, x));
        count += 1;
      }
  return sum / count;
}

void test_regions_against_flood_fill() {
  std::mt19937 generator(11);
  std::uniform_real_distribution<float> uniform(0.0f, 1.0f);
  for (int run = 0; run < 60; ++run) {
    Map map(24 + run, 90 - run);
    // Rectangles at angles over weak noise; touching ones melt together.
    for (float& value : map.values) value = uniform(generator) * 0.19f;
    for (int i = 0; i < 5; ++i) {
      const double angle = static_cast<double>(uniform(generator)) * pi;
      const Rectangle rectangle = {
          {static_cast<double>(uniform(generator)) * map.width, static_cast<double>(uniform(generator)) * map.height},
          {std::cos(angle), std::sin(angle)},
          30,
          6};
      for (int y = 0; y < map.height; ++y)
        for (int x = 0; x < map.width; ++x)
          if (holds(rectangle, {x + 0.5, y + 0.5})) map.at(y, x) = 0.5f + 0.5f * uniform(generator);
    }
    mm::vision::TextBoxSettings settings;
    settings.box_threshold = 0.01f;
    std::vector<Rectangle> expected;
    for (const std::vector<Point>& region : flood_regions(map, settings.threshold)) {
      const Rectangle kernel = mm::vision::smallest_rectangle(mm::vision::convex_hull(sorted(region)));
      const double margin = unclip_margin(kernel, static_cast<double>(settings.unclip_ratio));
      if (std::min(kernel.length, kernel.breadth) >= 3 && std::min(kernel.length, kernel.breadth) + 2 * margin >= 5)
        expected.push_back(kernel);
    }
    const mm::vision::TextBoxes found = find(map, settings);
    if (!MM_CHECK(found.boxes.size() == expected.size())) continue;
    for (size_t i = 0; i < expected.size(); ++i) {
      const double margin = unclip_margin(expected[i], static_cast<double>(settings.unclip_ratio));
      MM_CHECK(std::abs(area_of(found.boxes[i].quad) - area_of(corners_of(grown(expected[i], margin)))) < 1e-6);
      MM_CHECK(std::abs(mean_inside(map, expected[i]) - static_cast<double>(found.boxes[i].score)) < 1e-4);
    }
  }
}

void test_limits() {
  Map map(100, 100);
  for (int y = 0; y + 5 <= 100; y += 10)
    for (int x = 0; x + 5 <= 100; x += 10)
      for (int i = 0; i < 25; ++i) map.at(y + i / 5, x + i % 5) = x == 50 ? 0.9f : 0.7f;
  MM_CHECK(find(map).boxes.size() == 100);
  mm::vision::TextBoxSettings settings;
  settings.max_boxes = 10;
  const mm::vision::TextBoxes found = find(map, settings);
  MM_CHECK(found.boxes.size() == 10 && found.dropped == 90);
  for (size_t i = 0; i < found.boxes.size(); ++i) {
    MM_CHECK(found.boxes[i].score > 0.85f);  // the likeliest column
    MM_CHECK(i == 0 || found.boxes[i].quad[0].y > found.boxes[i - 1].quad[0].y);
  }
  const auto code = [&](const mm::vision::ProbabilityMap& view, const mm::vision::TextBoxSettings& wrong) {
    return mm::vision::find_text_boxes(view, wrong).status().code();
  };
  MM_CHECK(code({nullptr, 4, 4}, {}) == StatusCode::invalid_input);
  MM_CHECK(code({map.values.data(), 0, 4}, {}) == StatusCode::invalid_input);
  MM_CHECK(code({map.values.data(), 4, 65537}, {}) == StatusCode::invalid_input);
  MM_CHECK(code({map.values.data(), 4097, 4096}, {}) == StatusCode::invalid_input);
  for (const float wrong : {0.0f, 1.0f, -1.0f, std::numeric_limits<float>::quiet_NaN()}) {
    settings = {};
    settings.threshold = wrong;
    MM_CHECK(code(map.view(), settings) == StatusCode::invalid_input);
    settings = {};
    settings.box_threshold = wrong;
    MM_CHECK(code(map.view(), settings) == StatusCode::invalid_input);
  }
  settings = {};
  settings.unclip_ratio = std::numeric_limits<float>::infinity();
  MM_CHECK(code(map.view(), settings) == StatusCode::invalid_input);
  settings = {};
  settings.max_boxes = 0;
  MM_CHECK(code(map.view(), settings) == StatusCode::invalid_input);
}

}  // namespace

int main() {
  test_hull_and_rectangle();
  test_corners_and_growth();
  test_one_box();
  test_regions_against_flood_fill();
  test_limits();
  return mm::test::finish("text_boxes");
}
