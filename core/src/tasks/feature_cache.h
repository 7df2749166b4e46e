// Keeps the encoder's features of the last pictures, found again by what the encoder saw.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <vector>

#include "tensor/tensor.h"

namespace mm::tasks {

// SHA-256 of the pixels that the encoder takes: equal ones have equal features.
using PictureKey = std::array<uint8_t, 32>;
PictureKey picture_key(const std::vector<uint8_t>& pixels);

struct PictureFeatures {
  PictureKey key = {};
  tensor::Shape shape;
  std::vector<float> values;
};

// Least recently used go first. The newest is always kept, whatever its size: the call under way reads it.
class FeatureCache {
 public:
  static constexpr size_t bytes_default = size_t{1} << 20;  // 4 of EfficientNet-Lite0's 49 x 1280 floats

  // Counted by the thread that uses the session, read by any.
  struct Statistics {
    std::atomic<uint64_t> hits{0}, misses{0}, bytes{0};
  };

  explicit FeatureCache(size_t bytes_most) : bytes_most_(bytes_most) {}  // 0: nothing is found again

  bool is_enabled() const { return bytes_most_ > 0; }
  // nullptr: not there, or not enabled. Valid until the next add.
  const PictureFeatures* find(const PictureKey& key);
  const PictureFeatures& add(PictureFeatures features);
  const Statistics& statistics() const { return statistics_; }

 private:
  size_t bytes_most_;
  std::list<PictureFeatures> entries_;  // last used first
  Statistics statistics_;
};

}  // namespace mm::tasks
