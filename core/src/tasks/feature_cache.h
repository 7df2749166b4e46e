// Keeps the encoder's features of the last pictures, found again by what the encoder saw.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <vector>

#include "tensor/tensor.h"

namespace mm::tasks {

// SHA-256 of the pixels that the encoder takes: equal ones have equal features.
using PictureKey = std::array<uint8_t, 32>;
PictureKey picture_key(const std::vector<uint8_t>& pixels);

struct FeatureMap {
  tensor::Shape shape;
  std::vector<float> values;
};

// What is known of a picture. `features` are for captions and retrieval, `details` for questions: they come from
// `trunk`, what both branches of the encoder share, and are empty until they are asked for.
struct PictureFeatures {
  PictureKey key = {};
  FeatureMap features, trunk, details;
};

// Least recently used go first. The newest is always kept, whatever its size: the call under way reads it.
class FeatureCache {
 public:
  static constexpr size_t entries_most = 4;
  static constexpr size_t bytes_most = size_t{16} << 20;  // 4 of EfficientNet-Lite0's 49 x 1280 floats are 1 MB

  struct Statistics {
    uint64_t hits = 0, misses = 0;
  };

  explicit FeatureCache(bool is_enabled) : is_enabled_(is_enabled) {}

  bool is_enabled() const { return is_enabled_; }
  // nullptr: not there, or not enabled. Valid until the next add.
  const PictureFeatures* find(const PictureKey& key);
  const PictureFeatures& add(PictureFeatures features);
  // To the entry that find or add gave last; its trunk has done its service.
  const PictureFeatures& add_details(FeatureMap details);
  const Statistics& statistics() const { return statistics_; }

 private:
  void drop_oldest();

  bool is_enabled_;
  std::list<PictureFeatures> entries_;  // last used first
  Statistics statistics_;
};

}  // namespace mm::tasks
