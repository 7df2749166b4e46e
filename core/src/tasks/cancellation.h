// A flag that one thread sets and the call that was given it sees.
#pragma once

#include <atomic>

namespace mm::tasks {

// Made for one call (or for several that are given up together). It may be set before the call begins, which then ends
// at its first instruction, or after it has ended, which changes nothing: a flag is never reset, so no cancel is lost
// and none hits a later call.
class Cancellation {
 public:
  void cancel() { is_cancelled_.store(true, std::memory_order_relaxed); }
  bool is_cancelled() const { return is_cancelled_.load(std::memory_order_relaxed); }
  const std::atomic<bool>* flag() const { return &is_cancelled_; }

 private:
  std::atomic<bool> is_cancelled_{false};
};

}  // namespace mm::tasks
