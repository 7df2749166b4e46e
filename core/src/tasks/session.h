// Owns what changes while a model works: threads, caches, arena. One thread uses a session at a time.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "program/interpreter.h"
#include "tasks/cancellation.h"
#include "tasks/engine.h"
#include "tasks/feature_cache.h"
#include "vision/image_transform.h"

namespace mm::tasks {

class Session {
 public:
  static constexpr int places_most = 16;  // pictures whose memories are held at once

  // `threads` counts the calling thread; 0 takes as many as the process may use. Tasks on one picture share its
  // encoding, kept in `feature_cache_bytes`, and what prepare() made of it; with 0 bytes every task starts anew.
  static base::Result<std::unique_ptr<Session>> create(std::shared_ptr<const Engine> engine, int threads,
                                                       size_t feature_cache_bytes = FeatureCache::bytes_default);

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

  // Runs a program that turns `features` into memories (`prefill`, `prepare_question`), unless they hold this picture
  // at that place.
  base::Status prepare(std::string_view program, const PictureFeatures& features, int place = 0);

  // To be called when programs were run or states reset beside the tasks: memories may hold anything.
  void forget_preparations() {
    prepared_.clear();
    cached_tokens_.clear();
  }
  // The tokens of text whose keys and values sequence 0 of the caches holds; empty: they may hold anything.
  std::vector<int32_t>& cached_tokens() { return cached_tokens_; }
  // May be read from any thread.
  const FeatureCache::Statistics& cache_statistics() const { return features_.statistics(); }

  // From any thread: stops the call under way at its next instruction, with StatusCode::cancelled. false: there is
  // none. Each call has a flag of its own, so none is lost to a reset and a later call is never hit. A cancel that is
  // meant for one certain call, begun or not, is set on the Cancellation that the call is given.
  bool cancel();
  // What `Call` does at its ends. `cancellation` nullptr: the call gets one of its own.
  void begin_call(std::chrono::steady_clock::time_point deadline, std::shared_ptr<Cancellation> cancellation);
  void end_call();

 private:
  Session(std::shared_ptr<const Engine> engine, std::unique_ptr<base::ThreadPool> pool, size_t feature_cache_bytes);

  std::shared_ptr<const Engine> engine_;
  std::unique_ptr<base::ThreadPool> pool_;
  program::Interpreter interpreter_;
  std::vector<uint8_t> resized_;
  FeatureCache features_;
  struct Prepared {
    const program::Program* program;
    int place;
    PictureKey key;
  };
  std::vector<Prepared> prepared_;  // what memories hold which picture
  std::vector<int32_t> cached_tokens_;
  std::mutex call_mutex_;  // guards call_ alone
  std::shared_ptr<Cancellation> call_;
};

// The features as a program takes them; programs only read.
tensor::TensorView view_of(const PictureFeatures& features);

}  // namespace mm::tasks
