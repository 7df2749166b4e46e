// Holds one call of a session to its limits, and measures time.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "tasks/session.h"

namespace mm::tasks {

using Clock = std::chrono::steady_clock;

inline double milliseconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

// `seconds` as callers give it; 0: none.
inline base::Status check_deadline_seconds(double seconds) {
  if (seconds >= 0 && seconds < 1e6) return {};
  return base::invalid_input("`deadline_seconds` is " + std::to_string(seconds) + ", expected 0 (none) to 1000000");
}

// Lives as long as the call: what the session runs afterwards has no limits, and Session::cancel does not reach it.
class Call {
 public:
  // `cancellation` may be nullptr.
  Call(Session& session, Clock::time_point start, double deadline_seconds, std::shared_ptr<Cancellation> cancellation)
      : session_(session) {
    Clock::time_point deadline = Clock::time_point::max();
    if (deadline_seconds > 0)
      deadline = start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(deadline_seconds));
    session_.begin_call(deadline, std::move(cancellation));
  }
  ~Call() { session_.end_call(); }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

 private:
  Session& session_;
};

}  // namespace mm::tasks
