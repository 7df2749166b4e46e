// What convolutions and pooling share: how a window of taps slides over a picture, and the split over its output rows.
#pragma once

#include "ops/pictures.h"

namespace mm::ops {

// Reads stride_h, stride_w, pad_top, pad_left, pad_bottom, pad_right from `first` on and sets the geometry of `args`,
// whose kernel_h and kernel_w are set.
base::Status slide_window(const char* op, const Attributes& attributes, int first, const Pictures& x,
                          kernels::ConvArgs& args);

// The arguments of a convolution but for y and the rows, from stride_h, stride_w, pad_top, pad_left, pad_bottom,
// pad_right, activation and the inputs x, w and bias; those of `conv2d` and `conv2d_depthwise`.
base::Result<kernels::ConvArgs> convolution_arguments(const char* op, bool is_depthwise, const Attributes& attributes,
                                                      const Inputs& inputs);

// The same of `conv2d_depthwise_codes`, but for the activation, from the inputs x, w, scale and bias.
base::Result<kernels::CodesConvArgs> codes_convolution_arguments(const Attributes& attributes, const Inputs& inputs);

// The geometry of a window over floats, or over codes.
inline kernels::ConvArgs& geometry_of(kernels::ConvArgs& args) { return args; }
inline kernels::ConvArgs& geometry_of(kernels::CodesConvArgs& args) { return args.window; }

// Runs a kernel over every picture of a stack of shape `shape`, split by rows of the output.
template <class Args>
void run_windows(Context& context, Args args, const tensor::Shape& shape, int64_t work, void (*kernel)(const Args&)) {
  const kernels::ConvArgs& w = geometry_of(args);
  const int64_t count = shape.rank == 4 ? shape[0] : 1;
  const int64_t x_step = static_cast<int64_t>(w.height) * w.width * w.channels_in;
  const int64_t y_step = static_cast<int64_t>(w.out_height) * w.out_width * w.channels_out;
  const size_t rows = static_cast<size_t>(count) * static_cast<size_t>(w.out_height);
  parallel_if(context, work, rows, 1, [&](size_t begin, size_t end, int) {
    each_picture(begin, end, w.out_height, [&](int64_t picture, int row_begin, int row_end) {
      Args part = args;
      part.x += picture * x_step;
      part.y += picture * y_step;
      geometry_of(part).row_begin = row_begin;
      geometry_of(part).row_end = row_end;
      kernel(part);
    });
  });
}

}  // namespace mm::ops
