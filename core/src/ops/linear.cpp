// Linear layers: int8 activations against 2-, 4- or 8-bit weights, from and to codes, and their float twin.
#include <algorithm>

#include "ops/operations.h"
#include "ops/packed_matrix.h"
#include "quant/layout.h"

namespace mm::ops {

namespace {

using kernels::Activation;
using tensor::TensorView;

struct LinearShape {
  PackedMatrix matrix;
  int m, block_rows, group_tiles;
};

size_t scratch_bytes(const LinearShape& s) {
  ScratchPieces pieces(nullptr);
  take_rows(pieces, s.block_rows, s.matrix.k_padded, s.group_tiles);
  return pieces.used();
}

// Attributes: bits, n, k, zero2, activation; `linear_codes` has no activation. x of `linear` may be codes.
base::Result<LinearShape> shape_of(const Attributes& attributes, const Inputs& inputs) {
  const int32_t n = attributes.integer(1), k = attributes.integer(2);
  const int activation = attributes.count > 4 ? attributes.integer(4) : static_cast<int>(Activation::none);
  LinearShape s;
  MM_ASSIGN_OR_RETURN(s.matrix, packed_matrix("linear", attributes.integer(0), n, k, attributes.integer(3), activation,
                                              *inputs[1], *inputs[2], inputs[3]));
  const TensorView& x = *inputs[0];
  if (x.dtype != tensor::DType::i8) MM_RETURN_IF_ERROR(expect_f32(x, "linear: x"));
  if (x.shape.last() != k)
    return base::invalid_input("linear: x has shape " + x.shape.text() + ", expected " + std::to_string(k) +
                               " in the last dimension");
  const int64_t m = x.shape.rows();
  if (m < 1 || m > (1 << 24))
    return base::invalid_input("linear: x has " + std::to_string(m) + " rows, expected 1 to 16777216");
  if (inputs[4] != nullptr) {
    MM_RETURN_IF_ERROR(expect_f32(*inputs[4], "linear: residual"));
    MM_RETURN_IF_ERROR(expect_elements(*inputs[4], m * n, "linear: residual"));
  }
  s.m = static_cast<int>(m);
  s.block_rows = balanced_block(m);
  s.group_tiles = tiles_in_group(s.block_rows, s.matrix.tiles);
  return s;
}

base::Status infer_linear(const InferContext& context, const Attributes& attributes, const Inputs& inputs,
                          Inferred& out) {
  MM_ASSIGN_OR_RETURN(const LinearShape s, shape_of(attributes, inputs));
  out.shape = inputs[0]->shape.with_last(s.matrix.n);
  out.scratch_bytes = scratch_bytes(s) * static_cast<size_t>(context.threads);
  return {};
}

base::Status infer_linear_codes(const InferContext& context, const Attributes& attributes, const Inputs& inputs,
                                Inferred& out) {
  MM_RETURN_IF_ERROR(expect_f32(*inputs[0], "linear_codes: x"));
  MM_RETURN_IF_ERROR(infer_linear(context, attributes, inputs, out));
  out.dtype = tensor::DType::i8;
  return {};
}

// Rows [row_begin, row_end) x tiles [tile_begin, tile_end) on one thread.
template <class X, class Y>
void run_part(const Context& context, const LinearShape& s, const Inputs& inputs, Y* y, int row_begin, int row_end,
              int tile_begin, int tile_end, int thread_index) {
  ScratchPieces pieces(context.scratch + scratch_bytes(s) * static_cast<size_t>(thread_index));
  const QuantizedRows rows = take_rows(pieces, s.block_rows, s.matrix.k_padded, s.group_tiles);
  const size_t first = static_cast<size_t>(row_begin), at = first * static_cast<size_t>(s.matrix.n);
  const X* x = inputs[0]->as<const X>() + first * static_cast<size_t>(s.matrix.k);
  const float* residual = inputs[4] != nullptr ? inputs[4]->as<const float>() + at : nullptr;
  s.matrix.apply(context.kernels, rows, s.block_rows, x, row_end - row_begin, tile_begin, tile_end, residual, y + at);
}

// Few rows (tokens): each thread takes some of the outputs and quantizes all rows again, which is cheaper than a second
// barrier. Many rows (pixels): each thread takes some of the rows and all outputs. In between, what is read twice
// decides: the weights, or x, half of which lies in the other thread's cache (49 rows of 1152 for 192 outputs took 27
// us on two threads split by outputs, 21 on one).
bool is_split_by_rows(const LinearShape& s, size_t element_bytes, int threads) {
  if (s.m >= 96 * threads) return true;
  const size_t x_bytes = static_cast<size_t>(s.m) * static_cast<size_t>(s.matrix.k) * element_bytes;
  return s.m >= 16 * threads && quant::packed_bytes(s.matrix.bits, s.matrix.n, s.matrix.k) <= x_bytes;
}

template <class X, class Y>
base::Status run_rows(Context& context, const Attributes& attributes, const Inputs& inputs, const TensorView& output) {
  MM_ASSIGN_OR_RETURN(const LinearShape s, shape_of(attributes, inputs));
  Y* y = output.as<Y>();
  // One int8 product is about a quarter of a float one.
  const int64_t work = static_cast<int64_t>(s.m) * s.matrix.n * s.matrix.k / 4;
  if (!is_split_by_rows(s, sizeof(X), context.pool.threads())) {
    parallel_if(context, work, static_cast<size_t>(s.matrix.tiles), 2, [&](size_t begin, size_t end, int thread_index) {
      run_part<X>(context, s, inputs, y, 0, s.m, static_cast<int>(begin), static_cast<int>(end), thread_index);
    });
  } else {
    parallel_if(context, work, static_cast<size_t>(s.m), rows_apart, [&](size_t begin, size_t end, int thread_index) {
      run_part<X>(context, s, inputs, y, static_cast<int>(begin), static_cast<int>(end), 0, s.matrix.tiles,
                  thread_index);
    });
  }
  return {};
}

base::Status run_linear(Context& context, const Attributes& attributes, const Inputs& inputs,
                        const TensorView& output) {
  const auto run = inputs[0]->dtype == tensor::DType::i8 ? run_rows<int8_t, float> : run_rows<float, float>;
  return run(context, attributes, inputs, output);
}

base::Status infer_linear_f32(const InferContext&, const Attributes& attributes, const Inputs& inputs, Inferred& out) {
  MM_RETURN_IF_ERROR(activation_from("linear_f32", attributes.integer(0)).status());
  const TensorView& x = *inputs[0];
  const TensorView& w = *inputs[1];
  MM_RETURN_IF_ERROR(expect_f32(x, "linear_f32: x"));
  MM_RETURN_IF_ERROR(expect_f32(w, "linear_f32: w"));
  if (w.shape.rank != 2 || x.shape.last() != w.shape[0])
    return base::invalid_input("linear_f32: w has shape " + w.shape.text() + " and x " + x.shape.text() +
                               ", expected w [k, n] and x [.., k]");
  const int64_t rows = x.shape.rows(), n = w.shape[1];
  if (rows < 1 || rows > (1 << 24) || n > (1 << 24) || w.shape[0] > (1 << 24))
    return base::invalid_input("linear_f32: x has shape " + x.shape.text() + ", w " + w.shape.text() + ", too large");
  if (inputs[2] != nullptr) {
    MM_RETURN_IF_ERROR(expect_f32(*inputs[2], "linear_f32: bias"));
    MM_RETURN_IF_ERROR(expect_elements(*inputs[2], n, "linear_f32: bias"));
  }
  if (inputs[3] != nullptr) {
    MM_RETURN_IF_ERROR(expect_f32(*inputs[3], "linear_f32: residual"));
    MM_RETURN_IF_ERROR(expect_elements(*inputs[3], rows * n, "linear_f32: residual"));
  }
  out.shape = x.shape.with_last(n);
  return {};
}

base::Status run_linear_f32(Context& context, const Attributes& attributes, const Inputs& inputs,
                            const TensorView& output) {
  kernels::LinearF32Args args = {};
  args.activation = static_cast<Activation>(attributes.integer(0));
  args.x = inputs[0]->as<const float>();
  args.w = inputs[1]->as<const float>();
  args.bias = inputs[2] != nullptr ? inputs[2]->as<const float>() : nullptr;
  args.y = output.as<float>();
  args.m = static_cast<int>(inputs[0]->shape.rows());
  args.k = static_cast<int>(inputs[1]->shape[0]);
  args.n = static_cast<int>(inputs[1]->shape[1]);
  const float* residual = inputs[3] != nullptr ? inputs[3]->as<const float>() : nullptr;
  const int64_t work = static_cast<int64_t>(args.m) * args.n * args.k;
  const int m = args.m;
  if (m < 64) {  // few rows: split the outputs, 16 floats = one cache line at a time
    args.residual = residual;
    parallel_if(context, work, static_cast<size_t>(args.n), 16, [&, args](size_t begin, size_t end, int) {
      kernels::LinearF32Args part = args;
      part.column_begin = static_cast<int>(begin);
      part.column_end = static_cast<int>(end);
      context.kernels.linear_f32(part);
    });
    return {};
  }
  parallel_if(context, work, static_cast<size_t>(m), 8, [&, args](size_t begin, size_t end, int) {
    kernels::LinearF32Args part = args;
    part.x += begin * static_cast<size_t>(args.k);
    part.y += begin * static_cast<size_t>(args.n);
    part.residual = residual != nullptr ? residual + begin * static_cast<size_t>(args.n) : nullptr;
    part.m = static_cast<int>(end - begin);
    part.column_begin = 0;
    part.column_end = args.n;
    context.kernels.linear_f32(part);
  });
  return {};
}

}  // namespace

const Op linear_op = {"linear", 3, 5, 1, 5, 5, false, infer_linear, run_linear};
const Op linear_codes_op = {"linear_codes", 3, 4, 1, 4, 4, false, infer_linear_codes, run_rows<float, int8_t>};
const Op linear_f32_op = {"linear_f32", 2, 4, 1, 1, 1, false, infer_linear_f32, run_linear_f32};

}  // namespace mm::ops
