// Attention among rows, over cached sequences and over memories, and the rotary embedding before it.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>

#include "ops/operations.h"

namespace mm::ops {

namespace {

using tensor::TensorView;

base::Status check_heads(const char* op, int heads, int kv_heads, int head_dim) {
  MM_RETURN_IF_ERROR(expect_attribute(heads >= 1 && heads <= 256, op, "heads", heads, "1 to 256"));
  MM_RETURN_IF_ERROR(expect_attribute(kv_heads >= 1 && kv_heads <= heads && heads % kv_heads == 0, op, "kv_heads",
                                      kv_heads, "a divisor of heads"));
  return expect_attribute(head_dim >= 4 && head_dim <= 1024 && head_dim % 4 == 0, op, "head_dim", head_dim,
                          "a multiple of 4 up to 1024");
}

base::Status check_state(const StateStore& states, const char* op, int state, StateKind kind, int width) {
  MM_RETURN_IF_ERROR(
      expect_attribute(state >= 0 && state < states.count(), op, "state", state, "the index of a state"));
  const StateInfo& info = states.info(state);
  if (info.kind != kind)
    return base::model_format(std::string(op) + ": state `" + info.name + "` is of the wrong kind");
  MM_RETURN_IF_ERROR(
      expect_attribute(info.width == width, op, "width of the state", info.width, std::to_string(width).c_str()));
  return {};
}

base::Status check_rows_of(const TensorView& x, int64_t columns, const char* what) {
  MM_RETURN_IF_ERROR(expect_f32(x, what));
  if (x.shape.rank < 1 || x.shape.last() != columns || x.shape.rows() < 1 || x.shape.rows() > (1 << 20))
    return base::invalid_input(std::string(what) + " has shape " + x.shape.text() + ", expected [rows, " +
                               std::to_string(columns) + "]");
  return {};
}

// Key and value addresses and scores of one row: what attention needs beside its inputs, a thread each.
struct RowScratch {
  const float** k_rows;
  const float** v_rows;
  float* scores;
  static size_t bytes(int rows) {
    return (static_cast<size_t>(rows) * (2 * sizeof(float*) + sizeof(float)) + 63) / 64 * 64;
  }
  RowScratch(uint8_t* base, int rows)
      : k_rows(reinterpret_cast<const float**>(base)),
        v_rows(k_rows + rows),
        scores(reinterpret_cast<float*>(v_rows + rows)) {}
};

// Attributes: heads, head_dim, theta.
base::Status infer_rope(const InferContext&, const Attributes& attributes, const Inputs& inputs, Inferred& out) {
  const int heads = attributes.integer(0), head_dim = attributes.integer(1);
  const float theta = attributes.real(2);
  MM_RETURN_IF_ERROR(check_heads("rope", heads, 1, head_dim));
  if (!(std::isfinite(theta) && theta > 1))
    return base::model_format("rope: theta is " + std::to_string(theta) + ", expected more than 1");
  const TensorView& x = *inputs[0];
  MM_RETURN_IF_ERROR(expect_f32(x, "rope: x"));
  if (x.shape.rank < 1 || x.shape.last() < heads * head_dim || x.shape.last() > (1 << 20))
    return base::invalid_input("rope: x has shape " + x.shape.text() + ", expected at least " +
                               std::to_string(heads * head_dim) + " columns");
  MM_RETURN_IF_ERROR(expect_type(*inputs[1], tensor::DType::i32, "rope: positions"));
  MM_RETURN_IF_ERROR(expect_elements(*inputs[1], x.shape.rows(), "rope: positions"));
  out.shape = x.shape;
  out.scratch_bytes = static_cast<size_t>(x.shape.rows()) * static_cast<size_t>(head_dim) * sizeof(float);
  return {};
}

base::Status run_rope(Context& context, const Attributes& attributes, const Inputs& inputs, const TensorView& output) {
  const int heads = attributes.integer(0), head_dim = attributes.integer(1), half = head_dim / 2;
  const int64_t columns = output.shape.last(), rows = output.shape.rows();
  const int32_t* positions = inputs[1]->as<const int32_t>();
  // The table may grow while it is asked, so the rows' angles are copied before threads share them.
  RotaryTable& table = context.states.rotary_table(attributes.real(2), head_dim);
  float* angles = reinterpret_cast<float*>(context.scratch);
  for (int64_t r = 0; r < rows; ++r) std::copy_n(table.row(positions[r]), 2 * half, angles + r * head_dim);
  parallel_if(context, rows * columns, static_cast<size_t>(rows), 1, [&](size_t begin, size_t end, int) {
    for (int64_t r = static_cast<int64_t>(begin); r < static_cast<int64_t>(end); ++r) {
      const float* x = inputs[0]->as<const float>() + r * columns;
      const float *cosines = angles + r * head_dim, *sines = cosines + half;
      float* y = output.as<float>() + r * columns;
      for (int h = 0; h < heads; ++h) {
        const float* a = x + h * head_dim;
        float* out = y + h * head_dim;
        for (int i = 0; i < half; ++i) {
          const float first = a[i], second = a[i + half];
          out[i] = first * cosines[i] - second * sines[i];
          out[i + half] = second * cosines[i] + first * sines[i];
        }
      }
      std::copy(x + heads * head_dim, x + columns, y + heads * head_dim);
    }
  });
  return {};
}

// Attributes: state.
base::Status infer_state_write(const InferContext& context, const Attributes& attributes, const Inputs& inputs,
                               Inferred&) {
  const int state = attributes.integer(0);
  MM_RETURN_IF_ERROR(expect_attribute(state >= 0 && state < context.states.count(), "state_write", "state", state,
                                      "the index of a state"));
  const StateInfo& info = context.states.info(state);
  MM_RETURN_IF_ERROR(check_state(context.states, "state_write", state, StateKind::memory, info.width));
  MM_RETURN_IF_ERROR(check_rows_of(*inputs[0], info.width, "state_write: x"));
  if (inputs[0]->shape.rows() > info.rows)
    return base::invalid_input("state_write: x has shape " + inputs[0]->shape.text() + ", the state `" + info.name +
                               "` holds " + std::to_string(info.rows) + " rows");
  return {};
}

base::Status run_state_write(Context& context, const Attributes& attributes, const Inputs& inputs, const TensorView&) {
  return context.states.write_memory(attributes.integer(0), inputs[0]->as<const float>(),
                                     static_cast<int>(inputs[0]->shape.rows()));
}

// Attributes: key_state, value_state, heads, kv_heads, head_dim.
base::Status infer_attention_cached(const InferContext& context, const Attributes& attributes, const Inputs& inputs,
                                    Inferred& out) {
  const int heads = attributes.integer(2), kv_heads = attributes.integer(3), head_dim = attributes.integer(4);
  MM_RETURN_IF_ERROR(check_heads("attention_cached", heads, kv_heads, head_dim));
  int rows_most = 0;
  for (int i = 0; i < 2; ++i) {
    MM_RETURN_IF_ERROR(
        check_state(context.states, "attention_cached", attributes.integer(i), StateKind::cache, kv_heads * head_dim));
    rows_most = std::max(rows_most, context.states.info(attributes.integer(i)).rows);
  }
  MM_RETURN_IF_ERROR(check_rows_of(*inputs[0], (heads + 2 * kv_heads) * head_dim, "attention_cached: qkv"));
  const int64_t rows = inputs[0]->shape.rows();
  for (int i = 1; i < 3; ++i) {
    MM_RETURN_IF_ERROR(expect_type(*inputs[i], tensor::DType::i32, "attention_cached: positions or sequences"));
    MM_RETURN_IF_ERROR(expect_elements(*inputs[i], rows, "attention_cached: positions or sequences"));
  }
  out.shape = tensor::Shape::of(rows, heads * head_dim);
  out.scratch_bytes = RowScratch::bytes(rows_most) * static_cast<size_t>(context.threads);
  return {};
}

// Names the first position that a cache lacks.
base::Status missing_row(const StateStore& states, const std::array<int, 2>& caches, const int32_t* positions,
                         const int32_t* sequences, int rows) {
  for (int r = 0; r < rows; ++r)
    for (int p = 0; p <= positions[r]; ++p)
      for (const int state : caches)
        if (states.cache_row(state, sequences[r], p) == nullptr)
          return base::invalid_input("attention_cached: position " + std::to_string(p) + " of sequence " +
                                         std::to_string(sequences[r]) + " is not in cache `" + states.info(state).name +
                                         "`",
                                     "reset the session");
  return {};
}

base::Status run_attention_cached(Context& context, const Attributes& attributes, const Inputs& inputs,
                                  const TensorView& output) {
  const int key_state = attributes.integer(0), value_state = attributes.integer(1);
  const int heads = attributes.integer(2), kv_heads = attributes.integer(3), head_dim = attributes.integer(4);
  const int rows = static_cast<int>(output.shape[0]);
  const int q_width = heads * head_dim, kv_width = kv_heads * head_dim, width = q_width + 2 * kv_width;
  const float* qkv = inputs[0]->as<const float>();
  const int32_t* positions = inputs[1]->as<const int32_t>();
  const int32_t* sequences = inputs[2]->as<const int32_t>();
  int longest = 0;
  for (int r = 0; r < rows; ++r) {
    const float* k = qkv + static_cast<int64_t>(r) * width + q_width;
    MM_RETURN_IF_ERROR(context.states.append(key_state, sequences[r], positions[r], k));
    MM_RETURN_IF_ERROR(context.states.append(value_state, sequences[r], positions[r], k + kv_width));
    longest = std::max(longest, positions[r] + 1);
  }
  const int rows_most = std::max(context.states.info(key_state).rows, context.states.info(value_state).rows);
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  // The caches share one table of slots. Programs that append to some of them only, with a reorder between, leave
  // entries that the others cannot follow.
  std::atomic<bool> is_missing{false};
  const int64_t work = static_cast<int64_t>(rows) * longest * q_width * 2;
  parallel_if(
      context, work, static_cast<size_t>(rows) * static_cast<size_t>(heads), 1,
      [&](size_t begin, size_t end, int thread_index) {
        const RowScratch scratch(context.scratch + RowScratch::bytes(rows_most) * static_cast<size_t>(thread_index),
                                 rows_most);
        int sequence = -1, found = 0;
        for (int r = static_cast<int>(begin) / heads;
             r < rows && static_cast<size_t>(r) * static_cast<size_t>(heads) < end; ++r) {
          const int n = positions[r] + 1;
          if (sequences[r] != sequence || n > found) {  // rows of a prompt follow each other: one table serves them all
            sequence = sequences[r];
            found = n;
            for (int after = r + 1; after < rows && sequences[after] == sequence; ++after)
              found = std::max(found, positions[after] + 1);
            if (!context.states.cache_rows(key_state, sequence, found, scratch.k_rows) ||
                !context.states.cache_rows(value_state, sequence, found, scratch.v_rows)) {
              is_missing.store(true);
              return;
            }
          }
          const int head_begin = std::max(0, static_cast<int>(begin) - r * heads);
          const int head_end = std::min(heads, static_cast<int>(end) - r * heads);
          context.kernels.attention_f32({qkv + static_cast<int64_t>(r) * width, scratch.k_rows, scratch.v_rows, n,
                                         heads, kv_heads, head_dim, head_begin, head_end, scale, scratch.scores,
                                         output.as<float>() + static_cast<int64_t>(r) * q_width});
        }
      });
  if (is_missing.load()) return missing_row(context.states, {key_state, value_state}, positions, sequences, rows);
  return {};
}

// Attributes: state, heads, kv_heads, head_dim.
base::Status infer_attention_memory(const InferContext& context, const Attributes& attributes, const Inputs& inputs,
                                    Inferred& out) {
  const int heads = attributes.integer(1), kv_heads = attributes.integer(2), head_dim = attributes.integer(3);
  MM_RETURN_IF_ERROR(check_heads("attention_memory", heads, kv_heads, head_dim));
  MM_RETURN_IF_ERROR(check_state(context.states, "attention_memory", attributes.integer(0), StateKind::memory,
                                 2 * kv_heads * head_dim));
  MM_RETURN_IF_ERROR(check_rows_of(*inputs[0], heads * head_dim, "attention_memory: q"));
  out.shape = tensor::Shape::of(inputs[0]->shape.rows(), heads * head_dim);
  out.scratch_bytes =
      RowScratch::bytes(context.states.info(attributes.integer(0)).rows) * static_cast<size_t>(context.threads);
  return {};
}

base::Status run_attention_memory(Context& context, const Attributes& attributes, const Inputs& inputs,
                                  const TensorView& output) {
  const int state = attributes.integer(0), heads = attributes.integer(1), kv_heads = attributes.integer(2),
            head_dim = attributes.integer(3);
  const StateStore& states = context.states;
  const int rows = static_cast<int>(output.shape[0]), q_width = heads * head_dim, kv_width = kv_heads * head_dim;
  const base::Status status = states.check_read(state, rows);
  if (!status.is_ok()) return {status.code(), "attention_memory: " + status.message(), status.hint()};
  const int rows_most = states.info(state).rows;
  const float* q = inputs[0]->as<const float>();
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  const int64_t work = static_cast<int64_t>(rows) * states.memory_rows(state, states.read_place(0)) * q_width * 2;
  parallel_if(
      context, work, static_cast<size_t>(rows) * static_cast<size_t>(heads), 1,
      [&](size_t begin, size_t end, int thread_index) {
        const RowScratch scratch(context.scratch + RowScratch::bytes(rows_most) * static_cast<size_t>(thread_index),
                                 rows_most);
        int place = -1, n = 0;
        for (int r = static_cast<int>(begin) / heads;
             r < rows && static_cast<size_t>(r) * static_cast<size_t>(heads) < end; ++r) {
          if (states.read_place(r) != place) {  // the beams of a picture follow each other: one table serves them all
            place = states.read_place(r);
            n = states.memory_rows(state, place);
            const float* memory = states.memory(state, place);
            for (int p = 0; p < n; ++p) {
              scratch.k_rows[p] = memory + static_cast<int64_t>(p) * 2 * kv_width;
              scratch.v_rows[p] = scratch.k_rows[p] + kv_width;
            }
          }
          const int head_begin = std::max(0, static_cast<int>(begin) - r * heads);
          const int head_end = std::min(heads, static_cast<int>(end) - r * heads);
          context.kernels.attention_f32({q + static_cast<int64_t>(r) * q_width, scratch.k_rows, scratch.v_rows, n,
                                         heads, kv_heads, head_dim, head_begin, head_end, scale, scratch.scores,
                                         output.as<float>() + static_cast<int64_t>(r) * q_width});
        }
      });
  return {};
}

// Attributes: heads, kv_heads, head_dim.
base::Status infer_attention(const InferContext& context, const Attributes& attributes, const Inputs& inputs,
                             Inferred& out) {
  constexpr int rows_most = 4096;  // every row looks at every row: 16.8 million scores a head
  const int heads = attributes.integer(0), kv_heads = attributes.integer(1), head_dim = attributes.integer(2);
  MM_RETURN_IF_ERROR(check_heads("attention", heads, kv_heads, head_dim));
  MM_RETURN_IF_ERROR(check_rows_of(*inputs[0], (heads + 2 * kv_heads) * head_dim, "attention: qkv"));
  const int64_t rows = inputs[0]->shape.rows();
  if (rows > rows_most)
    return base::invalid_input("attention: qkv has " + std::to_string(rows) + " rows, expected at most " +
                               std::to_string(rows_most));
  out.shape = tensor::Shape::of(rows, heads * head_dim);
  out.scratch_bytes = RowScratch::bytes(static_cast<int>(rows)) * static_cast<size_t>(context.threads);
  return {};
}

base::Status run_attention(Context& context, const Attributes& attributes, const Inputs& inputs,
                           const TensorView& output) {
  const int heads = attributes.integer(0), kv_heads = attributes.integer(1), head_dim = attributes.integer(2);
  const int rows = static_cast<int>(output.shape[0]), q_width = heads * head_dim, kv_width = kv_heads * head_dim;
  const int width = q_width + 2 * kv_width;
  const float* qkv = inputs[0]->as<const float>();
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  const int64_t work = static_cast<int64_t>(rows) * rows * q_width * 2;
  parallel_if(
      context, work, static_cast<size_t>(rows) * static_cast<size_t>(heads), 1,
      [&](size_t begin, size_t end, int thread_index) {
        const RowScratch scratch(context.scratch + RowScratch::bytes(rows) * static_cast<size_t>(thread_index), rows);
        for (int p = 0; p < rows; ++p) {
          scratch.k_rows[p] = qkv + static_cast<int64_t>(p) * width + q_width;
          scratch.v_rows[p] = scratch.k_rows[p] + kv_width;
        }
        for (int r = static_cast<int>(begin) / heads;
             r < rows && static_cast<size_t>(r) * static_cast<size_t>(heads) < end; ++r) {
          const int head_begin = std::max(0, static_cast<int>(begin) - r * heads);
          const int head_end = std::min(heads, static_cast<int>(end) - r * heads);
          context.kernels.attention_f32({qkv + static_cast<int64_t>(r) * width, scratch.k_rows, scratch.v_rows, rows,
                                         heads, kv_heads, head_dim, head_begin, head_end, scale, scratch.scores,
                                         output.as<float>() + static_cast<int64_t>(r) * q_width});
        }
      });
  return {};
}

}  // namespace

const Op attention_op = {"attention", 1, 1, 1, 3, 3, false, infer_attention, run_attention};
const Op rope_op = {"rope", 2, 2, 1, 3, 3, false, infer_rope, run_rope};
const Op state_write_op = {"state_write", 1, 1, 0, 1, 1, false, infer_state_write, run_state_write};
const Op attention_cached_op = {"attention_cached", 3, 3, 1, 5, 5, false, infer_attention_cached, run_attention_cached};
const Op attention_memory_op = {"attention_memory", 1, 1, 1, 4, 4, false, infer_attention_memory, run_attention_memory};

}  // namespace mm::ops
