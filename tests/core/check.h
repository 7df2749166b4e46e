// Counts checks and prints each failed one with its place: all a core test needs.
#pragma once

#include <cstdio>

namespace mm::test {
inline int checks = 0;
inline int failures = 0;

inline bool check(bool passed, const char* expression, const char* file, int line) {
  ++checks;
  if (!passed) {
    ++failures;
    if (failures <= 20) std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, expression);
  }
  return passed;
}

// The exit code of a test program; a test that checked nothing has failed.
inline int finish(const char* name) {
  std::printf("%s: %d checks, %d failed\n", name, checks, failures);
  return failures == 0 && checks > 0 ? 0 : 1;
}
}  // namespace mm::test

#define MM_CHECK(expression) ::mm::test::check(static_cast<bool>(expression), #expression, __FILE__, __LINE__)
