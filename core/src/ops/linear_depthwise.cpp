// A linear layer over pixels and the depthwise convolution of its outputs, band by band: what lies between them, four
// to six times as wide, stays in L2.
//
// No file names this operation: program/fusion.cpp puts it in the place of two that follow each other. Its results are
// theirs, bit for bit.
#include <algorithm>

#include "ops/operations.h"
#include "ops/packed_matrix.h"
#include "ops/window.h"

namespace mm::ops {

namespace {

using tensor::TensorView;

constexpr int linear_attributes = 5, depthwise_attributes = 7;
// One thread gains nothing from bands of a tensor that fits L2. Several threads would hand rows to each other, line by
// line from cache to cache; in bands each computes what it needs of its neighbour's rows.
constexpr size_t smallest_bytes = 1 << 20, smallest_bytes_of_several = 128 << 10;
constexpr size_t band_bytes = 512 << 10;  // a quarter of a large L2; smaller bands read the weights more often
constexpr int64_t most_floats = 1 << 28;  // 1 GiB, as much as an arena may hold: sizes below need no more checks

// Attributes: those of linear, then those of conv2d_depthwise. Inputs: x, packed, scale, bias, w, bias.
struct Fused {
  Attributes linear, depthwise;
  Inputs linear_inputs, depthwise_inputs;  // the first of depthwise is `between`
  TensorView between;                      // the linear layer's output; data unset
  Inferred linear_needs;

  size_t between_bytes() const {
    return (static_cast<size_t>(between.shape.elements()) * sizeof(float) + 63) / 64 * 64;
  }
};

base::Status take_apart(const InferContext& context, const Attributes& attributes, const Inputs& inputs, Fused& s) {
  s.linear = {attributes.words, linear_attributes};
  s.depthwise = {attributes.words + linear_attributes, depthwise_attributes};
  for (int i = 0; i < 4; ++i) s.linear_inputs.items[i] = inputs[i];
  s.linear_inputs.count = 4;
  MM_RETURN_IF_ERROR(linear_op.infer(context, s.linear, s.linear_inputs, s.linear_needs));
  s.between.shape = s.linear_needs.shape;
  if (s.between.shape.elements() > most_floats)
    return {base::StatusCode::out_of_memory,
            "`linear` would make a tensor of shape " + s.between.shape.text() + ", expected at most 1 GiB"};
  s.depthwise_inputs.items[0] = &s.between;
  s.depthwise_inputs.items[1] = inputs[4];
  s.depthwise_inputs.items[2] = inputs[5];
  s.depthwise_inputs.count = 3;
  return {};
}

struct Bands {
  PackedMatrix matrix;
  kernels::ConvArgs window;
  int64_t pictures;
  int block_rows, group_tiles;
  int out_rows;  // of a band

  size_t row_floats() const { return static_cast<size_t>(window.width) * static_cast<size_t>(window.channels_in); }
  int in_rows() const { return std::min((out_rows - 1) * window.stride_h + window.kernel_h, window.height); }
};

struct BandScratch {
  QuantizedRows rows;
  float* between;  // [in_rows, width, channels]
};

BandScratch take_scratch(ScratchPieces& pieces, const Bands& s) {
  BandScratch scratch;
  scratch.rows = take_rows(pieces, s.block_rows, s.matrix.k_padded, s.group_tiles);
  scratch.between = pieces.take<float>(s.row_floats() * static_cast<size_t>(s.in_rows()));
  return scratch;
}

size_t scratch_bytes(const Bands& s) {
  ScratchPieces pieces(nullptr);
  take_scratch(pieces, s);
  return pieces.used();
}

// Whether bands pay: the tensor is large, but the rows of one window are not, and each window reaches into the picture.
bool is_banded(const Fused& s, const kernels::ConvArgs& w, int threads) {
  const size_t window_bytes = static_cast<size_t>(w.width) * static_cast<size_t>(w.channels_in) *
                              static_cast<size_t>(w.kernel_h) * sizeof(float);
  // All threads together compute at most twice the rows there are.
  const int out_rows = (w.out_height + threads - 1) / threads;
  const int64_t rows_of_all = static_cast<int64_t>((out_rows - 1) * w.stride_h + w.kernel_h - w.pad_top) * threads;
  if (threads > 1 && rows_of_all > 2 * int64_t{w.height}) return false;
  return s.between_bytes() >= (threads > 1 ? smallest_bytes_of_several : smallest_bytes) &&
         window_bytes <= 4 * band_bytes && w.pad_top < w.kernel_h && s.depthwise.integer(4) < w.kernel_h;
}

base::Result<Bands> bands_of(const Fused& s, const Inputs& inputs, const kernels::ConvArgs& window) {
  Bands bands = {};
  bands.window = window;
  MM_ASSIGN_OR_RETURN(const Pictures x, pictures_of(s.between, "linear_depthwise"));
  bands.pictures = x.count;
  MM_ASSIGN_OR_RETURN(bands.matrix,
                      packed_matrix("linear", s.linear.integer(0), s.linear.integer(1), s.linear.integer(2),
                                    s.linear.integer(3), s.linear.integer(4), *inputs[1], *inputs[2], inputs[3]));
  bands.block_rows = balanced_block(window.width);
  bands.group_tiles = tiles_in_group(bands.block_rows, bands.matrix.tiles);
  const int fitting = static_cast<int>(band_bytes / (bands.row_floats() * sizeof(float))) - window.kernel_h;
  bands.out_rows = std::clamp(fitting / window.stride_h + 1, 1, window.out_height);
  return bands;
}

base::Status infer_linear_depthwise(const InferContext& context, const Attributes& attributes, const Inputs& inputs,
                                    Inferred& out) {
  Fused s;
  MM_RETURN_IF_ERROR(take_apart(context, attributes, inputs, s));
  MM_RETURN_IF_ERROR(conv2d_depthwise_op.infer(context, s.depthwise, s.depthwise_inputs, out));
  MM_ASSIGN_OR_RETURN(const kernels::ConvArgs window,
                      convolution_arguments("conv2d_depthwise", true, s.depthwise, s.depthwise_inputs));
  if (!is_banded(s, window, context.threads)) {
    out.scratch_bytes = s.between_bytes() + s.linear_needs.scratch_bytes;
    return {};
  }
  MM_ASSIGN_OR_RETURN(const Bands bands, bands_of(s, inputs, window));
  out.scratch_bytes = scratch_bytes(bands) * static_cast<size_t>(context.threads);
  return {};
}

// Output rows [row_begin, row_end) of one picture. Rows that two bands need are moved, not computed again.
void run_bands(const kernels::KernelTable& kernels, const Bands& s, const BandScratch& scratch, const float* x,
               int row_begin, int row_end, float* y) {
  const kernels::ConvArgs& w = s.window;
  const size_t row_floats = s.row_floats();
  const int64_t x_row = static_cast<int64_t>(w.width) * s.matrix.k;
  const int64_t y_row = static_cast<int64_t>(w.out_width) * w.channels_out;
  int first_there = 0, last_there = 0;  // the rows that scratch.between holds
  for (int row = row_begin; row < row_end; row += s.out_rows) {
    const int stop = std::min(row + s.out_rows, row_end), top = row * w.stride_h - w.pad_top;
    const int first = std::max(0, top), last = std::min(w.height, (stop - 1) * w.stride_h - w.pad_top + w.kernel_h);
    const int kept = std::max(0, last_there - first);
    if (kept > 0)
      std::memmove(scratch.between, scratch.between + static_cast<size_t>(first - first_there) * row_floats,
                   static_cast<size_t>(kept) * row_floats * sizeof(float));
    const int fresh = first + kept;
    s.matrix.apply(kernels, scratch.rows, s.block_rows, x + fresh * x_row, (last - fresh) * w.width, 0, s.matrix.tiles,
                   nullptr, scratch.between + static_cast<size_t>(kept) * row_floats);
    first_there = first;
    last_there = last;
    kernels::ConvArgs part = w;
    part.x = scratch.between;
    part.y = y + row * y_row;
    part.height = last - first;
    part.pad_top = first - top;
    part.out_height = part.row_end = stop - row;
    part.row_begin = 0;
    kernels.conv2d_depthwise_f32(part);
  }
}

base::Status run_linear_depthwise(Context& context, const Attributes& attributes, const Inputs& inputs,
                                  const TensorView& output) {
  Fused s;
  MM_RETURN_IF_ERROR(take_apart({context.states, context.pool.threads()}, attributes, inputs, s));
  MM_ASSIGN_OR_RETURN(const kernels::ConvArgs window,
                      convolution_arguments("conv2d_depthwise", true, s.depthwise, s.depthwise_inputs));
  if (!is_banded(s, window, context.pool.threads())) {
    s.between.data = context.scratch;
    Context rest = {context.kernels, context.pool, context.states, context.scratch + s.between_bytes()};
    MM_RETURN_IF_ERROR(linear_op.run(rest, s.linear, s.linear_inputs, s.between));
    return conv2d_depthwise_op.run(rest, s.depthwise, s.depthwise_inputs, output);
  }
  MM_ASSIGN_OR_RETURN(const Bands bands, bands_of(s, inputs, window));
  const float* x = inputs[0]->as<const float>();
  float* y = output.as<float>();
  const int64_t x_step = static_cast<int64_t>(window.height) * window.width * bands.matrix.k;
  const int64_t y_step = static_cast<int64_t>(window.out_height) * window.out_width * window.channels_out;
  const size_t rows = static_cast<size_t>(bands.pictures) * static_cast<size_t>(window.out_height);
  parallel_if(context, s.between.shape.elements() * bands.matrix.k / 4, rows, 1,
              [&](size_t begin, size_t end, int thread_index) {
                ScratchPieces pieces(context.scratch + scratch_bytes(bands) * static_cast<size_t>(thread_index));
                const BandScratch scratch = take_scratch(pieces, bands);
                each_picture(begin, end, window.out_height, [&](int64_t picture, int row_begin, int row_end) {
                  run_bands(context.kernels, bands, scratch, x + picture * x_step, row_begin, row_end,
                            y + picture * y_step);
                });
              });
  return {};
}

}  // namespace

const Op linear_depthwise_op = {"linear_depthwise",
                                5,
                                6,
                                1,
                                linear_attributes + depthwise_attributes,
                                linear_attributes + depthwise_attributes,
                                false,
                                infer_linear_depthwise,
                                run_linear_depthwise};

}  // namespace mm::ops
