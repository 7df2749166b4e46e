// Holds the thread pool to its split: every index once, pieces fixed by count, grain and threads, at any load.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

#include "base/thread_pool.h"
#include "check.h"

namespace {

using mm::base::ThreadPool;

struct Range {
  size_t begin = 0, end = 0;
  bool operator==(const Range& other) const { return begin == other.begin && end == other.end; }
};

std::vector<Range> split(ThreadPool& pool, size_t count, size_t grain) {
  std::vector<Range> ranges(static_cast<size_t>(pool.threads()));
  pool.parallel_for(count, grain,
                    [&](size_t begin, size_t end, int index) { ranges[static_cast<size_t>(index)] = {begin, end}; });
  return ranges;
}

void check_split(ThreadPool& pool, size_t count, size_t grain) {
  const std::vector<Range> ranges = split(pool, count, grain);
  size_t next = 0;
  for (const Range& range : ranges) {
    if (range.begin == range.end) continue;
    MM_CHECK(range.begin == next);
    MM_CHECK(range.end == count || (range.end - range.begin) % grain == 0);
    next = range.end;
  }
  MM_CHECK(next == count);
  MM_CHECK(split(pool, count, grain) == ranges);
}

}  // namespace

int main() {
  MM_CHECK(ThreadPool::create(0)->threads() == 1);
  MM_CHECK(ThreadPool::create(-5)->threads() == 1);
  MM_CHECK(ThreadPool::create(1)->threads() == 1);
  MM_CHECK(ThreadPool::create(1000)->threads() == 64);

  // 16 threads: more than most machines have, so workers sleep instead of spinning.
  for (const int threads : {1, 2, 3, 4, 16}) {
    auto pool = ThreadPool::create(threads);
    MM_CHECK(pool->threads() == threads);
    for (const size_t count : {size_t{0}, size_t{1}, size_t{2}, size_t{15}, size_t{16}, size_t{17}, size_t{1000}}) {
      for (const size_t grain : {size_t{1}, size_t{2}, size_t{16}, size_t{999}}) check_split(*pool, count, grain);
    }
    MM_CHECK(split(*pool, ~size_t{0}, size_t{1} << 60).back().end == (threads <= 16 ? ~size_t{0} : 0));

    // Short jobs one after the other, sometimes with fewer pieces than threads, sometimes after a sleep.
    std::vector<int> counts(97, 0);
    for (int round = 0; round < 2000; ++round) {
      const size_t length = static_cast<size_t>(round % 97) + 1;
      pool->parallel_for(length, 1, [&](size_t begin, size_t end, int) {
        for (size_t i = begin; i < end; ++i) ++counts[i];
      });
      if (round % 500 == 499) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    size_t total = 0;
    for (const int n : counts) total += static_cast<size_t>(n);
    size_t expected = 0;
    for (int round = 0; round < 2000; ++round) expected += static_cast<size_t>(round % 97) + 1;
    MM_CHECK(total == expected);
  }

  // Pools come and go, idle or just used, and several work side by side.
  for (int round = 0; round < 50; ++round) {
    auto pool = ThreadPool::create(1 + round % 5);
    std::atomic<int> calls{0};
    if (round % 2 == 0) pool->parallel_for(8, 1, [&](size_t, size_t, int) { ++calls; });
    MM_CHECK(round % 2 != 0 || calls == 1 + round % 5);
  }
  std::vector<std::thread> callers;
  std::atomic<size_t> sum{0};
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      auto pool = ThreadPool::create(3);
      for (int round = 0; round < 200; ++round) {
        pool->parallel_for(30, 1, [&](size_t begin, size_t end, int) { sum += end - begin; });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  MM_CHECK(sum == 4 * 200 * 30);

  // Workers take part: the pieces of one job wait for each other, which one thread alone could not do.
  for (const int threads : {2, 4}) {
    auto pool = ThreadPool::create(threads);
    for (int round = 0; round < 10; ++round) {
      std::atomic<int> started{0};
      std::atomic<bool> is_late{false};
      pool->parallel_for(static_cast<size_t>(threads), 1, [&](size_t, size_t, int) {
        ++started;
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (started < threads && !is_late) {
          std::this_thread::yield();
          if (std::chrono::steady_clock::now() > deadline) is_late = true;
        }
      });
      MM_CHECK(!is_late && started == threads);
    }
  }

  auto pool = ThreadPool::create(2);
  constexpr int jobs = 5000;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < jobs; ++i) pool->parallel_for(2, 1, [](size_t, size_t, int) {});
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("thread_pool: %.2f us a job on 2 threads\n", seconds / jobs * 1e6);
  return mm::test::finish("thread_pool");
}
