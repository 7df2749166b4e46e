// The plain twin of every kernel: one obvious loop each, sums in double, compiled without contraction.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/kernels.h"
#include "quant/layout.h"

namespace mm::kernels {
namespace {

bool is_always_supported() { return true; }

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

float activate(Activation kind, float x) {
  const double v = x;
  switch (kind) {
    case Activation::none:
      return x;
    case Activation::relu:
      return std::max(x, 0.0f);
    case Activation::relu6:
      return std::min(std::max(x, 0.0f), 6.0f);
    case Activation::silu:
      return static_cast<float>(v * sigmoid(v));
    case Activation::gelu:
      return static_cast<float>(0.5 * v * std::erfc(-v * std::sqrt(0.5)));  // erfc keeps the negative tail's digits
    case Activation::sigmoid:
      return static_cast<float>(sigmoid(v));
    case Activation::hard_swish:
      return static_cast<float>(v * std::min(std::max(v + 3.0, 0.0), 6.0) / 6.0);
    case Activation::tanh:
      return static_cast<float>(std::tanh(v));
    case Activation::hard_sigmoid:
      return static_cast<float>(std::min(std::max(v + 3.0, 0.0), 6.0) / 6.0);
  }
  return x;
}

template <int bits>
void linear(const LinearArgs& a) {
  for (int r = 0; r < a.m; ++r) {
    const int8_t* x = a.x + static_cast<int64_t>(r) * a.k_padded;
    int32_t* out = a.out + static_cast<int64_t>(r) * a.out_stride;
    for (int tile = a.tile_begin; tile < a.tile_end; ++tile) {
      for (int c = 0; c < quant::tile_rows; ++c) {
        const int row = tile * quant::tile_rows + c;
        int64_t dot = 0;
        for (int k = 0; k < a.k_padded; ++k) dot += quant::code_at(a.weight, bits, a.k_padded, row, k) * x[k];
        out[(tile - a.tile_begin) * quant::tile_rows + c] =
            static_cast<int32_t>(2 * dot - static_cast<int64_t>(a.zero2) * a.x_sum[r]);
      }
    }
  }
}

void quantize_rows(const float* x, int m, int k, int8_t* q, int k_padded, float* scale, int32_t* sum) {
  for (int r = 0; r < m; ++r, x += k, q += k_padded) {
    float largest = 0;
    for (int i = 0; i < k; ++i) {
      const float magnitude = std::fabs(x[i]);
      if (magnitude > largest) largest = magnitude;  // false for NaN, so NaN counts as 0
    }
    largest = std::min(largest, FLT_MAX);  // an infinity gets the code of the largest float
    const bool is_zero = largest < 1e-30f;
    const float inverse = is_zero ? 0.0f : 127.0f / largest;
    scale[r] = is_zero ? 0.0f : largest / 127.0f;
    int32_t row_sum = 0;
    for (int i = 0; i < k; ++i) {
      const float scaled = is_zero || std::isnan(x[i]) ? 0.0f : x[i] * inverse;
      const float clamped = std::min(std::max(scaled, -127.0f), 127.0f);
      q[i] = static_cast<int8_t>(std::nearbyintf(clamped));  // the default rounding mode: half to even
      row_sum += q[i];
    }
    for (int i = k; i < k_padded; ++i) q[i] = 0;
    sum[r] = row_sum;
  }
}

Magnitude largest_magnitude(const float* x, int64_t count) {
  Magnitude found = {0, true};
  for (int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(x[i])) found.is_finite = false;
    if (!std::isnan(x[i])) found.largest = std::max(found.largest, std::min(std::fabs(x[i]), FLT_MAX));
  }
  return found;
}

void quantize_scaled(const QuantizeArgs& a) {
  for (int64_t r = 0; r < int64_t{a.m} * a.copies; ++r) {
    const float* x = a.x + r / a.copies * a.k;
    for (int i = 0; i < a.k; ++i) {
      const float scaled = std::isnan(x[i]) ? 0.0f : x[i] * a.inverse;
      int8_t& code = a.q[r * a.q_step + i];
      code = static_cast<int8_t>(std::nearbyintf(std::min(std::max(scaled, -127.0f), 127.0f)));
      a.sum[r] += code;
    }
  }
}

void linear_epilogue(const EpilogueArgs& a) {
  for (int r = 0; r < a.m; ++r) {
    for (int c = 0; c < a.columns; ++c) {
      const int64_t at = static_cast<int64_t>(r) * a.y_stride + c;
      const float factor = a.x_scale[r] * (0.5f * a.weight_scale[c]);
      const float accumulated = static_cast<float>(a.acc[static_cast<int64_t>(r) * a.acc_stride + c]);
      const float linear = accumulated * factor + (a.bias ? a.bias[c] : 0.0f);
      a.y[at] = activate(a.activation, linear) + (a.residual ? a.residual[at] : 0.0f);
    }
  }
}

int8_t code_of(float accumulated, float factor, float offset) {
  const float value = std::nearbyintf(std::fmaf(accumulated, factor, offset));
  return static_cast<int8_t>(std::min(std::max(value, 0.0f), 127.0f));
}

void linear_epilogue_codes(const CodesEpilogueArgs& a) {
  for (int64_t r = 0; r < a.m; ++r) {
    for (int c = 0; c < a.columns; ++c) {
      const float accumulated = static_cast<float>(a.acc[r * a.acc_stride + c]);
      const float factor = a.x_scale[r] * (0.5f * a.weight_scale[c]);
      a.y[r * a.y_stride + c] = code_of(accumulated, factor, a.bias ? a.bias[c] : 0.0f);
    }
  }
}

void spread_codes(const int8_t* x, int m, int k, int8_t* q, int k_padded, int32_t* sum) {
  for (int r = 0; r < m; ++r, x += k, q += k_padded) {
    sum[r] = 0;
    for (int i = 0; i < k_padded; ++i) {
      q[i] = i < k ? x[i] : int8_t{0};
      sum[r] += q[i];
    }
  }
}

void linear_f32(const LinearF32Args& a) {
  for (int r = 0; r < a.m; ++r) {
    for (int c = a.column_begin; c < a.column_end; ++c) {
      double dot = a.bias ? a.bias[c] : 0.0;
      for (int k = 0; k < a.k; ++k) {
        dot += static_cast<double>(a.x[static_cast<int64_t>(r) * a.k + k]) * a.w[static_cast<int64_t>(k) * a.n + c];
      }
      const int64_t at = static_cast<int64_t>(r) * a.n + c;
      a.y[at] = activate(a.activation, static_cast<float>(dot)) + (a.residual ? a.residual[at] : 0.0f);
    }
  }
}

// Calls add(kernel position, input position) for every tap of output (row, column) that lies inside the picture.
template <class Add>
void for_each_tap(const ConvArgs& a, int row, int column, Add add) {
  for (int ky = 0; ky < a.kernel_h; ++ky) {
    const int y = row * a.stride_h - a.pad_top + ky;
    if (y < 0 || y >= a.height) continue;
    for (int kx = 0; kx < a.kernel_w; ++kx) {
      const int x = column * a.stride_w - a.pad_left + kx;
      if (x < 0 || x >= a.width) continue;
      add(static_cast<int64_t>(ky) * a.kernel_w + kx, static_cast<int64_t>(y) * a.width + x);
    }
  }
}

void normalize_bytes(const uint8_t* x, float* y, int64_t pixels, const float* mean, const float* factor) {
  for (int64_t i = 0; i < pixels * 3; ++i) y[i] = (static_cast<float>(x[i]) - mean[i % 3]) * factor[i % 3];
}

void conv2d_f32(const ConvArgs& a) {
  for (int row = a.row_begin; row < a.row_end; ++row) {
    for (int column = 0; column < a.out_width; ++column) {
      float* y = a.y + (static_cast<int64_t>(row) * a.out_width + column) * a.channels_out;
      for (int c = 0; c < a.channels_out; ++c) {
        double total = a.bias ? a.bias[c] : 0.0;
        for_each_tap(a, row, column, [&](int64_t tap, int64_t pixel) {
          for (int i = 0; i < a.channels_in; ++i) {
            total += static_cast<double>(a.x[pixel * a.channels_in + i]) *
                     a.w[(tap * a.channels_in + i) * a.channels_out + c];
          }
        });
        y[c] = activate(a.activation, static_cast<float>(total));
      }
    }
  }
}

void conv2d_depthwise_f32(const ConvArgs& a) {
  for (int row = a.row_begin; row < a.row_end; ++row) {
    for (int column = 0; column < a.out_width; ++column) {
      float* y = a.y + (static_cast<int64_t>(row) * a.out_width + column) * a.channels_out;
      for (int c = 0; c < a.channels_out; ++c) {
        double total = a.bias ? a.bias[c] : 0.0;
        for_each_tap(a, row, column, [&](int64_t tap, int64_t pixel) {
          total += static_cast<double>(a.x[pixel * a.channels_in + c]) * a.w[tap * a.channels_out + c];
        });
        y[c] = activate(a.activation, static_cast<float>(total));
      }
    }
  }
}

void conv2d_depthwise_codes(const CodesConvArgs& args) {
  const ConvArgs& a = args.window;
  for (int row = a.row_begin; row < a.row_end; ++row) {
    for (int column = 0; column < a.out_width; ++column) {
      int8_t* y = args.y + (static_cast<int64_t>(row) * a.out_width + column) * a.channels_out;
      for (int c = 0; c < a.channels_out; ++c) {
        int32_t total = 0;
        for_each_tap(a, row, column, [&](int64_t tap, int64_t pixel) {
          total += args.x[pixel * a.channels_in + c] * args.w[tap * a.channels_out + c];
        });
        y[c] = code_of(static_cast<float>(total), args.scale[c], a.bias ? a.bias[c] : 0.0f);
      }
    }
  }
}

void max_pool2d_f32(const ConvArgs& a) {
  for (int row = a.row_begin; row < a.row_end; ++row) {
    for (int column = 0; column < a.out_width; ++column) {
      float* y = a.y + (static_cast<int64_t>(row) * a.out_width + column) * a.channels_out;
      for (int c = 0; c < a.channels_out; ++c) {
        float largest = -std::numeric_limits<float>::infinity();
        for_each_tap(a, row, column,
                     [&](int64_t, int64_t pixel) { largest = std::max(largest, a.x[pixel * a.channels_in + c]); });
        y[c] = largest;
      }
    }
  }
}

void average_pool2d_f32(const ConvArgs& a) {
  for (int row = a.row_begin; row < a.row_end; ++row) {
    for (int column = 0; column < a.out_width; ++column) {
      float* y = a.y + (static_cast<int64_t>(row) * a.out_width + column) * a.channels_out;
      for (int c = 0; c < a.channels_out; ++c) {
        double total = 0;
        int taps = 0;
        for_each_tap(a, row, column, [&](int64_t, int64_t pixel) {
          total += a.x[pixel * a.channels_in + c];
          ++taps;
        });
        y[c] = static_cast<float>(total / taps);
      }
    }
  }
}

void copy_rows_f32(const float* x, int64_t x_step, float* y, int64_t y_step, int rows, int columns) {
  for (int64_t r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c) y[r * y_step + c] = x[r * x_step + c];
}

void hadamard_f32(const float* x, float* y, int64_t count, int block, float factor) {
  for (const float* end = x + count * block; x != end; x += block, y += block) {
    if (x != y) std::copy_n(x, block, y);
    for (int step = 1; step < block; step *= 2) {
      for (int begin = 0; begin < block; begin += 2 * step) {
        for (int i = begin; i < begin + step; ++i) {
          const float first = y[i], second = y[i + step];
          y[i] = first + second;
          y[i + step] = first - second;
        }
      }
    }
    for (int i = 0; i < block; ++i) y[i] *= factor;
  }
}

void sum_rows_f32(const float* x, float* y, int rows, int columns) {
  for (int c = 0; c < columns; ++c) {
    double total = 0;
    for (int r = 0; r < rows; ++r) total += x[static_cast<int64_t>(r) * columns + c];
    y[c] = static_cast<float>(total);
  }
}

void attention_f32(const AttentionArgs& a) {
  const int group = a.heads / a.kv_heads;
  for (int h = a.head_begin; h < a.head_end; ++h) {
    const float* q = a.q + static_cast<int64_t>(h) * a.head_dim;
    const int64_t at = static_cast<int64_t>(h / group) * a.head_dim;
    float largest = -FLT_MAX;
    for (int i = 0; i < a.n; ++i) {
      double dot = 0;
      for (int d = 0; d < a.head_dim; ++d) dot += static_cast<double>(q[d]) * a.k_rows[i][at + d];
      a.scores[i] = static_cast<float>(dot * a.scale);
      largest = std::max(largest, a.scores[i]);
    }
    double total = 0;
    for (int i = 0; i < a.n; ++i) {
      a.scores[i] = static_cast<float>(std::exp(static_cast<double>(a.scores[i]) - largest));
      total += a.scores[i];
    }
    for (int d = 0; d < a.head_dim; ++d) {
      double weighted = 0;
      for (int i = 0; i < a.n; ++i) weighted += static_cast<double>(a.scores[i]) * a.v_rows[i][at + d];
      a.out[static_cast<int64_t>(h) * a.head_dim + d] = static_cast<float>(weighted / total);
    }
  }
}

void rms_norm_f32(const float* x, const float* weight, float* y, int rows, int columns, float epsilon) {
  for (int r = 0; r < rows; ++r, x += columns, y += columns) {
    double squares = 0;
    for (int c = 0; c < columns; ++c) squares += static_cast<double>(x[c]) * x[c];
    const double factor = 1.0 / std::sqrt(squares / columns + static_cast<double>(epsilon));
    for (int c = 0; c < columns; ++c) y[c] = static_cast<float>(x[c] * factor * weight[c]);
  }
}

void layer_norm_f32(const float* x, const float* weight, const float* bias, float* y, int rows, int columns,
                    float epsilon) {
  for (int r = 0; r < rows; ++r, x += columns, y += columns) {
    double mean = 0;
    for (int c = 0; c < columns; ++c) mean += x[c];
    mean /= columns;
    double squares = 0;
    for (int c = 0; c < columns; ++c) squares += (x[c] - mean) * (x[c] - mean);
    const double factor = 1.0 / std::sqrt(squares / columns + static_cast<double>(epsilon));
    for (int c = 0; c < columns; ++c) y[c] = static_cast<float>((x[c] - mean) * factor * weight[c] + bias[c]);
  }
}

void activation_f32(Activation kind, const float* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = activate(kind, x[i]);
}

void silu_mul_f32(const float* gate_up, float* y, int rows, int half) {
  for (int r = 0; r < rows; ++r, gate_up += static_cast<int64_t>(2) * half, y += half) {
    for (int c = 0; c < half; ++c) y[c] = activate(Activation::silu, gate_up[c]) * gate_up[half + c];
  }
}

void softmax_f32(const float* x, float* y, int rows, int columns) {
  for (int r = 0; r < rows; ++r, x += columns, y += columns) {
    const double largest = *std::max_element(x, x + columns);
    double total = 0;
    for (int c = 0; c < columns; ++c) total += std::exp(x[c] - largest);
    for (int c = 0; c < columns; ++c) y[c] = static_cast<float>(std::exp(x[c] - largest) / total);
  }
}

void log_softmax_f32(const float* x, float* y, int rows, int columns) {
  for (int r = 0; r < rows; ++r, x += columns, y += columns) {
    const double largest = *std::max_element(x, x + columns);
    double total = 0;
    for (int c = 0; c < columns; ++c) total += std::exp(x[c] - largest);
    const double shift = largest + std::log(total);
    for (int c = 0; c < columns; ++c) y[c] = static_cast<float>(x[c] - shift);
  }
}

void add_f32(const float* a, const float* b, float* y, int64_t count, int64_t b_count) {
  for (int64_t i = 0; i < count; ++i) y[i] = a[i] + b[i % b_count];
}

void mul_f32(const float* a, const float* b, float* y, int64_t count, int64_t b_count) {
  for (int64_t i = 0; i < count; ++i) y[i] = a[i] * b[i % b_count];
}

const KernelTable table = {"reference",
                           Isa::reference,
                           is_always_supported,
                           linear<2>,
                           linear<4>,
                           linear<8>,
                           quantize_rows,
                           largest_magnitude,
                           quantize_scaled,
                           linear_epilogue,
                           linear_epilogue_codes,
                           spread_codes,
                           linear_f32,
                           normalize_bytes,
                           conv2d_f32,
                           conv2d_depthwise_f32,
                           conv2d_depthwise_codes,
                           max_pool2d_f32,
                           average_pool2d_f32,
                           copy_rows_f32,
                           sum_rows_f32,
                           hadamard_f32,
                           attention_f32,
                           rms_norm_f32,
                           layer_norm_f32,
                           activation_f32,
                           silu_mul_f32,
                           softmax_f32,
                           log_softmax_f32,
                           add_f32,
                           mul_f32};

}  // namespace

const KernelTable* reference_table() { return &table; }

}  // namespace mm::kernels
