// Holds the plane geometry of text boxes: convex hulls, smallest rectangles, the order of corners.
#pragma once

#include <array>
#include <vector>

namespace mm::vision {

// x runs right, y down; pixel i covers [i, i + 1), its center lies at i + 0.5.
struct Point {
  double x = 0;
  double y = 0;
};

inline Point operator+(Point a, Point b) { return {a.x + b.x, a.y + b.y}; }
inline Point operator-(Point a, Point b) { return {a.x - b.x, a.y - b.y}; }
inline Point operator*(Point a, double s) { return {a.x * s, a.y * s}; }
inline double dot(Point a, Point b) { return a.x * b.x + a.y * b.y; }
inline double cross(Point a, Point b) { return a.x * b.y - a.y * b.x; }
double distance(Point a, Point b);

// Four corners, clockwise as seen on the screen. Of a text line: top left, top right, bottom right, bottom left, as it
// is read.
using Quad = std::array<Point, 4>;

// A rectangle that may stand at an angle: sides along `axis` (length 1) and across it.
struct Rectangle {
  Point center;
  Point axis = {1, 0};
  double length = 0;   // along the axis
  double breadth = 0;  // across it
};

// Corners of the hull, clockwise on the screen, none on a straight side. `points` are sorted by y, then by x.
// Monotone chain (Andrew 1979): linear in the number of points.
std::vector<Point> convex_hull(const std::vector<Point>& points);

// The rectangle of smallest area around a convex polygon (clockwise on the screen). One of its sides lies on a side of
// the polygon (Freeman and Shapira 1975), found with rotating calipers (Toussaint 1983): linear in the corners.
Rectangle smallest_rectangle(const std::vector<Point>& hull);

// The rectangle with every side moved out by `margin`.
Rectangle grown(const Rectangle& rectangle, double margin);

// Clockwise, beginning at the upper of the two leftmost corners.
Quad corners_of(const Rectangle& rectangle);

// Distance to move the sides of a rectangle so that it covers the text whose shrunk kernel it is: area * ratio /
// perimeter (Liao et al. 2019, arXiv:1911.08947, equation 10). A rectangle moved so stays one.
double unclip_margin(const Rectangle& rectangle, double ratio);

}  // namespace mm::vision
