// Lays out pages whose order is known, upright and turned, and shuffles their lines.
#include "vision/reading_order.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "check.h"

namespace {

using mm::vision::Point;
using mm::vision::Quad;

Quad line(double x, double y, double width, double height = 20) {
  return {Point{x, y}, Point{x + width, y}, Point{x + width, y + height}, Point{x, y + height}};
}

std::vector<Quad> turned(std::vector<Quad> lines, double degrees) {
  const double angle = degrees * 3.14159265358979323846 / 180, c = std::cos(angle), s = std::sin(angle);
  for (Quad& quad : lines)
    for (Point& p : quad) p = {500 + c * p.x - s * p.y, 500 + s * p.x + c * p.y};
  return lines;
}

// `lines` are given in the order in which they are read; shuffled, they must come back so.
void check_order(const std::vector<Quad>& lines, const std::vector<double>& angles) {
  std::mt19937 generator(5);
  for (const double degrees : angles) {
    const std::vector<Quad> page = turned(lines, degrees);
    for (int run = 0; run < 10; ++run) {
      std::vector<size_t> place(page.size());
      for (size_t i = 0; i < place.size(); ++i) place[i] = i;
      std::shuffle(place.begin(), place.end(), generator);
      std::vector<Quad> shuffled;
      for (const size_t i : place) shuffled.push_back(page[i]);
      const std::vector<size_t> order = mm::vision::reading_order(shuffled);
      if (!MM_CHECK(order.size() == page.size())) return;
      for (size_t i = 0; i < order.size(); ++i) MM_CHECK(place[order[i]] == i);
    }
  }
}

const std::vector<double> angles = {0, -12, 3, 30, 44, 60, 90, -90, 180};

void test_rows() {
  std::vector<Quad> page;
  for (int row = 0; row < 6; ++row)
    for (int word = 0; word < 4; ++word)
      page.push_back(line(10 + word * 90, 10 + row * 24 + word % 2 * 3, 85));  // words of a row stand a little askew
  check_order(page, angles);
  check_order({line(0, 0, 50)}, angles);
  check_order({}, {0});
  // Boxes grew around their text: rows overlap by a quarter of their height.
  page.clear();
  for (int row = 0; row < 8; ++row) page.push_back(line(10, row * 15, 400 - row % 3 * 50));
  check_order(page, angles);
}

void test_columns() {
  std::vector<Quad> page = {line(100, 0, 500, 40)};  // a heading over both
  for (int row = 0; row < 12; ++row) page.push_back(line(0, 60 + row * 24, row % 5 == 4 ? 200 : 330));
  for (int row = 0; row < 10; ++row)
    page.push_back(line(370, 67 + row * 27, 330));  // rows that are not level with them
  page.push_back(line(0, 400, 700));                // a footer under both
  check_order(page, {0, 3, -12});
  page.clear();
  for (int column = 0; column < 3; ++column)
    for (int row = 0; row < 9; ++row) page.push_back(line(column * 260, row * 24, 230));
  check_order(page, angles);
}

void test_a_stamp_does_not_turn_the_page() {
  std::vector<Quad> page;
  for (int row = 0; row < 10; ++row)
    for (const double x : {0.0, 320.0, 1500.0}) page.push_back(line(x, row * 24, x > 1000 ? 60 : 300));
  const std::vector<Quad> stamp = turned({line(-400, -200, 700)}, 20);  // below everything
  page.push_back(stamp[0]);
  check_order(page, angles);
}

void test_tables_are_read_by_rows() {
  std::vector<Quad> page;
  for (int row = 0; row < 12; ++row) {
    page.push_back(line(0, row * 24, 120 + row % 4 * 40));
    page.push_back(line(400, row * 24 + 2, 60));  // prices: three heights wide
  }
  check_order(page, {0, 3, -12});
  check_order({line(0, 0, 200), line(400, 0, 200), line(0, 30, 200), line(400, 30, 200)},
              angles);  // two rows: no columns
}

void test_forms_are_read_by_rows() {
  // Labels of 30 to 220 and values that end at the right edge: wide enough for columns of running text.
  const std::vector<double> labels = {70, 40, 220, 60, 90, 75, 80, 45}, values = {180, 95, 130, 60, 110, 180, 70, 150};
  std::vector<Quad> page = {line(0, 0, 200, 40)};
  for (size_t row = 0; row < labels.size(); ++row) {
    const double y = 80 + 36 * static_cast<double>(row);
    page.push_back(line(0, y, labels[row]));
    page.push_back(line(600 - values[row], y + 2, values[row]));  // boxes are seldom quite level
  }
  check_order(page, {0, 3, -12});
  // Two columns of short paragraphs stay columns, though all their rows are level.
  page.clear();
  for (const double x : {0.0, 370.0})
    for (int row = 0; row < 9; ++row) page.push_back(line(x, row * 24, row % 3 == 2 ? 120 : 300 + row % 2 * 30));
  check_order(page, angles);
}

}  // namespace

int main() {
  test_rows();
  test_columns();
  test_a_stamp_does_not_turn_the_page();
  test_tables_are_read_by_rows();
  test_forms_are_read_by_rows();
  return mm::test::finish("reading_order");
}
