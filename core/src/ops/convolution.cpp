// Convolutions over pictures, channels last, and the normalisation at their head.
#include "ops/operations.h"
#include "ops/window.h"

namespace mm::ops {

base::Status slide_window(const char* op, const Attributes& attributes, int first, const Pictures& x,
                          kernels::ConvArgs& args) {
  for (int i = first; i < first + 2; ++i)
    MM_RETURN_IF_ERROR(expect_attribute(attributes.integer(i) >= 1 && attributes.integer(i) <= 64, op, "stride",
                                        attributes.integer(i), "1 to 64"));
  for (int i = first + 2; i < first + 6; ++i)
    MM_RETURN_IF_ERROR(expect_attribute(attributes.integer(i) >= 0 && attributes.integer(i) <= 256, op, "padding",
                                        attributes.integer(i), "0 to 256"));
  args.height = x.height;
  args.width = x.width;
  args.channels_in = x.channels;
  args.stride_h = attributes.integer(first);
  args.stride_w = attributes.integer(first + 1);
  args.pad_top = attributes.integer(first + 2);
  args.pad_left = attributes.integer(first + 3);
  const int span_h = args.height + args.pad_top + attributes.integer(first + 4) - args.kernel_h;
  const int span_w = args.width + args.pad_left + attributes.integer(first + 5) - args.kernel_w;
  if (span_h < 0 || span_w < 0)
    return base::invalid_input(std::string(op) + ": a kernel of " + std::to_string(args.kernel_h) + " x " +
                               std::to_string(args.kernel_w) + " does not fit a picture of " +
                               std::to_string(x.height) + " x " + std::to_string(x.width));
  args.out_height = span_h / args.stride_h + 1;
  args.out_width = span_w / args.stride_w + 1;
  return {};
}

base::Result<kernels::ConvArgs> convolution_arguments(const char* op, bool is_depthwise, const Attributes& attributes,
                                                      const Inputs& inputs) {
  const tensor::TensorView& x = *inputs[0];
  const tensor::TensorView& w = *inputs[1];
  const std::string name = op;
  MM_RETURN_IF_ERROR(expect_f32(x, op));
  MM_RETURN_IF_ERROR(expect_f32(w, op));
  MM_ASSIGN_OR_RETURN(const Pictures pictures, pictures_of(x, name + ": x"));
  if (w.shape.rank != (is_depthwise ? 3 : 4) || w.shape[2] != pictures.channels)
    return base::invalid_input(name + ": w has shape " + w.shape.text() + ", which does not fit x of shape " +
                               x.shape.text());
  const int64_t outputs = w.shape.last();
  if (w.shape[0] > 64 || w.shape[1] > 64 || outputs > (1 << 20))
    return base::invalid_input(name + ": w has shape " + w.shape.text() + ", expected a kernel of at most 64 x 64");
  kernels::ConvArgs args = {};
  args.kernel_h = static_cast<int>(w.shape[0]);
  args.kernel_w = static_cast<int>(w.shape[1]);
  args.channels_out = static_cast<int>(outputs);
  MM_RETURN_IF_ERROR(slide_window(op, attributes, 0, pictures, args));
  MM_ASSIGN_OR_RETURN(args.activation, activation_from(op, attributes.integer(6)));
  if (inputs[2] != nullptr) {
    MM_RETURN_IF_ERROR(expect_f32(*inputs[2], op));
    MM_RETURN_IF_ERROR(expect_elements(*inputs[2], args.channels_out, op));
    args.bias = inputs[2]->as<const float>();
  }
  args.x = x.as<const float>();
  args.w = w.as<const float>();
  return args;
}

base::Result<kernels::CodesConvArgs> codes_convolution_arguments(const Attributes& attributes, const Inputs& inputs) {
  const char* op = "conv2d_depthwise_codes";
  const tensor::TensorView &x = *inputs[0], &w = *inputs[1];
  MM_RETURN_IF_ERROR(expect_type(x, tensor::DType::i8, "conv2d_depthwise_codes: x"));
  MM_RETURN_IF_ERROR(expect_type(w, tensor::DType::i8, "conv2d_depthwise_codes: w"));
  MM_ASSIGN_OR_RETURN(const Pictures pictures, pictures_of(x, "conv2d_depthwise_codes: x"));
  if (w.shape.rank != 3 || w.shape[2] != pictures.channels || w.shape[0] > 64 || w.shape[1] > 64)
    return base::invalid_input("conv2d_depthwise_codes: w has shape " + w.shape.text() +
                               ", expected a kernel of at most 64 x 64 for x of shape " + x.shape.text());
  kernels::CodesConvArgs args = {};
  args.window.kernel_h = static_cast<int>(w.shape[0]);
  args.window.kernel_w = static_cast<int>(w.shape[1]);
  args.window.channels_out = pictures.channels;
  MM_RETURN_IF_ERROR(slide_window(op, attributes, 0, pictures, args.window));
  for (int i = 2; i < 4; ++i) {
    MM_RETURN_IF_ERROR(expect_f32(*inputs[i], op));
    MM_RETURN_IF_ERROR(expect_elements(*inputs[i], pictures.channels, op));
  }
  args.x = x.as<const int8_t>();
  args.w = w.as<const int8_t>();
  args.scale = inputs[2]->as<const float>();
  args.window.bias = inputs[3]->as<const float>();
  return args;
}

namespace {

using tensor::TensorView;

template <bool is_depthwise>
base::Status infer_conv(const InferContext&, const Attributes& attributes, const Inputs& inputs, Inferred& out) {
  MM_ASSIGN_OR_RETURN(const kernels::ConvArgs args, convolution_arguments(is_depthwise ? "conv2d_depthwise" : "conv2d",
                                                                          is_depthwise, attributes, inputs));
  out.shape = picture_shape(inputs[0]->shape, args.out_height, args.out_width, args.channels_out);
  return {};
}

template <bool is_depthwise>
base::Status run_conv(Context& context, const Attributes& attributes, const Inputs& inputs, const TensorView& output) {
  MM_ASSIGN_OR_RETURN(kernels::ConvArgs args, convolution_arguments(is_depthwise ? "conv2d_depthwise" : "conv2d",
                                                                    is_depthwise, attributes, inputs));
  args.y = output.as<float>();
  const auto kernel = is_depthwise ? context.kernels.conv2d_depthwise_f32 : context.kernels.conv2d_f32;
  const int64_t work = output.shape.elements() * args.kernel_h * args.kernel_w * (is_depthwise ? 1 : args.channels_in);
  run_windows(context, args, inputs[0]->shape, work, kernel);
  return {};
}

base::Status infer_depthwise_codes(const InferContext&, const Attributes& attributes, const Inputs& inputs,
                                   Inferred& out) {
  MM_ASSIGN_OR_RETURN(const kernels::CodesConvArgs args, codes_convolution_arguments(attributes, inputs));
  out.dtype = tensor::DType::i8;
  out.shape = picture_shape(inputs[0]->shape, args.window.out_height, args.window.out_width, args.window.channels_out);
  return {};
}

base::Status run_depthwise_codes(Context& context, const Attributes& attributes, const Inputs& inputs,
                                 const TensorView& output) {
  MM_ASSIGN_OR_RETURN(kernels::CodesConvArgs args, codes_convolution_arguments(attributes, inputs));
  args.y = output.as<int8_t>();
  const int64_t work = output.shape.elements() * args.window.kernel_h * args.window.kernel_w / 4;
  run_windows(context, args, inputs[0]->shape, work, context.kernels.conv2d_depthwise_codes);
  return {};
}

base::Status infer_image_normalize(const InferContext&, const Attributes&, const Inputs& inputs, Inferred& out) {
  MM_RETURN_IF_ERROR(expect_type(*inputs[0], tensor::DType::u8, "image_normalize: x"));
  if (inputs[0]->shape.rank < 3 || inputs[0]->shape.last() != 3)
    return base::invalid_input("image_normalize: x has shape " + inputs[0]->shape.text() +
                               ", expected [height, width, 3]");
  out.shape = inputs[0]->shape;
  return {};
}

base::Status run_image_normalize(Context& context, const Attributes& attributes, const Inputs& inputs,
                                 const TensorView& output) {
  const float mean[3] = {attributes.real(0), attributes.real(1), attributes.real(2)};
  const float factor[3] = {attributes.real(3), attributes.real(4), attributes.real(5)};
  const uint8_t* x = inputs[0]->as<const uint8_t>();
  float* y = output.as<float>();
  const int64_t pixels = output.shape.elements() / 3;
  parallel_if(context, pixels * 3, static_cast<size_t>(pixels), 64, [&](size_t begin, size_t end, int) {
    context.kernels.normalize_bytes(x + begin * 3, y + begin * 3, static_cast<int64_t>(end - begin), mean, factor);
  });
  return {};
}

}  // namespace

const Op conv2d_op = {"conv2d", 2, 3, 1, 7, 7, false, infer_conv<false>, run_conv<false>};
const Op conv2d_depthwise_op = {"conv2d_depthwise", 2, 3, 1, 7, 7, false, infer_conv<true>, run_conv<true>};
const Op conv2d_depthwise_codes_op = {"conv2d_depthwise_codes", 4, 4, 1, 6, 6, false, infer_depthwise_codes,
                                      run_depthwise_codes};
const Op image_normalize_op = {"image_normalize", 1, 1, 1, 6, 6, false, infer_image_normalize, run_image_normalize};

}  // namespace mm::ops
