// Pooling over pictures: windows (largest, mean) and the mean of all pixels.
#include <algorithm>

#include "ops/operations.h"
#include "ops/window.h"

namespace mm::ops {

namespace {

using tensor::TensorView;

// Attributes: kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, pad_bottom, pad_right.
base::Result<kernels::ConvArgs> arguments_of(const char* op, const Attributes& attributes, const Inputs& inputs) {
  MM_RETURN_IF_ERROR(expect_f32(*inputs[0], op));
  MM_ASSIGN_OR_RETURN(const Pictures x, pictures_of(*inputs[0], std::string(op) + ": x"));
  for (int i = 0; i < 2; ++i)
    MM_RETURN_IF_ERROR(expect_attribute(attributes.integer(i) >= 1 && attributes.integer(i) <= 64, op, "kernel",
                                        attributes.integer(i), "1 to 64"));
  kernels::ConvArgs args = {};
  args.kernel_h = attributes.integer(0);
  args.kernel_w = attributes.integer(1);
  args.channels_out = x.channels;
  // A window of padding alone has no largest value and no mean.
  for (int i = 4; i < 8; ++i)
    MM_RETURN_IF_ERROR(expect_attribute(attributes.integer(i) < attributes.integer(i % 2), op, "padding",
                                        attributes.integer(i), "less than the kernel"));
  MM_RETURN_IF_ERROR(slide_window(op, attributes, 2, x, args));
  args.x = inputs[0]->as<const float>();
  return args;
}

template <bool is_max>
base::Status infer_pool(const InferContext&, const Attributes& attributes, const Inputs& inputs, Inferred& out) {
  MM_ASSIGN_OR_RETURN(const kernels::ConvArgs args,
                      arguments_of(is_max ? "max_pool2d" : "average_pool2d", attributes, inputs));
  out.shape = picture_shape(inputs[0]->shape, args.out_height, args.out_width, args.channels_out);
  return {};
}

template <bool is_max>
base::Status run_pool(Context& context, const Attributes& attributes, const Inputs& inputs, const TensorView& output) {
  MM_ASSIGN_OR_RETURN(kernels::ConvArgs args,
                      arguments_of(is_max ? "max_pool2d" : "average_pool2d", attributes, inputs));
  args.y = output.as<float>();
  run_windows(context, args, inputs[0]->shape, output.shape.elements() * args.kernel_h * args.kernel_w,
              is_max ? context.kernels.max_pool2d_f32 : context.kernels.average_pool2d_f32);
  return {};
}

// Sums go by blocks of this many pixels: the split over threads then changes no bit, and the error of a sum grows with
// the square root of the pixels at most.
constexpr int64_t block_pixels = 256;

base::Status infer_global_average_pool(const InferContext&, const Attributes&, const Inputs& inputs, Inferred& out) {
  MM_RETURN_IF_ERROR(expect_f32(*inputs[0], "global_average_pool: x"));
  MM_ASSIGN_OR_RETURN(const Pictures x, pictures_of(*inputs[0], "global_average_pool: x"));
  out.shape = inputs[0]->shape.rank == 4 ? tensor::Shape::of(x.count, 1, 1, x.channels) : tensor::Shape::of(x.channels);
  out.scratch_bytes = static_cast<size_t>((x.pixels() + block_pixels - 1) / block_pixels * x.channels) * sizeof(float);
  return {};
}

base::Status run_global_average_pool(Context& context, const Attributes&, const Inputs& inputs,
                                     const TensorView& output) {
  MM_ASSIGN_OR_RETURN(const Pictures x, pictures_of(*inputs[0], "global_average_pool: x"));
  const int64_t pixels = x.pixels(), blocks = (pixels + block_pixels - 1) / block_pixels;
  const float inverse = 1.0f / static_cast<float>(pixels);
  float* sums = reinterpret_cast<float*>(context.scratch);
  for (int64_t picture = 0; picture < x.count; ++picture) {
    const float* from = inputs[0]->as<const float>() + picture * x.elements();
    float* y = output.as<float>() + picture * x.channels;
    parallel_if(context, x.elements(), static_cast<size_t>(blocks), 1, [&](size_t begin, size_t end, int) {
      for (int64_t block = static_cast<int64_t>(begin); block < static_cast<int64_t>(end); ++block) {
        const int64_t first = block * block_pixels;
        context.kernels.sum_rows_f32(from + first * x.channels, sums + block * x.channels,
                                     static_cast<int>(std::min(block_pixels, pixels - first)), x.channels);
      }
    });
    context.kernels.sum_rows_f32(sums, y, static_cast<int>(blocks), x.channels);
    for (int c = 0; c < x.channels; ++c) y[c] *= inverse;
  }
  return {};
}

}  // namespace

const Op max_pool2d_op = {"max_pool2d", 1, 1, 1, 8, 8, false, infer_pool<true>, run_pool<true>};
const Op average_pool2d_op = {"average_pool2d", 1, 1, 1, 8, 8, false, infer_pool<false>, run_pool<false>};
const Op global_average_pool_op = {"global_average_pool",  1, 1, 1, 0, 0, false, infer_global_average_pool,
                                   run_global_average_pool};

}  // namespace mm::ops
