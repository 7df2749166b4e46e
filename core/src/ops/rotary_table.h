// Remembers the cosines and sines of the rotary embedding by position: every layer and later run turns by the same
// ones.
#pragma once

#include <cstddef>
#include <vector>

namespace mm::ops {

// One table of a base and a head size; positions are computed when they are first asked for.
class RotaryTable {
 public:
  RotaryTable(float theta, int head_dim) : theta_(theta), head_dim_(head_dim) {}

  bool is_for(float theta, int head_dim) const { return theta_ == theta && head_dim_ == head_dim; }
  // head_dim / 2 cosines, then as many sines, of position * theta^(-2 i / head_dim); valid until the next call.
  const float* row(int position);

 private:
  // 4096 positions of 64 are 1 MB; what lies beyond, or below 0, is computed anew each time.
  static constexpr int positions_most = 4096;

  void compute(int position, float* row) const;

  float theta_;
  int head_dim_;
  std::vector<float> rows_;
  std::vector<bool> is_known_;
  std::vector<float> other_;
};

}  // namespace mm::ops
