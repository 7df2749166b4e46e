// Holds the interpreter of a session to a deadline, and measures time.
#pragma once

#include <chrono>
#include <string>

#include "base/status.h"
#include "program/interpreter.h"

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

// Lives as long as the task: what the session runs afterwards has no deadline.
class Deadline {
 public:
  Deadline(program::Interpreter& interpreter, Clock::time_point start, double seconds) : interpreter_(interpreter) {
    if (seconds > 0)
      interpreter.set_deadline(start +
                               std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)));
  }
  ~Deadline() { interpreter_.set_deadline(Clock::time_point::max()); }
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

 private:
  program::Interpreter& interpreter_;
};

}  // namespace mm::tasks
