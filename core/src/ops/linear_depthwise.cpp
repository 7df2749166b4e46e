// A linear layer over pixels and the depthwise convolution of its outputs, band by band: what lies between them, four
// to six times as wide, stays in L2.
//
// No file names these operations: program/fusion.cpp puts one in the place of two that follow each other. Its results
// are theirs, bit for bit. One is for floats between the two, the other for codes.
#include <algorithm>

#include "ops/operations.h"
#include "ops/packed_matrix.h"
#include "ops/window.h"

namespace mm::ops {

namespace {

using tensor::TensorView;

// One thread gains nothing from bands of a tensor that fits L2. Several threads would hand rows to each other, line by
// line from cache to cache; in bands each computes what it needs of its neighbour's rows.
constexpr size_t smallest_bytes = 1 << 20, smallest_bytes_of_several = 128 << 10;
constexpr size_t band_bytes = 512 << 10;    // a quarter of a large L2; smaller bands read the weights more often
constexpr int64_t most_elements = 1 << 28;  // 1 GiB of floats, as an arena may hold: sizes below need no more checks

// The two operations by what lies between them, and the window of the second with its addresses.
template <class T>
struct Kind;

template <>
struct Kind<float> {
  using Window = kernels::ConvArgs;
  static const Op& linear() { return linear_op; }
  static const Op& depthwise() { return conv2d_depthwise_op; }
  static base::Result<Window> window(const Attributes& attributes, const Inputs& inputs) {
    return convolution_arguments("conv2d_depthwise", true, attributes, inputs);
  }
  static void run(const kernels::KernelTable& kernels, const Window& window) { kernels.conv2d_depthwise_f32(window); }
};

template <>
struct Kind<int8_t> {
  using Window = kernels::CodesConvArgs;
  static const Op& linear() { return linear_codes_op; }
  static const Op& depthwise() { return conv2d_depthwise_codes_op; }
  static base::Result<Window> window(const Attributes& attributes, const Inputs& inputs) {
    return codes_convolution_arguments(attributes, inputs);
  }
  static void run(const kernels::KernelTable& kernels, const Window& window) { kernels.conv2d_depthwise_codes(window); }
};

// Attributes: those of the linear layer, then those of the convolution. Inputs: x, packed, scale, bias, then what the
// convolution takes beside its picture.
template <class T>
struct Fused {
  Attributes linear, depthwise;
  Inputs linear_inputs, depthwise_inputs;  // the first of depthwise is `between`
  TensorView between;                      // the linear layer's output; data unset
  Inferred linear_needs;

  size_t between_bytes() const { return (static_cast<size_t>(between.shape.elements()) * sizeof(T) + 63) / 64 * 64; }
};

template <class T>
base::Status take_apart(const InferContext& context, const Attributes& attributes, const Inputs& inputs, Fused<T>& s) {
  s.linear = {attributes.words, Kind<T>::linear().max_attributes};
  s.depthwise = {attributes.words + s.linear.count, attributes.count - s.linear.count};
  for (int i = 0; i < 4; ++i) s.linear_inputs.items[i] = inputs[i];
  s.linear_inputs.count = 4;
  MM_RETURN_IF_ERROR(Kind<T>::linear().infer(context, s.linear, s.linear_inputs, s.linear_needs));
  s.between.shape = s.linear_needs.shape;
  s.between.dtype = s.linear_needs.dtype;
  if (s.between.shape.elements() > most_elements)
    return {base::StatusCode::out_of_memory,
            "`linear` would make a tensor of shape " + s.between.shape.text() + ", expected at most 1 GiB"};
  s.depthwise_inputs.items[0] = &s.between;
  s.depthwise_inputs.count = Kind<T>::depthwise().max_inputs;
  for (int i = 1; i < s.depthwise_inputs.count; ++i) s.depthwise_inputs.items[i] = inputs[3 + i];
  return {};
}

template <class T>
struct Bands {
  PackedMatrix matrix;
  typename Kind<T>::Window window;
  kernels::ConvArgs geometry;  // of the window
  int64_t pictures;
  int block_rows, group_tiles;
  int out_rows;  // of a band

  size_t row_elements() const {
    return static_cast<size_t>(geometry.width) * static_cast<size_t>(geometry.channels_in);
  }
  int in_rows() const { return std::min((out_rows - 1) * geometry.stride_h + geometry.kernel_h, geometry.height); }
};

template <class T>
struct BandScratch {
  QuantizedRows rows;
  T* between;  // [in_rows, width, channels]
};

template <class T>
BandScratch<T> take_scratch(ScratchPieces& pieces, const Bands<T>& s) {
  BandScratch<T> scratch;
  scratch.rows = take_rows(pieces, s.block_rows, s.matrix.k_padded, s.group_tiles);
  scratch.between = pieces.take<T>(s.row_elements() * static_cast<size_t>(s.in_rows()));
  return scratch;
}

template <class T>
size_t scratch_bytes(const Bands<T>& s) {
  ScratchPieces pieces(nullptr);
  take_scratch(pieces, s);
  return pieces.used();
}

// Whether bands pay: the tensor is large, but the rows of one window are not, and each window reaches into the picture.
template <class T>
bool is_banded(const Fused<T>& s, const kernels::ConvArgs& w, int threads) {
  const size_t window_bytes =
      static_cast<size_t>(w.width) * static_cast<size_t>(w.channels_in) * static_cast<size_t>(w.kernel_h) * sizeof(T);
  // All threads together compute at most twice the rows there are.
  const int out_rows = (w.out_height + threads - 1) / threads;
  const int64_t rows_of_all = static_cast<int64_t>((out_rows - 1) * w.stride_h + w.kernel_h - w.pad_top) * threads;
  if (threads > 1 && rows_of_all > 2 * int64_t{w.height}) return false;
  return s.between_bytes() >= (threads > 1 ? smallest_bytes_of_several : smallest_bytes) &&
         window_bytes <= 4 * band_bytes && w.pad_top < w.kernel_h && s.depthwise.integer(4) < w.kernel_h;
}

template <class T>
base::Result<Bands<T>> bands_of(const Fused<T>& s, const Inputs& inputs, const typename Kind<T>::Window& window) {
  Bands<T> bands = {};
  bands.window = window;
  bands.geometry = geometry_of(bands.window);
  MM_ASSIGN_OR_RETURN(const Pictures x, pictures_of(s.between, "linear_depthwise"));
  bands.pictures = x.count;
  const int activation = s.linear.count > 4 ? s.linear.integer(4) : static_cast<int>(kernels::Activation::none);
  MM_ASSIGN_OR_RETURN(bands.matrix,
                      packed_matrix("linear", s.linear.integer(0), s.linear.integer(1), s.linear.integer(2),
                                    s.linear.integer(3), activation, *inputs[1], *inputs[2], inputs[3]));
  bands.block_rows = balanced_block(bands.geometry.width);
  bands.group_tiles = tiles_in_group(bands.block_rows, bands.matrix.tiles);
  const int fitting = static_cast<int>(band_bytes / (bands.row_elements() * sizeof(T))) - bands.geometry.kernel_h;
  bands.out_rows = std::clamp(fitting / bands.geometry.stride_h + 1, 1, bands.geometry.out_height);
  return bands;
}

template <class T>
base::Status infer(const InferContext& context, const Attributes& attributes, const Inputs& inputs, Inferred& out) {
  Fused<T> s;
  MM_RETURN_IF_ERROR(take_apart(context, attributes, inputs, s));
  MM_RETURN_IF_ERROR(Kind<T>::depthwise().infer(context, s.depthwise, s.depthwise_inputs, out));
  MM_ASSIGN_OR_RETURN(typename Kind<T>::Window window, Kind<T>::window(s.depthwise, s.depthwise_inputs));
  if (!is_banded(s, geometry_of(window), context.threads)) {
    out.scratch_bytes = s.between_bytes() + s.linear_needs.scratch_bytes;
    return {};
  }
  MM_ASSIGN_OR_RETURN(const Bands<T> bands, bands_of(s, inputs, window));
  out.scratch_bytes = scratch_bytes(bands) * static_cast<size_t>(context.threads);
  return {};
}

// Output rows [row_begin, row_end) of one picture. Rows that two bands need are moved, not computed again.
template <class T>
void run_bands(const kernels::KernelTable& kernels, const Bands<T>& s, const BandScratch<T>& scratch, const float* x,
               int row_begin, int row_end, T* y) {
  const kernels::ConvArgs& w = s.geometry;
  const size_t row_elements = s.row_elements();
  const int64_t x_row = static_cast<int64_t>(w.width) * s.matrix.k;
  const int64_t y_row = static_cast<int64_t>(w.out_width) * w.channels_out;
  int first_there = 0, last_there = 0;  // the rows that scratch.between holds
  for (int row = row_begin; row < row_end; row += s.out_rows) {
    const int stop = std::min(row + s.out_rows, row_end), top = row * w.stride_h - w.pad_top;
    const int first = std::max(0, top), last = std::min(w.height, (stop - 1) * w.stride_h - w.pad_top + w.kernel_h);
    const int kept = std::max(0, last_there - first);
    if (kept > 0)
      std::memmove(scratch.between, scratch.between + static_cast<size_t>(first - first_there) * row_elements,
                   static_cast<size_t>(kept) * row_elements * sizeof(T));
    const int fresh = first + kept;
    s.matrix.apply(kernels, scratch.rows, s.block_rows, x + fresh * x_row, (last - fresh) * w.width, 0, s.matrix.tiles,
                   nullptr, scratch.between + static_cast<size_t>(kept) * row_elements);
    first_there = first;
    last_there = last;
    typename Kind<T>::Window part = s.window;
    part.x = scratch.between;
    part.y = y + row * y_row;
    kernels::ConvArgs& geometry = geometry_of(part);
    geometry.height = last - first;
    geometry.pad_top = first - top;
    geometry.out_height = geometry.row_end = stop - row;
    geometry.row_begin = 0;
    Kind<T>::run(kernels, part);
  }
}

template <class T>
base::Status run(Context& context, const Attributes& attributes, const Inputs& inputs, const TensorView& output) {
  Fused<T> s;
  MM_RETURN_IF_ERROR(take_apart({context.states, context.pool.threads()}, attributes, inputs, s));
  MM_ASSIGN_OR_RETURN(typename Kind<T>::Window window, Kind<T>::window(s.depthwise, s.depthwise_inputs));
  const kernels::ConvArgs& w = geometry_of(window);
  if (!is_banded(s, w, context.pool.threads())) {
    s.between.data = context.scratch;
    Context rest = {context.kernels, context.pool, context.states, context.scratch + s.between_bytes()};
    MM_RETURN_IF_ERROR(Kind<T>::linear().run(rest, s.linear, s.linear_inputs, s.between));
    return Kind<T>::depthwise().run(rest, s.depthwise, s.depthwise_inputs, output);
  }
  MM_ASSIGN_OR_RETURN(const Bands<T> bands, bands_of(s, inputs, window));
  const float* x = inputs[0]->as<const float>();
  T* y = output.as<T>();
  const int64_t x_step = static_cast<int64_t>(w.height) * w.width * bands.matrix.k;
  const int64_t y_step = static_cast<int64_t>(w.out_height) * w.out_width * w.channels_out;
  const size_t rows = static_cast<size_t>(bands.pictures) * static_cast<size_t>(w.out_height);
  parallel_if(context, s.between.shape.elements() * bands.matrix.k / 4, rows, 1,
              [&](size_t begin, size_t end, int thread_index) {
                ScratchPieces pieces(context.scratch + scratch_bytes(bands) * static_cast<size_t>(thread_index));
                const BandScratch<T> scratch = take_scratch(pieces, bands);
                each_picture(begin, end, w.out_height, [&](int64_t picture, int row_begin, int row_end) {
                  run_bands(context.kernels, bands, scratch, x + picture * x_step, row_begin, row_end,
                            y + picture * y_step);
                });
              });
  return {};
}

}  // namespace

const Op linear_depthwise_op = {"linear_depthwise", 5, 6, 1, 12, 12, false, infer<float>, run<float>};
const Op linear_depthwise_codes_op = {"linear_depthwise_codes", 7, 7, 1, 10, 10, false, infer<int8_t>, run<int8_t>};

}  // namespace mm::ops
