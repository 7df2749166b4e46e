// Owns what changes while a model works: threads, caches, arena. One thread uses a session at a time.
#pragma once

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "program/interpreter.h"
#include "tasks/engine.h"
#include "tasks/feature_cache.h"
#include "vision/image_transform.h"

namespace mm::tasks {

class Session {
 public:
  // `threads` counts the calling thread; 0 takes as many as the process may use. With `is_caching`, tasks on one
  // picture share its encoding and what prepare() made of it.
  static base::Result<std::unique_ptr<Session>> create(std::shared_ptr<const Engine> engine, int threads,
                                                       bool is_caching = true);

  const Engine& engine() const { return *engine_; }
  program::Interpreter& interpreter() { return interpreter_; }
  int threads() const { return pool_->threads(); }
  base::ThreadPool& pool() { return *pool_; }

  // Scales the picture to the encoder's square and runs `encode_image`, unless its features are at hand. The result
  // stays valid until the next call.
  struct EncodeTimes {
    double resize_ms = 0;
    double encode_ms = 0;
  };
  base::Result<const PictureFeatures*> encode_image(const vision::PictureView& picture, EncodeTimes* times);

  // encode_image, and `encode_details` on the trunk where the file has that program: what questions look at is then
  // `details`, else `features` (see seen_by_questions).
  base::Result<const PictureFeatures*> encode_details(const vision::PictureView& picture, EncodeTimes* times);

  // Runs a program that turns features of the picture `key` into memories (`prefill`, `prepare_question`), unless they
  // hold this picture.
  base::Status prepare(std::string_view program, const PictureKey& key, const FeatureMap& features);

  // To be called when programs were run or states reset beside the tasks: memories may hold anything.
  void forget_preparations() { prepared_.clear(); }
  const FeatureCache::Statistics& cache_statistics() const { return features_.statistics(); }

 private:
  Session(std::shared_ptr<const Engine> engine, std::unique_ptr<base::ThreadPool> pool, bool is_caching);

  std::shared_ptr<const Engine> engine_;
  std::unique_ptr<base::ThreadPool> pool_;
  program::Interpreter interpreter_;
  std::vector<uint8_t> resized_;
  FeatureCache features_;
  std::vector<std::pair<const program::Program*, PictureKey>> prepared_;  // what memories hold which picture
};

// The features as a program takes them; programs only read.
tensor::TensorView view_of(const FeatureMap& features);

// What questions look at, of a picture from encode_details.
inline const FeatureMap& seen_by_questions(const PictureFeatures& picture) {
  return picture.details.values.empty() ? picture.features : picture.details;
}

}  // namespace mm::tasks
