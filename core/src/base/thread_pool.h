// Splits a range of work over persistent threads; the caller is one of them.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>

namespace mm::base {

class ThreadPool {
 public:
  // `threads` counts the caller: 1 starts no thread at all. Clamped to 1..64.
  static std::unique_ptr<ThreadPool> create(int threads);
  virtual ~ThreadPool() = default;
  virtual int threads() const = 0;

  // Calls body(context, begin, end, thread_index) for static, contiguous, disjoint pieces of [0, count), each a
  // multiple of `grain` long (the last may be shorter), at most one piece a thread_index. Returns when all are done.
  // The split depends on count, grain and threads() alone; thread_index is the piece's place (for scratch memory), and
  // the caller also does pieces that no worker has begun. Not to be called from inside a body, nor from two threads at
  // once.
  using Body = void (*)(void* context, size_t begin, size_t end, int thread_index);
  virtual void run(size_t count, size_t grain, Body body, void* context) = 0;

  // The same for any callable `f(begin, end, thread_index)`.
  template <class F>
  void parallel_for(size_t count, size_t grain, F&& f) {
    run(
        count, grain,
        [](void* context, size_t begin, size_t end, int thread_index) {
          (*static_cast<std::remove_reference_t<F>*>(context))(begin, end, thread_index);
        },
        &f);
  }
};

}  // namespace mm::base
