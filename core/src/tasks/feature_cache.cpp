// A list in order of use: looking through it compares 32 bytes an entry, next to nothing beside the hash of a picture.
#include "tasks/feature_cache.h"

#include "base/sha256.h"

namespace mm::tasks {

namespace {
size_t bytes_of(const PictureFeatures& features) {
  return sizeof(PictureFeatures) + features.values.size() * sizeof(float);
}
}  // namespace

PictureKey picture_key(const std::vector<uint8_t>& pixels) {
  base::Sha256 hash;
  hash.update(pixels.data(), pixels.size());
  return hash.finish();
}

const PictureFeatures* FeatureCache::find(const PictureKey& key) {
  if (is_enabled())
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry)
      if (entry->key == key) {
        entries_.splice(entries_.begin(), entries_, entry);
        ++statistics_.hits;
        return &entries_.front();
      }
  ++statistics_.misses;
  return nullptr;
}

const PictureFeatures& FeatureCache::add(PictureFeatures features) {
  entries_.push_front(std::move(features));
  size_t bytes = 0, kept = 0;
  for (const PictureFeatures& entry : entries_) {
    if (kept > 0 && (!is_enabled() || bytes_of(entry) > bytes_most_ || bytes > bytes_most_ - bytes_of(entry))) break;
    bytes += bytes_of(entry);
    ++kept;
  }
  entries_.resize(kept);
  statistics_.bytes = bytes;
  return entries_.front();
}

}  // namespace mm::tasks
