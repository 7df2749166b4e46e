// Gives tests memory that ends exactly at a page nobody may touch: reading or writing past it kills the test.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace mm::test {

template <class T>
class GuardedBuffer {
 public:
  explicit GuardedBuffer(size_t count) : count_(count) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t data_bytes = (count * sizeof(T) + page - 1) / page * page;
    mapped_bytes_ = data_bytes + page;
    void* mapped = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED || mprotect(static_cast<char*>(mapped) + data_bytes, page, PROT_NONE) != 0) {
      std::perror("guarded buffer");
      std::exit(1);
    }
    mapped_ = static_cast<char*>(mapped);
    data_ = reinterpret_cast<T*>(mapped_ + data_bytes - count * sizeof(T));
  }
  ~GuardedBuffer() { munmap(mapped_, mapped_bytes_); }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return count_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + count_; }

 private:
  size_t count_;
  size_t mapped_bytes_;
  char* mapped_;
  T* data_;
};

// A small generator with a fixed seed: the same numbers on every platform.
class Random {
 public:
  explicit Random(unsigned long long seed) : state_(seed * 2 + 1) {}
  unsigned next() {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<unsigned>(state_ >> 33);
  }
  int between(int low, int high) { return low + static_cast<int>(next() % static_cast<unsigned>(high - low + 1)); }
  float uniform() { return static_cast<float>(next()) * (2.0f / 2147483648.0f) - 1.0f; }  // [-1, 1)
  float normal() {
    return (uniform() + uniform() + uniform() + uniform() + uniform() + uniform()) * 0.7071f;
  }  // variance 1

 private:
  unsigned long long state_;
};

}  // namespace mm::test
