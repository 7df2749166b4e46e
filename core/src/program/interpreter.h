// Runs programs: one arena, one set of states, one thread pool; plans are made once for each set of input shapes.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "ops/state.h"
#include "program/plan.h"
#include "program/program.h"

namespace mm::program {

struct NamedTensor {
  std::string_view name;
  tensor::TensorView view;
};

// nullptr: there is no output of that name.
const tensor::TensorView* find_output(const std::vector<NamedTensor>& outputs, std::string_view name);

class Interpreter {
 public:
  // Programs and pool outlive the interpreter.
  Interpreter(const std::vector<std::shared_ptr<const Program>>& programs, ops::StateStore states,
              base::ThreadPool& pool, const kernels::KernelTable& kernels);

  // Every input of the program must be given, once, with its type. The outputs lie in the arena until the next run.
  base::Result<std::vector<NamedTensor>> run(std::string_view program, const std::vector<NamedTensor>& inputs,
                                             const ops::MemoryPlaces& places = {});

  ops::StateStore& states() { return states_; }
  // Checked before every instruction; the defaults never stop a run. Another thread may set what `is_cancelled` points
  // to, which lives until it is replaced.
  void set_limits(std::chrono::steady_clock::time_point deadline, const std::atomic<bool>* is_cancelled) {
    deadline_ = deadline;
    is_cancelled_ = is_cancelled;
  }
  base::Status check_limits() const;
  // Adds the seconds of each instruction to seconds[i], for benchmarks; nullptr turns it off.
  void set_profile(std::vector<double>* seconds) { profile_ = seconds; }

 private:
  struct CachedPlan {
    const Program* program;
    std::vector<tensor::Shape> shapes;
    Plan plan;
  };
  base::Result<Plan*> plan_for(const Program& program, const std::vector<tensor::Shape>& shapes);

  std::vector<std::shared_ptr<const Program>> programs_;
  ops::StateStore states_;
  base::ThreadPool& pool_;
  const kernels::KernelTable& kernels_;
  std::vector<std::unique_ptr<CachedPlan>> plans_;
  size_t next_plan_ = 0;
  ops::AlignedBuffer arena_;
  std::chrono::steady_clock::time_point deadline_ = std::chrono::steady_clock::time_point::max();
  const std::atomic<bool>* is_cancelled_ = nullptr;
  std::vector<double>* profile_ = nullptr;
};

}  // namespace mm::program
