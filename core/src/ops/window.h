// Checks what convolutions and pooling share: how a window of taps slides over a picture.
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

// Runs a kernel over every picture of a stack of shape `shape`, split by rows of the output.
void run_windows(Context& context, const kernels::ConvArgs& args, const tensor::Shape& shape, int64_t work,
                 void (*kernel)(const kernels::ConvArgs&));

}  // namespace mm::ops
