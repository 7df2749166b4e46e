// Computes the angles of the rotary embedding (Su et al., 2021, arXiv 2104.09864) in double precision.
#include "ops/rotary_table.h"

#include <cmath>

namespace mm::ops {

void RotaryTable::compute(int position, float* row) const {
  const int half = head_dim_ / 2;
  for (int i = 0; i < half; ++i) {
    const double angle = position * std::pow(static_cast<double>(theta_), -2.0 * i / head_dim_);
    row[i] = static_cast<float>(std::cos(angle));
    row[half + i] = static_cast<float>(std::sin(angle));
  }
}

const float* RotaryTable::row(int position) {
  const size_t width = static_cast<size_t>(head_dim_), at = static_cast<size_t>(position);
  if (position < 0 || position >= positions_most) {
    other_.resize(width);
    compute(position, other_.data());
    return other_.data();
  }
  if (at >= is_known_.size()) {
    is_known_.resize(at + 1, false);
    rows_.resize((at + 1) * width);
  }
  float* row = rows_.data() + at * width;
  if (!is_known_[at]) compute(position, row);
  is_known_[at] = true;
  return row;
}

}  // namespace mm::ops
