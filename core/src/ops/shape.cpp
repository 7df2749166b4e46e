// Operations that move elements and compute nothing: reshape (a view), last row, concat, upsampling, depth to space.
#include "ops/operations.h"
#include "ops/pictures.h"

namespace mm::ops {

namespace {

using tensor::TensorView;

// Attributes: one to four dimensions, at most one of them -1.
base::Status infer_reshape(const InferContext&, const Attributes& attributes, const Inputs& inputs, Inferred& out) {
  const TensorView& x = *inputs[0];
  out.dtype = x.dtype;
  out.shape.rank = attributes.count;
  const int64_t elements = x.shape.elements();
  int64_t known = 1;
  int open = -1;
  for (int i = 0; i < attributes.count; ++i) {
    const int32_t dim = attributes.integer(i);
    MM_RETURN_IF_ERROR(
        expect_attribute(dim >= 1 || (dim == -1 && open < 0), "reshape", "a dimension", dim, "at least 1, or -1 once"));
    if (dim == -1) {
      open = i;
      continue;
    }
    if (dim > elements / known)
      known = elements + 1;  // too large whatever follows; stays below 2^63
    else
      known *= dim;
    out.shape.dims[static_cast<size_t>(i)] = dim;
  }
  if (open >= 0 && known >= 1 && known <= elements) {
    out.shape.dims[static_cast<size_t>(open)] = elements / known;
    known *= elements / known;
  }
  if (known != elements)
    return base::invalid_input("reshape: x has shape " + x.shape.text() + ", which does not fit the new dimensions");
  return {};
}

base::Status run_view(Context&, const Attributes&, const Inputs&, const TensorView&) { return {}; }

// The last of the rows, as [1, k]: a prompt's logits are asked for its end alone.
base::Status infer_last_row(const InferContext&, const Attributes&, const Inputs& inputs, Inferred& out) {
  MM_RETURN_IF_ERROR(expect_f32(*inputs[0], "last_row: x"));
  const tensor::Shape& shape = inputs[0]->shape;
  if (shape.rank != 2 || shape.elements() < 1)
    return base::invalid_input("last_row: x has shape " + shape.text() + ", expected [rows, columns]");
  out.shape = tensor::Shape::of(1, shape[1]);
  return {};
}

base::Status run_last_row(Context&, const Attributes&, const Inputs& inputs, const TensorView& output) {
  const int64_t columns = output.shape[1];
  std::memcpy(output.as<float>(), inputs[0]->as<const float>() + (inputs[0]->shape[0] - 1) * columns,
              static_cast<size_t>(columns) * sizeof(float));
  return {};
}

// Joins along the last dimension; all others agree.
base::Status infer_concat(const InferContext&, const Attributes&, const Inputs& inputs, Inferred& out) {
  const tensor::Shape& first = inputs[0]->shape;
  int64_t columns = 0;
  for (int i = 0; i < inputs.count; ++i) {
    if (inputs[i] == nullptr) continue;
    MM_RETURN_IF_ERROR(expect_f32(*inputs[i], "concat: an input"));
    const tensor::Shape& shape = inputs[i]->shape;
    bool fits = shape.rank == first.rank && shape.rank >= 1 && shape.last() <= (1 << 24);
    for (int d = 0; fits && d < shape.rank - 1; ++d) fits = shape[d] == first[d];
    if (!fits)
      return base::invalid_input("concat: an input has shape " + shape.text() + ", expected that of the first, " +
                                 first.text() + ", but for the last dimension");
    columns += shape.last();
  }
  out.shape = first;
  out.shape.dims[static_cast<size_t>(first.rank - 1)] = columns;
  return {};
}

base::Status run_concat(Context& context, const Attributes&, const Inputs& inputs, const TensorView& output) {
  const size_t columns = static_cast<size_t>(output.shape.last());
  parallel_if(context, output.shape.elements(), static_cast<size_t>(output.shape.rows()), 16,
              [&](size_t begin, size_t end, int) {
                size_t at = 0;
                for (int i = 0; i < inputs.count; ++i) {
                  if (inputs[i] == nullptr) continue;
                  const size_t width = static_cast<size_t>(inputs[i]->shape.last());
                  const float* x = inputs[i]->as<const float>();
                  float* y = output.as<float>() + at;
                  context.kernels.copy_rows_f32(x + begin * width, static_cast<int64_t>(width), y + begin * columns,
                                                static_cast<int64_t>(columns), static_cast<int>(end - begin),
                                                static_cast<int>(width));
                  at += width;
                }
              });
  return {};
}

// Attributes: factor_h, factor_w.
base::Result<Pictures> check_upsample(const Attributes& attributes, const Inputs& inputs) {
  MM_RETURN_IF_ERROR(expect_f32(*inputs[0], "upsample_nearest: x"));
  MM_ASSIGN_OR_RETURN(const Pictures x, pictures_of(*inputs[0], "upsample_nearest: x"));
  for (int i = 0; i < 2; ++i)
    MM_RETURN_IF_ERROR(expect_attribute(attributes.integer(i) >= 1 && attributes.integer(i) <= 64, "upsample_nearest",
                                        "factor", attributes.integer(i), "1 to 64"));
  return x;
}

base::Status infer_upsample_nearest(const InferContext&, const Attributes& attributes, const Inputs& inputs,
                                    Inferred& out) {
  MM_ASSIGN_OR_RETURN(const Pictures x, check_upsample(attributes, inputs));
  out.shape = picture_shape(inputs[0]->shape, int64_t{x.height} * attributes.integer(0),
                            int64_t{x.width} * attributes.integer(1), x.channels);
  if (inputs[1] != nullptr) {
    MM_RETURN_IF_ERROR(expect_f32(*inputs[1], "upsample_nearest: residual"));
    if (inputs[1]->shape != out.shape)
      return base::invalid_input("upsample_nearest: residual has shape " + inputs[1]->shape.text() + ", expected " +
                                 out.shape.text());
  }
  return {};
}

base::Status run_upsample_nearest(Context& context, const Attributes& attributes, const Inputs& inputs,
                                  const TensorView& output) {
  MM_ASSIGN_OR_RETURN(const Pictures x, check_upsample(attributes, inputs));
  const int factor_h = attributes.integer(0), factor_w = attributes.integer(1);
  const int64_t channels = x.channels, run = channels * factor_w;
  const float* residual = inputs[1] != nullptr ? inputs[1]->as<const float>() : nullptr;
  const size_t rows = static_cast<size_t>(x.count) * static_cast<size_t>(x.height) * static_cast<size_t>(factor_h);
  parallel_if(context, output.shape.elements(), rows, 1, [&](size_t begin, size_t end, int) {
    for (size_t row = begin; row < end; ++row) {
      const float* from = inputs[0]->as<const float>() + static_cast<int64_t>(row) / factor_h * x.width * channels;
      int64_t at = static_cast<int64_t>(row) * x.width * run;
      for (int column = 0; column < x.width; ++column, from += channels, at += run) {
        float* to = output.as<float>() + at;
        if (residual != nullptr) {
          context.kernels.add_f32(residual + at, from, to, run, channels);
          continue;
        }
        context.kernels.copy_rows_f32(from, 0, to, channels, factor_w, x.channels);
      }
    }
  });
  return {};
}

// Attribute: block. Channels come as [block, block, channels / block^2].
base::Result<Pictures> check_depth_to_space(const Attributes& attributes, const Inputs& inputs) {
  const int block = attributes.integer(0);
  MM_RETURN_IF_ERROR(expect_f32(*inputs[0], "depth_to_space: x"));
  MM_RETURN_IF_ERROR(expect_attribute(block >= 1 && block <= 64, "depth_to_space", "block", block, "1 to 64"));
  MM_ASSIGN_OR_RETURN(const Pictures x, pictures_of(*inputs[0], "depth_to_space: x"));
  if (x.channels % (block * block) != 0)
    return base::invalid_input("depth_to_space: x has shape " + inputs[0]->shape.text() +
                               ", expected channels that are a multiple of " + std::to_string(block * block));
  return x;
}

base::Status infer_depth_to_space(const InferContext&, const Attributes& attributes, const Inputs& inputs,
                                  Inferred& out) {
  MM_ASSIGN_OR_RETURN(const Pictures x, check_depth_to_space(attributes, inputs));
  const int64_t block = attributes.integer(0);
  out.shape = picture_shape(inputs[0]->shape, x.height * block, x.width * block, x.channels / (block * block));
  return {};
}

base::Status run_depth_to_space(Context& context, const Attributes& attributes, const Inputs& inputs,
                                const TensorView& output) {
  MM_ASSIGN_OR_RETURN(const Pictures x, check_depth_to_space(attributes, inputs));
  const int block = attributes.integer(0);
  // A pixel's channels for one row of its block lie side by side, as they do in the result.
  const int64_t run = x.channels / block, row_size = run * x.width;
  const size_t rows = static_cast<size_t>(x.count) * static_cast<size_t>(x.height);
  parallel_if(context, output.shape.elements(), rows, 1, [&](size_t begin, size_t end, int) {
    for (size_t row = begin; row < end; ++row) {
      const float* from = inputs[0]->as<const float>() + static_cast<int64_t>(row) * row_size * block;
      for (int dy = 0; dy < block; ++dy) {
        float* to = output.as<float>() + (static_cast<int64_t>(row) * block + dy) * row_size;
        context.kernels.copy_rows_f32(from + dy * run, x.channels, to, run, x.width, static_cast<int>(run));
      }
    }
  });
  return {};
}

}  // namespace

const Op reshape_op = {"reshape", 1, 1, 1, 1, 4, true, infer_reshape, run_view};
const Op last_row_op = {"last_row", 1, 1, 1, 0, 0, false, infer_last_row, run_last_row};
const Op concat_op = {"concat", 2, max_inputs, 1, 0, 0, false, infer_concat, run_concat};
const Op upsample_nearest_op = {"upsample_nearest", 1, 2, 1, 2, 2, false, infer_upsample_nearest, run_upsample_nearest};
const Op depth_to_space_op = {"depth_to_space", 1, 1, 1, 1, 1, false, infer_depth_to_space, run_depth_to_space};

}  // namespace mm::ops
