// A list in order of use: with four entries, looking through it costs less than any table.
#include "tasks/feature_cache.h"

#include "base/sha256.h"

namespace mm::tasks {

PictureKey picture_key(const std::vector<uint8_t>& pixels) {
  base::Sha256 hash;
  hash.update(pixels.data(), pixels.size());
  return hash.finish();
}

const PictureFeatures* FeatureCache::find(const PictureKey& key) {
  if (is_enabled_)
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
  drop_oldest();
  return entries_.front();
}

const PictureFeatures& FeatureCache::add_details(FeatureMap details) {
  entries_.front().details = std::move(details);
  entries_.front().trunk = {};
  drop_oldest();
  return entries_.front();
}

void FeatureCache::drop_oldest() {
  size_t kept = 0, bytes = 0;
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    for (const FeatureMap* map : {&entry->features, &entry->trunk, &entry->details})
      bytes += map->values.size() * sizeof(float);
    const bool fits = kept == 0 || (is_enabled_ && kept < entries_most && bytes <= bytes_most);
    ++kept;
    entry = fits ? std::next(entry) : entries_.erase(entry);
  }
}

}  // namespace mm::tasks
