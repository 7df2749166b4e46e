// Computes hulls and smallest rectangles in one pass each.
#include "vision/geometry.h"

#include <algorithm>
#include <cmath>

namespace mm::vision {

double distance(Point a, Point b) { return std::hypot(a.x - b.x, a.y - b.y); }

namespace {

// Adds a corner to a chain that turns one way, dropping those that it makes superfluous.
void push_turning(std::vector<Point>& chain, size_t begin, Point point) {
  while (chain.size() >= begin + 2 && cross(chain.back() - chain[chain.size() - 2], point - chain.back()) <= 0)
    chain.pop_back();
  chain.push_back(point);
}

// The corner farthest along `direction`, searched onwards from `from`: on a convex polygon the reach only rises, then
// falls.
size_t farthest(const std::vector<Point>& hull, size_t from, Point direction) {
  size_t best = from;
  for (size_t steps = 0; steps < hull.size(); ++steps) {
    const size_t next = (best + 1) % hull.size();
    if (dot(hull[next] - hull[best], direction) <= 0) break;
    best = next;
  }
  return best;
}

}  // namespace

std::vector<Point> convex_hull(const std::vector<Point>& points) {
  std::vector<Point> hull;
  if (points.size() < 3) {
    hull = points;
    if (hull.size() == 2 && distance(hull[0], hull[1]) == 0) hull.pop_back();
    return hull;
  }
  for (const Point& point : points) push_turning(hull, 0, point);
  const size_t turn = hull.size() - 1;
  for (size_t i = points.size() - 1; i-- > 0;) push_turning(hull, turn, points[i]);
  if (hull.size() > 1) hull.pop_back();  // the first corner again
  return hull;
}

Rectangle smallest_rectangle(const std::vector<Point>& hull) {
  Rectangle best;
  if (hull.empty()) return best;
  best.center = hull[0];
  if (hull.size() == 1) return best;
  double best_area = -1;
  size_t right = 0, far = 0, left = 0;
  for (size_t i = 0; i < hull.size(); ++i) {
    const Point side = hull[(i + 1) % hull.size()] - hull[i];
    const double length = std::hypot(side.x, side.y);
    if (length == 0) continue;
    const Point axis = side * (1 / length), inward = {-axis.y, axis.x};  // clockwise: the inside lies to the right
    // Each caliper starts where the one before it stands: all three go around once in all.
    right = farthest(hull, best_area < 0 ? i : right, axis);
    far = farthest(hull, best_area < 0 ? right : far, inward);
    left = farthest(hull, best_area < 0 ? far : left, axis * -1);
    const double low = dot(hull[left] - hull[i], axis), high = dot(hull[right] - hull[i], axis);
    const double depth = dot(hull[far] - hull[i], inward);
    if (best_area >= 0 && (high - low) * depth >= best_area) continue;
    best_area = (high - low) * depth;
    best = {hull[i] + axis * ((low + high) / 2) + inward * (depth / 2), axis, high - low, depth};
  }
  return best;
}

Rectangle grown(const Rectangle& rectangle, double margin) {
  return {rectangle.center, rectangle.axis, rectangle.length + 2 * margin, rectangle.breadth + 2 * margin};
}

Quad corners_of(const Rectangle& rectangle) {
  const Point along = rectangle.axis * (rectangle.length / 2);
  const Point across = Point{-rectangle.axis.y, rectangle.axis.x} * (rectangle.breadth / 2);
  Quad quad = {rectangle.center - along - across, rectangle.center + along - across, rectangle.center + along + across,
               rectangle.center - along + across};
  size_t first = 0, second = 1;  // the two leftmost
  for (size_t i = 1; i < 4; ++i) {
    if (quad[i].x < quad[first].x) {
      second = first;
      first = i;
    } else if (i == 1 || quad[i].x < quad[second].x) {
      second = i;
    }
  }
  std::rotate(quad.begin(), quad.begin() + static_cast<long>(quad[first].y <= quad[second].y ? first : second),
              quad.end());
  return quad;
}

double unclip_margin(const Rectangle& rectangle, double ratio) {
  const double perimeter = 2 * (rectangle.length + rectangle.breadth);
  return perimeter > 0 ? rectangle.length * rectangle.breadth * ratio / perimeter : 0;
}

}  // namespace mm::vision
