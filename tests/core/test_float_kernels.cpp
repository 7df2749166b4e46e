// Holds the float kernels of every table to the plain reference, within bounds derived from the number of roundings.
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "check.h"
#include "guarded_buffer.h"
#include "kernels/kernels.h"

using namespace mm::kernels;
using mm::test::GuardedBuffer;
using mm::test::Random;
using Floats = GuardedBuffer<float>;

namespace {

constexpr double unit = 1.0 / (1 << 24);  // the largest relative error of one float rounding

const KernelTable& reference() { return *reference_table(); }

void fill(Floats& values, Random& random, float scale = 1.0f) {
  for (float& value : values) value = scale * random.normal();
}

Floats& absolute_of(const Floats& values, Floats& out) {
  for (size_t i = 0; i < values.size(); ++i) out[i] = std::fabs(values[i]);
  return out;
}

void expect_close(const Floats& actual, const Floats& expected, const std::function<double(size_t)>& bound) {
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::fabs(static_cast<double>(actual[i]) - static_cast<double>(expected[i]));
    if (!MM_CHECK(error <= bound(i))) {
      std::fprintf(stderr, "  element %zu is %.9g, expected %.9g, bound %.3g\n", i, static_cast<double>(actual[i]),
                   static_cast<double>(expected[i]), bound(i));
      return;
    }
  }
}

bool same_bits(const Floats& a, const Floats& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// The error of one activation. e^x is within 2e-7; what follows adds up to four roundings: 2e-7 + 4 * 6e-8 < 5e-7 of
// the value. gelu(x) = max(x, 0) - |x| erfc(|x| / sqrt 2) / 2, where the second term is at most 0.17 and its exponent
// loses 3 roundings. silu and sigmoid end at e^-88, so they are not smaller than 1e-36 where the true value is.
double activation_error(Activation kind, double y) {
  switch (kind) {
    case Activation::none:
    case Activation::relu:
    case Activation::relu6:
      return 0;
    case Activation::gelu:
      return 3e-7 + 2 * unit * std::fabs(y);
    default:
      return 5e-7 * std::fabs(y) + 1e-36;
  }
}

// No activation is steeper than hard_swish at 3.
constexpr double steepest = 1.5;

constexpr Activation all_activations[] = {Activation::none,       Activation::relu, Activation::relu6,
                                          Activation::silu,       Activation::gelu, Activation::sigmoid,
                                          Activation::hard_swish, Activation::tanh, Activation::hard_sigmoid};

void test_activations(const KernelTable& table) {
  static_assert(sizeof(all_activations) / sizeof(all_activations[0]) == activation_count);
  for (Activation kind : all_activations) {
    Floats x(20011), y(x.size()), expected(x.size());
    for (size_t i = 0; i < x.size(); ++i) x[i] = (static_cast<float>(i) - 10000.0f) * 0.0025f;
    const float special[] = {0.0f, -0.0f, 1e-30f, -1e-30f, 1e-38f, 88.0f, -87.0f, 100.0f, -100.0f, 1e30f, -1e30f};
    for (size_t i = 0; i < 11; ++i) x[20000 + i] = special[i];
    table.activation_f32(kind, x.data(), y.data(), static_cast<int64_t>(x.size()));
    reference().activation_f32(kind, x.data(), expected.data(), static_cast<int64_t>(x.size()));
    expect_close(y, expected, [&](size_t i) { return activation_error(kind, static_cast<double>(expected[i])); });
    table.activation_f32(kind, x.data(), x.data(), static_cast<int64_t>(x.size()));  // in place
    MM_CHECK(same_bits(x, y));
  }
  for (int count = 1; count <= 40; ++count) {
    Floats x(static_cast<size_t>(count)), y(x.size()), whole(40), whole_y(40);
    for (size_t i = 0; i < 40; ++i) whole[i] = static_cast<float>(i) * 0.3f - 5.0f;
    std::memcpy(x.data(), whole.data(), x.size() * sizeof(float));
    table.activation_f32(Activation::gelu, x.data(), y.data(), count);
    table.activation_f32(Activation::gelu, whole.data(), whole_y.data(), 40);
    MM_CHECK(std::memcmp(y.data(), whole_y.data(), y.size() * sizeof(float)) == 0);  // a tail computes the same bits
  }
}

void test_quantize_rows(const KernelTable& table) {
  Random random(11);
  for (int k : {1, 3, 7, 8, 15, 16, 17, 31, 33, 48, 100, 576, 1153}) {
    const int k_padded = (k + 15) / 16 * 16;
    const int m = 12;
    Floats x(static_cast<size_t>(m * k));
    fill(x, random, 3.0f);
    const auto row = [&](int r) { return x.data() + r * k; };
    for (int i = 0; i < k; ++i) {
      row(1)[i] = 0.0f;                                                    // a row of zeros
      row(2)[i] = 1e-31f * static_cast<float>(i % 3 - 1);                  // too small to count
      row(3)[i] = static_cast<float>(i % 255 - 127) * 0.5f;                // ties: halves of steps
      row(4)[i] = i % 2 ? NAN : static_cast<float>(i);                     // NaN counts as 0
      row(5)[i] = i % 3 == 1 ? INFINITY : i % 3 == 2 ? -INFINITY : 1e38f;  // infinities clamp
      row(6)[i] = 1e-40f;                                                  // denormal
      row(7)[i] = NAN;
      row(8)[i] = i ? FLT_MIN * static_cast<float>(i) : 1e-29f;
      row(9)[i] = i % 2 ? -FLT_MAX : FLT_MAX;
    }
    row(3)[0] = 127.0f;  // step 1, so the halves are ties
    row(10)[0] = INFINITY;
    GuardedBuffer<int8_t> q(static_cast<size_t>(m * k_padded)), expected_q(q.size());
    Floats scale(static_cast<size_t>(m)), expected_scale(scale.size());
    GuardedBuffer<int32_t> sum(static_cast<size_t>(m)), expected_sum(sum.size());
    std::memset(q.data(), 77, q.size());
    table.quantize_rows(x.data(), m, k, q.data(), k_padded, scale.data(), sum.data());
    reference().quantize_rows(x.data(), m, k, expected_q.data(), k_padded, expected_scale.data(), expected_sum.data());
    MM_CHECK(std::memcmp(q.data(), expected_q.data(), q.size()) == 0);
    MM_CHECK(std::memcmp(sum.data(), expected_sum.data(), sum.size() * sizeof(int32_t)) == 0);
    MM_CHECK(same_bits(scale, expected_scale));
    for (float s : scale) MM_CHECK(std::isfinite(s));
    for (int8_t code : q) MM_CHECK(code >= -127);
    for (int i = 0; i < k; ++i) {
      MM_CHECK(q[static_cast<size_t>(1 * k_padded + i)] == 0 && q[static_cast<size_t>(2 * k_padded + i)] == 0);
      if (std::fabs(row(0)[i]) <=
          scale[0] * 127) {  // a step is `scale`: rounding cannot be further off than half of one
        const double error =
            std::fabs(static_cast<double>(row(0)[i]) - static_cast<double>(scale[0]) * q[static_cast<size_t>(i)]);
        MM_CHECK(error <= static_cast<double>(scale[0]) * 0.50002);
      }
    }
    MM_CHECK(q[static_cast<size_t>(10 * k_padded)] == 127);
  }
}

void test_quantize_scaled(const KernelTable& table) {
  Random random(20);
  const float specials[] = {0.0f, NAN, -INFINITY, -FLT_MAX, -NAN};
  for (int k : {1, 3, 8, 16, 19, 32, 48, 64, 577}) {
    for (int m : {1, 2, 4, 7, 33}) {
      for (int kind = 0; kind < 6; ++kind) {
        Floats x(static_cast<size_t>(m * k));
        fill(x, random, 3.0f);
        if (kind > 0) x[x.size() / 2] = specials[kind - 1];
        const Magnitude found = table.largest_magnitude(x.data(), m * k);
        const Magnitude expected_found = reference().largest_magnitude(x.data(), m * k);
        MM_CHECK(found.largest == expected_found.largest && found.is_finite == expected_found.is_finite);
        MM_CHECK(found.is_finite == (kind < 2 || kind == 4));
        MM_CHECK(found.largest <= FLT_MAX);
        for (int copies : {1, 2, 5}) {  // rows of q lie apart, with bytes between them that stay
          const int64_t step = k + copies % 2 * 3;
          const size_t rows = static_cast<size_t>(m * copies);
          GuardedBuffer<int8_t> q((rows - 1) * static_cast<size_t>(step) + static_cast<size_t>(k)),
              expected_q(q.size());
          GuardedBuffer<int32_t> sum(rows), expected_sum(rows);
          std::memset(q.data(), 77, q.size());
          std::memset(expected_q.data(), 77, q.size());
          for (size_t i = 0; i < rows; ++i) sum[i] = expected_sum[i] = static_cast<int32_t>(i) * 1000;
          const float inverse = found.largest > 0 ? 127.0f / found.largest : 0.0f;
          table.quantize_scaled({x.data(), m, k, inverse, found.is_finite, q.data(), step, copies, sum.data()});
          reference().quantize_scaled(
              {x.data(), m, k, inverse, found.is_finite, expected_q.data(), step, copies, expected_sum.data()});
          MM_CHECK(std::memcmp(q.data(), expected_q.data(), q.size()) == 0);
          MM_CHECK(std::memcmp(sum.data(), expected_sum.data(), rows * sizeof(int32_t)) == 0);
        }
      }
    }
  }
}

void test_normalize_bytes(const KernelTable& table) {
  const float mean[3] = {123.675f, 116.28f, 103.53f}, factor[3] = {0.017124754f, 0.017507003f, 0.01742919f};
  for (int pixels : {1, 2, 5, 15, 16, 17, 64, 259}) {
    GuardedBuffer<uint8_t> x(static_cast<size_t>(pixels) * 3);
    Floats y(x.size()), expected(x.size());
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint8_t>(i * 37 + i / 256);
    table.normalize_bytes(x.data(), y.data(), pixels, mean, factor);
    reference().normalize_bytes(x.data(), expected.data(), pixels, mean, factor);
    MM_CHECK(same_bits(y, expected));  // a subtraction and a product, each rounded once
  }
}

void test_linear_epilogue(const KernelTable& table) {
  Random random(12);
  for (Activation kind : all_activations) {
    for (int columns : {1, 5, 16, 24, 33, 112}) {
      for (int options = 0; options < 4; ++options) {
        const int m = 7, acc_stride = (columns + 15) / 16 * 16, y_stride = columns + 2;
        GuardedBuffer<int32_t> acc(static_cast<size_t>(acc_stride * (m - 1) + columns));
        for (int32_t& value : acc) value = random.between(-2000000, 2000000);
        acc[0] = INT32_MAX;
        Floats x_scale(static_cast<size_t>(m)), weight_scale(static_cast<size_t>(columns)), bias(weight_scale.size());
        Floats residual(static_cast<size_t>(y_stride * (m - 1) + columns)), y(residual.size()),
            expected(residual.size());
        for (float& value : x_scale) value = 1e-3f * (1.5f + random.uniform());
        for (float& value : weight_scale) value = 1e-3f * (1.5f + random.uniform());
        fill(bias, random);
        fill(residual, random);
        EpilogueArgs args{acc.data(),
                          acc_stride,
                          x_scale.data(),
                          weight_scale.data(),
                          options & 1 ? bias.data() : nullptr,
                          options & 2 ? residual.data() : nullptr,
                          expected.data(),
                          y_stride,
                          m,
                          columns,
                          kind};
        reference().linear_epilogue(args);
        args.y = y.data();
        table.linear_epilogue(args);
        expect_close(y, expected, [&](size_t i) {
          const size_t r = i / static_cast<size_t>(y_stride), c = i % static_cast<size_t>(y_stride);
          if (c >= static_cast<size_t>(columns)) return 0.0;
          const double before =
              std::fabs(acc[r * static_cast<size_t>(acc_stride) + c] * static_cast<double>(x_scale[r]) *
                        static_cast<double>(weight_scale[c]) * 0.5) +
              std::fabs(static_cast<double>(bias[c]));
          const double after =
              std::fabs(static_cast<double>(expected[i])) + std::fabs(static_cast<double>(residual[i]));
          return steepest * 6 * unit * before + activation_error(kind, after) + 2 * unit * after;
        });
        Floats rows(y.size());  // one by one and several at a time give the same bits
        for (int r = 0; r < m; ++r) {
          EpilogueArgs one = args;
          one.acc += r * acc_stride;
          one.x_scale += r;
          one.residual = args.residual ? args.residual + r * y_stride : nullptr;
          one.y = rows.data() + r * y_stride;
          one.m = 1;
          table.linear_epilogue(one);
        }
        MM_CHECK(same_bits(rows, y));
        if (options & 2) {  // the residual may be y itself
          args.residual = args.y = residual.data();
          table.linear_epilogue(args);
          for (int r = 0; r < m; ++r) {
            MM_CHECK(std::memcmp(residual.data() + r * y_stride, y.data() + r * y_stride,
                                 static_cast<size_t>(columns) * sizeof(float)) == 0);
          }
        }
      }
    }
  }
}

void test_linear_f32(const KernelTable& table) {
  Random random(13);
  const int shapes[][3] = {{1, 1, 1},   {1, 7, 3},     {2, 33, 17},   {5, 64, 32},
                           {7, 31, 50}, {13, 100, 71}, {1, 576, 130}, {24, 16, 96}};
  for (const auto& shape : shapes) {
    const int m = shape[0], k = shape[1], n = shape[2];
    Floats x(static_cast<size_t>(m * k)), w(static_cast<size_t>(k * n)), bias(static_cast<size_t>(n));
    Floats residual(static_cast<size_t>(m * n)), y(residual.size()), expected(residual.size()),
        largest(residual.size());
    fill(x, random);
    fill(w, random);
    fill(bias, random);
    fill(residual, random);
    Floats ax(x.size()), aw(w.size()), ab(bias.size());
    reference().linear_f32({absolute_of(x, ax).data(), absolute_of(w, aw).data(), absolute_of(bias, ab).data(), nullptr,
                            largest.data(), m, k, n, 0, n, Activation::none});
    for (Activation kind : all_activations) {
      const bool with = static_cast<int>(kind) % 2 == 0;
      LinearF32Args args{x.data(), w.data(), bias.data(), with ? residual.data() : nullptr, expected.data(), m, k, n,
                         0,        n,        kind};
      reference().linear_f32(args);
      args.y = y.data();
      table.linear_f32(args);
      expect_close(y, expected, [&](size_t i) {
        const double after = std::fabs(static_cast<double>(expected[i])) + std::fabs(static_cast<double>(residual[i]));
        return steepest * (k + 2) * unit * static_cast<double>(largest[i]) + activation_error(kind, after) +
               2 * unit * after;
      });
      Floats pieces(y.size());
      args.y = pieces.data();
      for (int begin = 0; begin < n; begin += 13) {
        args.column_begin = begin;
        args.column_end = begin + 13 < n ? begin + 13 : n;
        table.linear_f32(args);
      }
      MM_CHECK(same_bits(pieces, y));
    }
    LinearF32Args plain{x.data(), w.data(), nullptr, nullptr, expected.data(), m, k, n, 0, n, Activation::none};
    reference().linear_f32(plain);
    plain.y = y.data();
    table.linear_f32(plain);
    expect_close(y, expected, [&](size_t i) { return (k + 2) * unit * static_cast<double>(largest[i]); });
  }
}

struct ConvShape {
  int height, width, channels_in, channels_out, kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, pad_bottom,
      pad_right;
};

void test_conv(const KernelTable& table, const ConvShape& s, bool is_depthwise, Activation kind, Random& random) {
  const int out_height = (s.height + s.pad_top + s.pad_bottom - s.kernel_h) / s.stride_h + 1;
  const int out_width = (s.width + s.pad_left + s.pad_right - s.kernel_w) / s.stride_w + 1;
  const int inputs = is_depthwise ? 1 : s.channels_in;
  Floats x(static_cast<size_t>(s.height * s.width * s.channels_in));
  Floats w(static_cast<size_t>(s.kernel_h * s.kernel_w * inputs * s.channels_out)),
      bias(static_cast<size_t>(s.channels_out));
  Floats y(static_cast<size_t>(out_height * out_width * s.channels_out)), expected(y.size()), largest(y.size());
  fill(x, random);
  fill(w, random);
  fill(bias, random);
  Floats ax(x.size()), aw(w.size()), ab(bias.size());
  ConvArgs args{absolute_of(x, ax).data(),
                absolute_of(w, aw).data(),
                absolute_of(bias, ab).data(),
                largest.data(),
                s.height,
                s.width,
                s.channels_in,
                out_height,
                out_width,
                s.channels_out,
                s.kernel_h,
                s.kernel_w,
                s.stride_h,
                s.stride_w,
                s.pad_top,
                s.pad_left,
                0,
                out_height,
                Activation::none};
  const auto run = [&](const KernelTable& t) { is_depthwise ? t.conv2d_depthwise_f32(args) : t.conv2d_f32(args); };
  run(reference());
  args.x = x.data();
  args.w = w.data();
  args.bias = bias.data();
  args.activation = kind;
  args.y = expected.data();
  run(reference());
  args.y = y.data();
  run(table);
  const double roundings = s.kernel_h * s.kernel_w * inputs + 1;
  expect_close(y, expected, [&](size_t i) {
    const double after = std::fabs(static_cast<double>(expected[i]));
    return steepest * roundings * unit * static_cast<double>(largest[i]) + activation_error(kind, after) + unit * after;
  });
  Floats pieces(y.size());
  args.y = pieces.data();
  for (int row = 0; row < out_height; row += 2) {
    args.row_begin = row;
    args.row_end = row + 2 < out_height ? row + 2 : out_height;
    run(table);
  }
  MM_CHECK(same_bits(pieces, y));
  args.bias = nullptr;
  args.y = expected.data();
  args.row_begin = 0;
  args.row_end = out_height;
  args.activation = Activation::none;
  run(reference());
  args.y = y.data();
  run(table);
  expect_close(y, expected, [&](size_t i) { return roundings * unit * static_cast<double>(largest[i]); });
}

void test_conv2d(const KernelTable& table) {
  Random random(14);
  const ConvShape shapes[] = {{17, 23, 3, 32, 3, 3, 2, 2, 0, 0, 1, 1},  // the stem of EfficientNet-Lite0, in small
                              {16, 16, 3, 32, 3, 3, 2, 2, 1, 1, 1, 1}, {9, 11, 5, 7, 3, 3, 1, 1, 1, 1, 1, 1},
                              {8, 20, 16, 48, 3, 3, 1, 1, 1, 1, 1, 1}, {5, 5, 4, 70, 1, 1, 1, 1, 0, 0, 0, 0},
                              {6, 30, 2, 33, 5, 3, 1, 2, 2, 1, 2, 1},  {2, 2, 3, 17, 5, 5, 1, 1, 2, 2, 2, 2},
                              {1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0},    {7, 40, 3, 16, 2, 2, 2, 2, 0, 0, 0, 0},
                              {9, 21, 16, 8, 2, 2, 1, 1, 0, 0, 1, 1},  {6, 19, 4, 12, 3, 3, 1, 1, 1, 1, 1, 1}};
  int i = 0;
  for (const ConvShape& shape : shapes) test_conv(table, shape, false, all_activations[i++ % activation_count], random);
}

void test_conv2d_depthwise(const KernelTable& table) {
  Random random(15);
  int i = 0;
  for (int side : {3, 5, 7, 2}) {
    for (int stride : {1, 2, 3}) {
      for (int channels : {1, 8, 16, 19, 32, 45, 130, 144}) {
        const int before = (side - 1) / 2, after = side / 2;
        for (const auto& size : {std::pair{7, 7}, std::pair{11, 14}, std::pair{5, 33}, std::pair{2, 3}}) {
          if (size.first + before + after < side || size.second + before + after < side) continue;
          const ConvShape shape{size.first, size.second, channels, channels, side,  side,
                                stride,     stride,      before,   before,   after, after};
          test_conv(table, shape, true, all_activations[i++ % activation_count], random);
        }
        const ConvShape right_padded{14, 14, channels, channels, side, side, stride, stride, 0, 0, side - 1, side - 1};
        test_conv(table, right_padded, true, Activation::relu6, random);
      }
    }
  }
  test_conv(table, {9, 9, 20, 20, 3, 5, 1, 2, 1, 2, 1, 2}, true, Activation::relu6, random);
  test_conv(table, {12, 12, 24, 24, 3, 3, 2, 1, 1, 1, 1, 1}, true, Activation::none, random);
}

void test_pooling(const KernelTable& table) {
  Random random(21);
  const ConvShape shapes[] = {{20, 31, 16, 16, 2, 2, 1, 1, 0, 0, 1, 1},
                              {3, 40, 160, 160, 3, 2, 3, 2, 0, 0, 0, 0},
                              {9, 11, 19, 19, 3, 5, 2, 1, 2, 1, 1, 4},
                              {1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0}};
  for (const ConvShape& s : shapes) {
    const int out_height = (s.height + s.pad_top + s.pad_bottom - s.kernel_h) / s.stride_h + 1;
    const int out_width = (s.width + s.pad_left + s.pad_right - s.kernel_w) / s.stride_w + 1;
    Floats x(static_cast<size_t>(s.height * s.width * s.channels_in));
    Floats y(static_cast<size_t>(out_height * out_width * s.channels_out)), expected(y.size()), pieces(y.size());
    fill(x, random);
    const ConvArgs args{x.data(),        nullptr,    nullptr,   y.data(),       s.height,   s.width,
                        s.channels_in,   out_height, out_width, s.channels_out, s.kernel_h, s.kernel_w,
                        s.stride_h,      s.stride_w, s.pad_top, s.pad_left,     0,          out_height,
                        Activation::none};
    for (const bool is_max : {true, false}) {
      const auto kernel = is_max ? &KernelTable::max_pool2d_f32 : &KernelTable::average_pool2d_f32;
      ConvArgs part = args;
      (table.*kernel)(part);
      part.y = expected.data();
      (reference().*kernel)(part);
      // A sum of n numbers below 5 is off by n roundings of it, the division adds one.
      const int taps = s.kernel_h * s.kernel_w;
      expect_close(y, expected, [&](size_t) { return is_max ? 0.0 : (taps + 1) * unit * 5; });
      part.y = pieces.data();
      for (int row = 0; row < out_height; ++row) {
        part.row_begin = row;
        part.row_end = row + 1;
        (table.*kernel)(part);
      }
      MM_CHECK(same_bits(pieces, y));
    }
  }
}

void test_rows(const KernelTable& table) {
  Random random(22);
  for (int columns : {1, 7, 16, 33, 96}) {
    for (int rows : {1, 3, 4, 5, 256}) {
      Floats x(static_cast<size_t>(rows * columns)), y(static_cast<size_t>(columns)), expected(y.size());
      fill(x, random);
      table.sum_rows_f32(x.data(), y.data(), rows, columns);
      reference().sum_rows_f32(x.data(), expected.data(), rows, columns);
      expect_close(y, expected, [&](size_t c) {
        double magnitude = 0;
        for (int r = 0; r < rows; ++r)
          magnitude += std::fabs(static_cast<double>(x[static_cast<size_t>(r * columns) + c]));
        return rows * unit * magnitude;
      });
      const int step = columns + 3;
      Floats wide(static_cast<size_t>((rows - 1) * step + columns)), wide_expected(wide.size());
      table.copy_rows_f32(x.data(), columns, wide.data(), step, rows, columns);
      reference().copy_rows_f32(x.data(), columns, wide_expected.data(), step, rows, columns);
      MM_CHECK(same_bits(wide, wide_expected));
      Floats repeated(x.size());
      table.copy_rows_f32(x.data(), 0, repeated.data(), columns, rows, columns);
      for (int r = 0; r < rows; ++r)
        MM_CHECK(std::memcmp(repeated.data() + r * columns, x.data(), y.size() * sizeof(float)) == 0);
    }
  }
}

// Every block size that kernels treat apart: within a vector, a few vectors, an odd and an even number of rounds
// beyond.
void test_hadamard(const KernelTable& table) {
  Random random(27);
  for (int block : {2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}) {
    for (int count : {1, 3, 9}) {
      Floats x(static_cast<size_t>(count * block)), y(x.size()), expected(x.size()), pieces(x.size());
      fill(x, random);
      table.hadamard_f32(x.data(), y.data(), count, block, 0.3f);
      reference().hadamard_f32(x.data(), expected.data(), count, block, 0.3f);
      MM_CHECK(same_bits(y, expected));
      for (int i = 0; i < count; ++i)
        table.hadamard_f32(x.data() + i * block, pieces.data() + i * block, 1, block, 0.3f);
      MM_CHECK(same_bits(pieces, y));
      // Its own inverse, up to the block's size; in place.
      table.hadamard_f32(y.data(), y.data(), count, block, 1 / (0.3f * static_cast<float>(block)));
      double largest = 0;
      for (size_t i = 0; i < x.size(); ++i) largest = std::max(largest, std::fabs(static_cast<double>(x[i])));
      expect_close(y, x, [&](size_t) { return 24 * unit * largest * std::sqrt(static_cast<double>(block)); });
    }
  }
}

void test_attention(const KernelTable& table) {
  Random random(16);
  for (int head_dim : {4, 20, 32, 64, 96, 128, 144}) {
    for (int n : {1, 2, 15, 16, 49, 101}) {
      const int heads = 6, kv_heads = head_dim == 64 ? 6 : 2, width = kv_heads * head_dim;
      Floats q(static_cast<size_t>(heads * head_dim)), keys(static_cast<size_t>(n * width)), values(keys.size());
      Floats scores(static_cast<size_t>(n)), out(q.size()), expected(q.size()), pieces(q.size());
      fill(q, random);
      fill(keys, random);
      fill(values, random);
      std::vector<const float*> k_rows, v_rows;
      for (int i = 0; i < n; ++i) {
        k_rows.push_back(keys.data() + (n - 1 - i) * width);
        v_rows.push_back(values.data() + i * width);
      }
      const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
      AttentionArgs args{q.data(), k_rows.data(), v_rows.data(),  n, heads, kv_heads, head_dim, 0, heads,
                         scale,    scores.data(), expected.data()};
      reference().attention_f32(args);
      args.out = out.data();
      table.attention_f32(args);
      // A score's error is at most head_dim + 2 roundings of sum |q k| * scale, which is below 9 * head_dim * scale
      // here (|q|, |k| < 3 for nearly all, |q k| < 18 for all); both scores and largest score are off, so weights are
      // by twice that, relatively.
      const double score_error = (head_dim + 2) * unit * 18 * head_dim * static_cast<double>(scale);
      expect_close(out, expected, [&](size_t) { return (2 * score_error + 5e-7 + (2 * n + 4) * unit) * 4.3; });
      args.out = pieces.data();
      for (int h = 0; h < heads; ++h) {
        args.head_begin = h;
        args.head_end = h + 1;
        table.attention_f32(args);
      }
      MM_CHECK(same_bits(pieces, out));
    }
  }
}

void test_norms(const KernelTable& table) {
  Random random(17);
  for (int columns : {1, 3, 8, 17, 33, 64, 384, 576, 1283}) {
    const int rows = 3;
    Floats x(static_cast<size_t>(rows * columns)), weight(static_cast<size_t>(columns)), bias(weight.size());
    Floats y(x.size()), expected(x.size());
    fill(x, random, 2.0f);
    for (float& value : x) value += 1.0f;
    fill(weight, random);
    fill(bias, random);
    table.rms_norm_f32(x.data(), weight.data(), y.data(), rows, columns, 1e-6f);
    reference().rms_norm_f32(x.data(), weight.data(), expected.data(), rows, columns, 1e-6f);
    // A sum of positive numbers is off by at most `columns` roundings, its root by half of that, and six follow.
    expect_close(y, expected, [&](size_t i) {
      return (columns / 2.0 + 6) * unit * std::fabs(static_cast<double>(expected[i])) + 1e-12;
    });
    table.layer_norm_f32(x.data(), weight.data(), bias.data(), y.data(), rows, columns, 1e-5f);
    reference().layer_norm_f32(x.data(), weight.data(), bias.data(), expected.data(), rows, columns, 1e-5f);
    for (int r = 0; r < rows; ++r) {
      double mean_magnitude = 0, mean = 0, variance = 0;
      const float* row = x.data() + r * columns;
      for (int c = 0; c < columns; ++c) mean_magnitude += std::fabs(static_cast<double>(row[c])) / columns;
      for (int c = 0; c < columns; ++c) mean += static_cast<double>(row[c]) / columns;
      for (int c = 0; c < columns; ++c) variance += std::pow(static_cast<double>(row[c]) - mean, 2) / columns;
      const double deviation = std::sqrt(variance + 1e-5);
      const double mean_error = (columns + 2) * unit * mean_magnitude;
      for (int c = 0; c < columns; ++c) {
        const size_t i = static_cast<size_t>(r * columns + c);
        const double normal = std::fabs(static_cast<double>(row[c]) - mean) / deviation;
        const double bound = std::fabs(static_cast<double>(weight[static_cast<size_t>(c)])) *
                                 (mean_error / deviation * (1 + normal) + (columns / 2.0 + 8) * unit * normal +
                                  unit * std::fabs(static_cast<double>(row[c])) / deviation) +
                             2 * unit *
                                 (std::fabs(static_cast<double>(expected[i])) +
                                  std::fabs(static_cast<double>(bias[static_cast<size_t>(c)])));
        MM_CHECK(std::fabs(static_cast<double>(y[i]) - static_cast<double>(expected[i])) <= bound + 1e-12);
      }
    }
  }
}

void test_softmax(const KernelTable& table) {
  Random random(18);
  for (int columns : {1, 2, 7, 16, 31, 49, 100, 2901}) {
    const int rows = 3;
    Floats x(static_cast<size_t>(rows * columns)), y(x.size()), expected(x.size());
    fill(x, random, 4.0f);
    for (int c = 0; c < columns; ++c)
      x[static_cast<size_t>(columns + c)] -= 500.0f;  // far from 0: the largest is taken off first
    x[x.size() - 1] = -INFINITY;
    if (columns == 1) x[x.size() - 1] = -3.0f;
    table.softmax_f32(x.data(), y.data(), rows, columns);
    reference().softmax_f32(x.data(), expected.data(), rows, columns);
    const auto relative = [&](size_t i) {
      const double shift = 60.0 * unit;  // x - largest is rounded once, at no more than 60 here
      return (2 * (2e-7 + shift) + (columns + 4) * unit) * std::fabs(static_cast<double>(expected[i]));
    };
    expect_close(y, expected, relative);
    if (columns > 1) MM_CHECK(y[y.size() - 1] == 0.0f);  // a masked entry gets nothing at all
    Floats in_place(x.size());
    std::memcpy(in_place.data(), x.data(), x.size() * sizeof(float));
    table.softmax_f32(in_place.data(), in_place.data(), rows, columns);
    MM_CHECK(same_bits(in_place, y));

    if (columns > 1) x[x.size() - 1] = -2.0f;
    table.log_softmax_f32(x.data(), y.data(), rows, columns);
    reference().log_softmax_f32(x.data(), expected.data(), rows, columns);
    expect_close(y, expected, [&](size_t i) {
      return 4e-7 + (columns + 2) * unit + 4 * unit * std::fabs(static_cast<double>(expected[i]));
    });
  }
}

void test_elementwise(const KernelTable& table) {
  Random random(19);
  for (int b_count : {1, 3, 16, 24, 37}) {
    for (int repeats : {1, 2, 5}) {
      const int count = b_count * repeats;
      Floats a(static_cast<size_t>(count)), b(static_cast<size_t>(b_count)), y(a.size()), expected(a.size());
      fill(a, random);
      fill(b, random);
      table.add_f32(a.data(), b.data(), y.data(), count, b_count);
      reference().add_f32(a.data(), b.data(), expected.data(), count, b_count);
      MM_CHECK(same_bits(y, expected));
      table.mul_f32(a.data(), b.data(), y.data(), count, b_count);
      reference().mul_f32(a.data(), b.data(), expected.data(), count, b_count);
      MM_CHECK(same_bits(y, expected));
    }
  }
  for (int half : {1, 16, 43, 96}) {
    Floats x(static_cast<size_t>(3 * 2 * half)), y(static_cast<size_t>(3 * half)), expected(y.size());
    fill(x, random, 3.0f);
    table.silu_mul_f32(x.data(), y.data(), 3, half);
    reference().silu_mul_f32(x.data(), expected.data(), 3, half);
    expect_close(y, expected, [&](size_t i) { return 6e-7 * std::fabs(static_cast<double>(expected[i])) + 1e-36; });
  }
}

}  // namespace

int main() {
  const TableList list = all_tables();
  int tested = 0;
  for (int i = 0; i < list.count; ++i) {
    const KernelTable& table = *list.tables[i];
    if (!table.is_supported()) {
      std::printf("skipped: %s is not supported by this CPU\n", table.name);
      continue;
    }
    const int before = mm::test::failures;
    test_activations(table);
    test_quantize_rows(table);
    test_quantize_scaled(table);
    test_normalize_bytes(table);
    test_linear_epilogue(table);
    test_linear_f32(table);
    test_conv2d(table);
    test_conv2d_depthwise(table);
    test_pooling(table);
    test_rows(table);
    test_hadamard(table);
    test_attention(table);
    test_norms(table);
    test_softmax(table);
    test_elementwise(table);
    std::printf("%s: %d failed\n", table.name, mm::test::failures - before);
    ++tested;
  }
#if defined(__x86_64__)
  // Silence must not pass for success: a CPU with AVX2 has run at least one fast table.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) MM_CHECK(tested >= 2);
#endif
  return mm::test::finish("float_kernels");
}
