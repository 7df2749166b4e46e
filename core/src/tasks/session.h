// Owns what changes while a model works: threads, caches, arena. One thread uses a session at a time.
#pragma once

#include <memory>
#include <vector>

#include "base/thread_pool.h"
#include "program/interpreter.h"
#include "tasks/engine.h"
#include "vision/image_transform.h"

namespace mm::tasks {

class Session {
 public:
  // `threads` counts the calling thread; 0 takes as many as the process may use.
  static base::Result<std::unique_ptr<Session>> create(std::shared_ptr<const Engine> engine, int threads);

  const Engine& engine() const { return *engine_; }
  program::Interpreter& interpreter() { return interpreter_; }
  int threads() const { return pool_->threads(); }
  base::ThreadPool& pool() { return *pool_; }

  // Scales the picture to the encoder's square and runs `encode_image`. The result stays valid until the next call.
  struct EncodeTimes {
    double resize_ms = 0;
    double encode_ms = 0;
  };
  base::Result<tensor::TensorView> encode_image(const vision::PictureView& picture, EncodeTimes* times);

 private:
  Session(std::shared_ptr<const Engine> engine, std::unique_ptr<base::ThreadPool> pool);

  std::shared_ptr<const Engine> engine_;
  std::unique_ptr<base::ThreadPool> pool_;
  program::Interpreter interpreter_;
  std::vector<uint8_t> resized_;
  std::vector<float> features_;
};

}  // namespace mm::tasks
