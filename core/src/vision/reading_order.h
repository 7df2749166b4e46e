// Puts text lines into the order in which people read them.
#pragma once

#include <cstddef>
#include <vector>

#include "vision/geometry.h"

namespace mm::vision {

// Indices of the lines (finite corners, in reading direction) as read: columns of running text one after the other,
// rows from top to bottom, within a row from left to right. A page that stands at an angle is turned upright first.
// Tables and receipts, whose columns are narrow, and forms, labels beside values, are read row by row.
std::vector<size_t> reading_order(const std::vector<Quad>& lines);

}  // namespace mm::vision
