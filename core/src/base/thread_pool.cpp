// Keeps worker threads that spin briefly, then sleep, so that a job starts within a microsecond while a token is
// computed.
#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace mm::base {
namespace {

constexpr int max_threads = 64;
// Longer than the gaps between the operations of one token (a few us), far shorter than a scheduler's slice (1-4 ms).
constexpr std::chrono::microseconds spin_time{50};
// In the low byte of the job word: how many threads take part (2..64), or that the pool ends.
constexpr uint64_t stop_request = 255;

void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  asm volatile("yield");
#endif
}

// Waits until `is_done()` or until the spin time is over; returns what is_done() said last.
template <class IsDone>
bool spin_until(bool may_spin, IsDone is_done) {
  if (is_done()) return true;
  if (!may_spin) return false;
  const auto deadline = std::chrono::steady_clock::now() + spin_time;
  do {
    // 16 pauses: 0.1-1 us, so that the clock (about 25 ns) is a small part of the wait.
    for (int i = 0; i < 16; ++i) {
      pause_briefly();
      if (is_done()) return true;
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

// Where one thread sleeps and its piece is claimed; 64 bytes apart so that two threads share no cache line.
struct alignas(64) Bed {
  std::atomic<uint64_t> claimed{0};  // the last job word whose piece of this index somebody took
  std::atomic<bool> is_asleep{false};
  std::mutex mutex;
  std::condition_variable wake;

  // Pairs with rouse(): both sides order "set mine, look at theirs" (seq_cst), so one of them sees the other.
  template <class IsDone>
  void sleep_until(IsDone is_done) {
    std::unique_lock<std::mutex> lock(mutex);
    is_asleep.store(true);
    while (!is_done()) wake.wait(lock);
    is_asleep.store(false);
  }
  // True for one caller only for each job word; words grow.
  bool claim(uint64_t word) {
    uint64_t before = claimed.load();
    return before < word && claimed.compare_exchange_strong(before, word);
  }
  // Call after the sleeper's condition became true.
  void rouse() {
    if (!is_asleep.load()) return;
    {
      std::lock_guard<std::mutex> lock(mutex);
    }  // the sleeper is past its check, or inside wait()
    wake.notify_one();
  }
};

struct Piece {
  size_t begin;
  size_t end;
};

class WorkerPool final : public ThreadPool {
 public:
  explicit WorkerPool(int threads)
      // With fewer CPUs than threads a spinning thread holds the CPU that the awaited one needs.
      : may_spin_(std::thread::hardware_concurrency() >= static_cast<unsigned>(threads)),
        beds_(static_cast<size_t>(threads)) {
    workers_.reserve(static_cast<size_t>(threads - 1));
    for (int index = 1; index < threads; ++index) {
      try {
        workers_.emplace_back([this, index] { work(index); });
      } catch (const std::system_error&) {
        break;  // the system gives no more threads: go on with those that started
      }
    }
  }

  ~WorkerPool() override {
    publish(stop_request);
    for (size_t index = 1; index <= workers_.size(); ++index) beds_[index].rouse();
    for (std::thread& worker : workers_) worker.join();
  }

  int threads() const override { return static_cast<int>(workers_.size()) + 1; }

  void run(size_t count, size_t grain, Body body, void* context) override {
    if (count == 0) return;
    grain = std::max<size_t>(grain, 1);
    const size_t units = count / grain + (count % grain != 0 ? 1 : 0);
    const size_t pieces = std::min(units, static_cast<size_t>(threads()));
    if (pieces == 1) {
      body(context, 0, count, 0);
      return;
    }
    job_ = {count, grain, units, pieces, body, context};
    pending_.store(static_cast<int>(pieces) - 1, std::memory_order_relaxed);  // published by the job word
    publish(pieces);
    for (size_t index = 1; index < pieces; ++index) beds_[index].rouse();

    do_piece(0);
    // What a sleeping or preempted worker has not begun is done here: a busy machine costs no wait for its scheduler.
    const uint64_t word = job_word_.load(std::memory_order_relaxed);
    for (size_t index = 1; index < pieces; ++index) {
      if (!beds_[index].claim(word)) continue;
      do_piece(index);
      pending_.fetch_sub(1);
    }
    const auto is_done = [this] { return pending_.load() == 0; };
    if (!spin_until(may_spin_, is_done)) beds_[0].sleep_until(is_done);
  }

 private:
  struct Job {
    size_t count = 0, grain = 0, units = 0, pieces = 0;
    Body body = nullptr;
    void* context = nullptr;
  };

  // A new job word: the next generation and who takes part. Only who claimed a piece reads job_, which cannot change
  // until that piece is done.
  void publish(uint64_t participants) {
    job_word_.store(((job_word_.load(std::memory_order_relaxed) >> 8) + 1) << 8 | participants);
  }

  // The first (units % pieces) pieces are one unit longer than the others.
  Piece piece(size_t index) const {
    const size_t base = job_.units / job_.pieces;
    const size_t longer = job_.units % job_.pieces;
    const size_t first = index * base + std::min(index, longer);
    const size_t last = first + base + (index < longer ? 1 : 0);
    return {first * job_.grain, last == job_.units ? job_.count : last * job_.grain};
  }

  void do_piece(size_t index) {
    const Piece mine = piece(index);
    job_.body(job_.context, mine.begin, mine.end, static_cast<int>(index));
  }

  void work(int index) {
    uint64_t seen = 0;
    for (;;) {
      const auto is_new = [this, seen] { return job_word_.load() != seen; };
      if (!spin_until(may_spin_, is_new)) beds_[static_cast<size_t>(index)].sleep_until(is_new);
      seen = job_word_.load();
      const uint64_t participants = seen & 255;
      if (participants == stop_request) return;
      if (static_cast<uint64_t>(index) >= participants || !beds_[static_cast<size_t>(index)].claim(seen)) continue;
      do_piece(static_cast<size_t>(index));
      if (pending_.fetch_sub(1) == 1) beds_[0].rouse();
    }
  }

  const bool may_spin_;
  std::vector<Bed> beds_;  // [0] is the caller's
  Job job_;
  alignas(64) std::atomic<uint64_t> job_word_{0};
  alignas(64) std::atomic<int> pending_{0};
  std::vector<std::thread> workers_;
};

class CallerOnly final : public ThreadPool {
 public:
  int threads() const override { return 1; }
  void run(size_t count, size_t, Body body, void* context) override {
    if (count > 0) body(context, 0, count, 0);
  }
};

}  // namespace

std::unique_ptr<ThreadPool> ThreadPool::create(int threads) {
  threads = std::clamp(threads, 1, max_threads);
  if (threads == 1) return std::make_unique<CallerOnly>();
  return std::make_unique<WorkerPool>(threads);
}

}  // namespace mm::base
