// Defines what an operation is: a name, a shape rule and a way to run, over tensors of any size.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "base/status.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "ops/state.h"
#include "tensor/tensor.h"

namespace mm::ops {

inline constexpr int max_inputs = 8;
inline constexpr int max_attributes = 16;
inline constexpr uint32_t absent = 0xFFFFFFFFu;

// The attribute words of one instruction; the interpreter has checked their count.
struct Attributes {
  const uint32_t* words = nullptr;
  int count = 0;

  int32_t integer(int i) const { return static_cast<int32_t>(words[i]); }
  float real(int i) const {
    float value;
    std::memcpy(&value, words + i, sizeof value);
    return value;
  }
};

// The inputs of one instruction; an absent optional input is nullptr. `data` is unset while shapes are inferred.
struct Inputs {
  const tensor::TensorView* items[max_inputs] = {};
  int count = 0;

  const tensor::TensorView* operator[](int i) const { return i < count ? items[i] : nullptr; }
};

// What running needs beside the tensors. `scratch` holds as many bytes as infer() asked for, 64-byte aligned.
struct Context {
  const kernels::KernelTable& kernels;
  base::ThreadPool& pool;
  StateStore& states;
  uint8_t* scratch;
};

// What shape inference may look at: nothing but sizes.
struct InferContext {
  const StateStore& states;
  int threads;
};

struct Inferred {
  tensor::DType dtype = tensor::DType::f32;
  tensor::Shape shape;
  size_t scratch_bytes = 0;
};

struct Op {
  const char* name;
  int min_inputs;  // inputs min_inputs .. max_inputs-1 may be absent
  int max_inputs;
  int outputs;  // 0 or 1
  int min_attributes;
  int max_attributes;
  bool is_view;  // the output is the first input's memory under another shape
  base::Status (*infer)(const InferContext&, const Attributes&, const Inputs&, Inferred&);
  base::Status (*run)(Context&, const Attributes&, const Inputs&, const tensor::TensorView& output);
};

const Op* find_op(std::string_view name);  // nullptr: unknown
struct OpList {
  const Op* const* ops;
  int count;
};
OpList all_ops();

// Shared checks; `what` names operation and input, e.g. "linear: x".
base::Status expect_f32(const tensor::TensorView& view, const char* what);
base::Status expect_type(const tensor::TensorView& view, tensor::DType type, const char* what);
base::Status expect_elements(const tensor::TensorView& view, int64_t elements, const char* what);
base::Status expect_attribute(bool holds, const char* op, const char* what, int64_t value, const char* expectation);
base::Result<kernels::Activation> activation_from(const char* op, int32_t value);

// Below this many multiply-adds a barrier (about 1 us) costs more than a second thread saves.
inline constexpr int64_t parallel_threshold = 1 << 16;

// Splits only when the work pays for the barrier; results never depend on the split.
template <class F>
void parallel_if(Context& context, int64_t work, size_t count, size_t grain, F&& f) {
  if (work < parallel_threshold || context.pool.threads() == 1) {
    f(size_t{0}, count, 0);
  } else {
    context.pool.parallel_for(count, grain, f);
  }
}

}  // namespace mm::ops
