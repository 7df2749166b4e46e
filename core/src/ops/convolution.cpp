// Convolutions over one picture, channels last, and the normalisation at their head.
#include "ops/operations.h"

namespace mm::ops {

namespace {

using tensor::TensorView;

// Attributes: stride_h, stride_w, pad_top, pad_left, pad_bottom, pad_right, activation.
base::Result<kernels::ConvArgs> arguments_of(const char* op, bool is_depthwise, const Attributes& attributes,
                                             const Inputs& inputs) {
  const TensorView& x = *inputs[0];
  const TensorView& w = *inputs[1];
  const std::string name = op;
  MM_RETURN_IF_ERROR(expect_f32(x, op));
  MM_RETURN_IF_ERROR(expect_f32(w, op));
  if (x.shape.rank != 3)
    return base::invalid_input(name + ": x has shape " + x.shape.text() + ", expected [height, width, channels]");
  if (w.shape.rank != (is_depthwise ? 3 : 4) || w.shape[2] != x.shape[2])
    return base::invalid_input(name + ": w has shape " + w.shape.text() + ", which does not fit x of shape " +
                               x.shape.text());
  for (int i = 0; i < 2; ++i)
    MM_RETURN_IF_ERROR(expect_attribute(attributes.integer(i) >= 1 && attributes.integer(i) <= 64, op, "stride",
                                        attributes.integer(i), "1 to 64"));
  for (int i = 2; i < 6; ++i)
    MM_RETURN_IF_ERROR(expect_attribute(attributes.integer(i) >= 0 && attributes.integer(i) <= 256, op, "padding",
                                        attributes.integer(i), "0 to 256"));
  for (int i = 0; i < 3; ++i)
    if (x.shape[i] > (1 << 20))
      return base::invalid_input(name + ": x has shape " + x.shape.text() + ", a side above 1048576");
  kernels::ConvArgs args = {};
  args.height = static_cast<int>(x.shape[0]);
  args.width = static_cast<int>(x.shape[1]);
  args.channels_in = static_cast<int>(x.shape[2]);
  args.kernel_h = static_cast<int>(w.shape[0]);
  args.kernel_w = static_cast<int>(w.shape[1]);
  args.channels_out = static_cast<int>(is_depthwise ? w.shape[2] : w.shape[3]);
  args.stride_h = attributes.integer(0);
  args.stride_w = attributes.integer(1);
  args.pad_top = attributes.integer(2);
  args.pad_left = attributes.integer(3);
  const int span_h = args.height + args.pad_top + attributes.integer(4) - args.kernel_h;
  const int span_w = args.width + args.pad_left + attributes.integer(5) - args.kernel_w;
  if (span_h < 0 || span_w < 0 || args.kernel_h > 64 || args.kernel_w > 64)
    return base::invalid_input(name + ": a kernel of shape " + w.shape.text() + " does not fit x of shape " +
                               x.shape.text());
  args.out_height = span_h / args.stride_h + 1;
  args.out_width = span_w / args.stride_w + 1;
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

template <bool is_depthwise>
base::Status infer_conv(const InferContext&, const Attributes& attributes, const Inputs& inputs, Inferred& out) {
  MM_ASSIGN_OR_RETURN(const kernels::ConvArgs args,
                      arguments_of(is_depthwise ? "conv2d_depthwise" : "conv2d", is_depthwise, attributes, inputs));
  out.shape = tensor::Shape::of(args.out_height, args.out_width, args.channels_out);
  return {};
}

template <bool is_depthwise>
base::Status run_conv(Context& context, const Attributes& attributes, const Inputs& inputs, const TensorView& output) {
  MM_ASSIGN_OR_RETURN(kernels::ConvArgs args,
                      arguments_of(is_depthwise ? "conv2d_depthwise" : "conv2d", is_depthwise, attributes, inputs));
  args.y = output.as<float>();
  const auto kernel = is_depthwise ? context.kernels.conv2d_depthwise_f32 : context.kernels.conv2d_f32;
  const int64_t work = output.shape.elements() * args.kernel_h * args.kernel_w * (is_depthwise ? 1 : args.channels_in);
  parallel_if(context, work, static_cast<size_t>(args.out_height), 1, [&](size_t begin, size_t end, int) {
    kernels::ConvArgs part = args;
    part.row_begin = static_cast<int>(begin);
    part.row_end = static_cast<int>(end);
    kernel(part);
  });
  return {};
}

base::Status infer_image_normalize(const InferContext&, const Attributes&, const Inputs& inputs, Inferred& out) {
  MM_RETURN_IF_ERROR(expect_type(*inputs[0], tensor::DType::u8, "image_normalize: x"));
  if (inputs[0]->shape.rank != 3 || inputs[0]->shape[2] != 3)
    return base::invalid_input("image_normalize: x has shape " + inputs[0]->shape.text() +
                               ", expected [height, width, 3]");
  out.shape = inputs[0]->shape;
  return {};
}

base::Status run_image_normalize(Context& context, const Attributes& attributes, const Inputs& inputs,
                                 const TensorView& output) {
  // 256 values x 3 channels: a table turns arithmetic into one load a byte.
  float table[256][3];
  for (int value = 0; value < 256; ++value)
    for (int c = 0; c < 3; ++c)
      table[value][c] = (static_cast<float>(value) - attributes.real(c)) * attributes.real(3 + c);
  const uint8_t* x = inputs[0]->as<const uint8_t>();
  float* y = output.as<float>();
  const int64_t pixels = output.shape.elements() / 3;
  parallel_if(context, pixels * 3, static_cast<size_t>(pixels), 64, [&](size_t begin, size_t end, int) {
    for (size_t i = begin * 3; i < end * 3; i += 3) {
      y[i] = table[x[i]][0];
      y[i + 1] = table[x[i + 1]][1];
      y[i + 2] = table[x[i + 2]][2];
    }
  });
  return {};
}

}  // namespace

const Op conv2d_op = {"conv2d", 2, 3, 1, 7, 7, false, infer_conv<false>, run_conv<false>};
const Op conv2d_depthwise_op = {"conv2d_depthwise", 2, 3, 1, 7, 7, false, infer_conv<true>, run_conv<true>};
const Op image_normalize_op = {"image_normalize", 1, 1, 1, 6, 6, false, infer_image_normalize, run_image_normalize};

}  // namespace mm::ops
