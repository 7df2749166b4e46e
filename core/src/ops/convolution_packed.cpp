// Dense convolution with packed weights: a band of the picture becomes int8 with one scale, windows become rows.
#include <algorithm>

#include "ops/operations.h"
#include "ops/packed_matrix.h"
#include "ops/window.h"

namespace mm::ops {

namespace {

using tensor::TensorView;

// Output rows that share a scale. Neighbouring bands quantize some input rows twice: 4 rows of a 3 x 3 kernel read 6.
constexpr int band_rows = 4;
constexpr int sources_most = 5;

// One of the pictures whose channels stand side by side; a smaller one is repeated up to the size of the largest.
struct Source {
  const float* x;
  int height, width, channels, factor_h, factor_w;
};

// Attributes: bits, n, zero2, kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, pad_bottom, pad_right,
// activation. Inputs: x, packed, scale, bias, then up to four more pictures.
struct PackedConv {
  PackedMatrix matrix;
  kernels::ConvArgs window;
  Source sources[sources_most];
  int source_count;
  int64_t pictures;
  int block_rows, group_tiles;

  int bands() const { return (window.out_height + band_rows - 1) / band_rows; }
  // The columns that windows reach, padding included; columns that none reaches may follow.
  int padded_width() const {
    return std::max(window.pad_left + window.width, (window.out_width - 1) * window.stride_w + window.kernel_w);
  }
  size_t padded_row_bytes() const {
    return static_cast<size_t>(padded_width()) * static_cast<size_t>(window.channels_in);
  }
  int input_rows() const { return (band_rows - 1) * window.stride_h + window.kernel_h; }
};

struct BandScratch {
  QuantizedRows rows;
  int8_t* codes;  // [input_rows, padded_width, channels]: what lies outside the picture is zeros
  int32_t* sums;  // [input_rows, padded_width]: of each pixel's codes
};

BandScratch take_scratch(ScratchPieces& pieces, const PackedConv& s) {
  const size_t pixels = static_cast<size_t>(s.padded_width()) * static_cast<size_t>(s.input_rows());
  BandScratch scratch;
  scratch.rows = take_rows(pieces, s.block_rows, s.matrix.k_padded, s.group_tiles);
  scratch.codes = pieces.take<int8_t>(s.padded_row_bytes() * static_cast<size_t>(s.input_rows()));
  scratch.sums = pieces.take<int32_t>(pixels);
  return scratch;
}

size_t scratch_bytes(const PackedConv& s) {
  ScratchPieces pieces(nullptr);
  take_scratch(pieces, s);
  return pieces.used();
}

base::Result<Pictures> read_sources(const Inputs& inputs, PackedConv& s) {
  Pictures whole = {};
  const int places[sources_most] = {0, 4, 5, 6, 7};
  for (const int place : places) {
    if (inputs[place] == nullptr) continue;
    MM_RETURN_IF_ERROR(expect_f32(*inputs[place], "conv2d_packed: x"));
    MM_ASSIGN_OR_RETURN(const Pictures x, pictures_of(*inputs[place], "conv2d_packed: x"));
    if (s.source_count > 0 && (x.count != whole.count || inputs[place]->shape.rank != inputs[0]->shape.rank))
      return base::invalid_input("conv2d_packed: pictures of shape " + inputs[0]->shape.text() + " and " +
                                 inputs[place]->shape.text() + " do not go together");
    s.sources[s.source_count++] = {inputs[place]->as<const float>(), x.height, x.width, x.channels, 1, 1};
    whole = {x.count, std::max(whole.height, x.height), std::max(whole.width, x.width), whole.channels + x.channels};
  }
  for (int i = 0; i < s.source_count; ++i) {
    Source& source = s.sources[i];
    if (whole.height % source.height != 0 || whole.width % source.width != 0)
      return base::invalid_input("conv2d_packed: a picture of " + std::to_string(source.height) + " x " +
                                 std::to_string(source.width) + " does not divide one of " +
                                 std::to_string(whole.height) + " x " + std::to_string(whole.width));
    source.factor_h = whole.height / source.height;
    source.factor_w = whole.width / source.width;
  }
  s.pictures = whole.count;
  return whole;
}

base::Result<PackedConv> arguments_of(const Attributes& attributes, const Inputs& inputs) {
  PackedConv s = {};
  MM_ASSIGN_OR_RETURN(const Pictures x, read_sources(inputs, s));
  for (int i = 3; i < 5; ++i)
    MM_RETURN_IF_ERROR(expect_attribute(attributes.integer(i) >= 1 && attributes.integer(i) <= 64, "conv2d_packed",
                                        "kernel", attributes.integer(i), "1 to 64"));
  s.window.kernel_h = attributes.integer(3);
  s.window.kernel_w = attributes.integer(4);
  const int64_t k = int64_t{s.window.kernel_h} * s.window.kernel_w * x.channels;
  MM_ASSIGN_OR_RETURN(
      s.matrix, packed_matrix("conv2d_packed", attributes.integer(0), attributes.integer(1), k, attributes.integer(2),
                              attributes.integer(11), *inputs[1], *inputs[2], inputs[3]));
  s.window.channels_out = s.matrix.n;
  MM_RETURN_IF_ERROR(slide_window("conv2d_packed", attributes, 5, x, s.window));
  s.block_rows = balanced_block(s.window.out_width);
  s.group_tiles = tiles_in_group(s.block_rows, s.matrix.tiles);
  return s;
}

base::Status infer_conv2d_packed(const InferContext& context, const Attributes& attributes, const Inputs& inputs,
                                 Inferred& out) {
  MM_ASSIGN_OR_RETURN(const PackedConv s, arguments_of(attributes, inputs));
  out.shape = picture_shape(inputs[0]->shape, s.window.out_height, s.window.out_width, s.matrix.n);
  out.scratch_bytes = scratch_bytes(s) * static_cast<size_t>(context.threads);
  return {};
}

// The rows of one source that rows [first, last) of the whole picture show.
struct SourceRows {
  const float* x;
  int begin, end;
};

SourceRows rows_of(const Source& source, int64_t picture, int first, int last) {
  return {source.x + picture * source.height * source.width * source.channels, first / source.factor_h,
          (last - 1) / source.factor_h + 1};
}

// Rows [first, last) of the whole picture as int8, where row 0 of the codes stands for row `top`, which may lie above
// the picture; returns their scale. A smaller source is read once a row and written as often as it is repeated.
float quantize_band(const kernels::KernelTable& kernels, const PackedConv& s, const BandScratch& scratch,
                    int64_t picture, int top, int first, int last) {
  kernels::Magnitude all = {0, true};
  for (int i = 0; i < s.source_count; ++i) {
    const Source& source = s.sources[i];
    const SourceRows rows = rows_of(source, picture, first, last);
    const int64_t row_size = static_cast<int64_t>(source.width) * source.channels;
    const kernels::Magnitude one =
        kernels.largest_magnitude(rows.x + rows.begin * row_size, (rows.end - rows.begin) * row_size);
    all = {std::max(all.largest, one.largest), all.is_finite && one.is_finite};
  }
  const bool is_zero = all.largest < 1e-30f;  // as in quantize_rows
  const float inverse = is_zero ? 0.0f : 127.0f / all.largest;
  const int64_t width = s.padded_width(), channels = s.window.channels_in;
  int64_t at = 0;
  for (int i = 0; i < s.source_count; ++i) {
    const Source& source = s.sources[i];
    const SourceRows rows = rows_of(source, picture, first, last);
    for (int row = first; row < last; ++row) {
      const float* x = rows.x + static_cast<int64_t>(row / source.factor_h) * source.width * source.channels;
      const int64_t pixel = (row - top) * width + s.window.pad_left;
      kernels.quantize_scaled({x, source.width, source.channels, inverse, all.is_finite,
                               scratch.codes + pixel * channels + at, channels, source.factor_w, scratch.sums + pixel});
    }
    at += source.channels;
  }
  return is_zero ? 0.0f : all.largest / 127.0f;
}

// The window that begins at a pixel of the codes, kernel row after kernel row; returns the sum.
int32_t take_window(const PackedConv& s, const BandScratch& scratch, int64_t pixel, int8_t* to) {
  const kernels::ConvArgs& w = s.window;
  const size_t run = static_cast<size_t>(w.kernel_w) * static_cast<size_t>(w.channels_in);
  const int width = s.padded_width();
  int32_t sum = 0;
  for (int ky = 0; ky < w.kernel_h; ++ky, to += run, pixel += width) {
    std::memcpy(to, scratch.codes + pixel * w.channels_in, run);
    for (int kx = 0; kx < w.kernel_w; ++kx) sum += scratch.sums[pixel + kx];
  }
  std::memset(to, 0, static_cast<size_t>(s.matrix.k_padded - s.matrix.k));
  return sum;
}

void run_band(const kernels::KernelTable& kernels, const PackedConv& s, const BandScratch& scratch, int64_t picture,
              int band, float* y) {
  const kernels::ConvArgs& w = s.window;
  const int row_begin = band * band_rows, row_end = std::min(row_begin + band_rows, w.out_height);
  const int top = row_begin * w.stride_h - w.pad_top;
  const int first = std::max(0, top), last = std::min(w.height, (row_end - 1) * w.stride_h - w.pad_top + w.kernel_h);
  const int64_t width = s.padded_width();
  const size_t pixels = static_cast<size_t>(width) * static_cast<size_t>(s.input_rows());
  std::memset(scratch.sums, 0, pixels * sizeof(int32_t));
  if (last - first < s.input_rows())
    std::memset(scratch.codes, 0, static_cast<size_t>(s.input_rows()) * s.padded_row_bytes());
  // A band that lies in the padding stays zero.
  const float scale = first < last ? quantize_band(kernels, s, scratch, picture, top, first, last) : 0.0f;
  std::fill_n(scratch.rows.scale, s.block_rows, scale);
  for (int row = row_begin; row < row_end; ++row) {
    for (int column = 0; column < w.out_width; column += s.block_rows) {
      const int m = std::min(s.block_rows, w.out_width - column);
      for (int i = 0; i < m; ++i)
        scratch.rows.sum[i] =
            take_window(s, scratch, (row - row_begin) * w.stride_h * width + (column + i) * w.stride_w,
                        scratch.rows.x + static_cast<int64_t>(i) * s.matrix.k_padded);
      const int64_t at = (picture * w.out_height + row) * w.out_width + column;
      s.matrix.multiply(kernels, scratch.rows, m, 0, s.matrix.tiles, nullptr, y + at * s.matrix.n);
    }
  }
}

base::Status run_conv2d_packed(Context& context, const Attributes& attributes, const Inputs& inputs,
                               const TensorView& output) {
  MM_ASSIGN_OR_RETURN(const PackedConv s, arguments_of(attributes, inputs));
  const int64_t work = output.shape.elements() * s.matrix.k / 4;  // one int8 product is a quarter of a float one
  const size_t count = static_cast<size_t>(s.pictures) * static_cast<size_t>(s.bands());
  parallel_if(context, work, count, 1, [&](size_t begin, size_t end, int thread_index) {
    ScratchPieces pieces(context.scratch + scratch_bytes(s) * static_cast<size_t>(thread_index));
    const BandScratch scratch = take_scratch(pieces, s);
    // The columns of padding: no band writes to them.
    std::memset(scratch.codes, 0, static_cast<size_t>(s.input_rows()) * s.padded_row_bytes());
    each_picture(begin, end, s.bands(), [&](int64_t picture, int band_begin, int band_end) {
      for (int band = band_begin; band < band_end; ++band)
        run_band(context.kernels, s, scratch, picture, band, output.as<float>());
    });
  });
  return {};
}

}  // namespace

const Op conv2d_packed_op = {"conv2d_packed", 3, 8, 1, 12, 12, false, infer_conv2d_packed, run_conv2d_packed};

}  // namespace mm::ops
