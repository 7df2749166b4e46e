// Holds the kernels over codes of every table to the plain reference: the same bits, whatever the shape and the range.
#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "check.h"
#include "guarded_buffer.h"
#include "kernels/kernels.h"

using namespace mm::kernels;
using mm::test::GuardedBuffer;
using mm::test::Random;
using Floats = GuardedBuffer<float>;
using Bytes = GuardedBuffer<int8_t>;

namespace {

const KernelTable& reference() { return *reference_table(); }

bool same(const Bytes& a, const Bytes& b) { return std::memcmp(a.data(), b.data(), a.size()) == 0; }

struct Shape {
  int height, width, channels, side, stride, pad, pad_left;
};

// How the inputs are drawn: anything; everything largest, so that sums saturate whatever is narrower than 32 bits; or
// factors so large that results leave the range of an int32.
enum class Draw { any, largest, beyond };

void test_depthwise(const KernelTable& table, const Shape& s, Draw draw, Random& random) {
  const int out_height = (s.height + 2 * s.pad - s.side) / s.stride + 1;
  const int out_width = (s.width + 2 * s.pad_left - s.side) / s.stride + 1;
  const size_t channels = static_cast<size_t>(s.channels);
  Bytes x(static_cast<size_t>(s.height * s.width) * channels), w(static_cast<size_t>(s.side * s.side) * channels);
  Floats scale(channels), bias(channels);
  Bytes y(static_cast<size_t>(out_height * out_width) * channels), expected(y.size());
  for (int8_t& code : x) code = static_cast<int8_t>(draw == Draw::largest ? 127 : random.between(0, 127));
  for (int8_t& weight : w) weight = static_cast<int8_t>(draw == Draw::largest ? -128 : random.between(-128, 127));
  for (float& each : scale) each = random.uniform() * (draw == Draw::beyond ? 1e9f : 0.004f);
  for (float& each : bias) each = 60 + 20 * random.uniform();
  if (draw == Draw::largest)
    for (size_t c = 0; c < channels; ++c) scale[c] = -127.5f / (127 * 128 * static_cast<float>(s.side * s.side));
  CodesConvArgs args = {};
  args.window.height = s.height;
  args.window.width = s.width;
  args.window.channels_in = args.window.channels_out = s.channels;
  args.window.out_height = out_height;
  args.window.out_width = out_width;
  args.window.kernel_h = args.window.kernel_w = s.side;
  args.window.stride_h = args.window.stride_w = s.stride;
  args.window.pad_top = s.pad;
  args.window.pad_left = s.pad_left;
  args.window.row_end = out_height;
  args.window.bias = bias.data();
  args.x = x.data();
  args.w = w.data();
  args.scale = scale.data();
  args.y = expected.data();
  reference().conv2d_depthwise_codes(args);
  args.y = y.data();
  std::memset(y.data(), 0x55, y.size());
  table.conv2d_depthwise_codes(args);
  MM_CHECK(same(y, expected));
  std::memset(y.data(), 0x55, y.size());
  for (int row = 0; row < out_height; row += 3) {  // an output does not depend on the rows beside it
    args.window.row_begin = row;
    args.window.row_end = row + 3 < out_height ? row + 3 : out_height;
    table.conv2d_depthwise_codes(args);
  }
  MM_CHECK(same(y, expected));
  args.window.bias = nullptr;
  args.window.row_begin = 0;
  args.window.row_end = out_height;
  table.conv2d_depthwise_codes(args);
  args.y = expected.data();
  reference().conv2d_depthwise_codes(args);
  MM_CHECK(same(y, expected));
}

void test_depthwise(const KernelTable& table) {
  Random random(3);
  for (const int side : {3, 5, 7, 2}) {
    for (const int stride : {1, 2, 3}) {
      for (const int channels : {1, 16, 20, 32, 45, 64, 96, 144}) {
        for (const int width : {1, 2, 7, 16, 17, 40}) {
          const Shape shape = {side + 4, width, channels, side, stride, side / 2, side / 2};
          if (shape.width + 2 * shape.pad_left < side) continue;
          test_depthwise(table, shape, Draw::any, random);
        }
        test_depthwise(table, {9, 11, channels, side, stride, 0, 0}, Draw::largest, random);
        test_depthwise(table, {6, 9, channels, side, stride, side - 1, side - 1}, Draw::beyond, random);
        test_depthwise(table, {side, 3, channels, side, stride, 0, 256}, Draw::any,
                       random);  // the widest pad of a file
      }
    }
  }
}

void test_epilogue(const KernelTable& table) {
  Random random(4);
  for (const int columns : {1, 15, 16, 40, 64, 100, 128, 150}) {
    for (const int rows : {1, 3, 4, 9}) {
      const int stride = columns + 8;
      GuardedBuffer<int32_t> acc(static_cast<size_t>(rows * stride));
      Floats x_scale(static_cast<size_t>(rows)), scale(static_cast<size_t>(columns)), bias(scale.size());
      Bytes y(static_cast<size_t>(rows * columns)), expected(y.size());
      for (int32_t& each : acc) each = random.between(-2000000000, 2000000000) >> random.between(0, 24);
      for (float& each : x_scale) each = 0.01f * random.uniform();
      for (float& each : scale) each = 0.001f * random.uniform();
      for (float& each : bias) each = 64 * random.uniform();
      for (const float* offset : {static_cast<const float*>(bias.data()), static_cast<const float*>(nullptr)}) {
        CodesEpilogueArgs args = {acc.data(), stride,  x_scale.data(), scale.data(), offset,
                                  y.data(),   columns, rows,           columns};
        table.linear_epilogue_codes(args);
        args.y = expected.data();
        reference().linear_epilogue_codes(args);
        MM_CHECK(same(y, expected));
      }
    }
  }
}

void test_spreading(const KernelTable& table) {
  Random random(5);
  for (const int k : {1, 15, 16, 31, 32, 64, 100, 240, 1152}) {
    const int k_padded = (k + 15) / 16 * 16, rows = 5;
    Bytes x(static_cast<size_t>(rows * k)), q(static_cast<size_t>(rows * k_padded)), expected(q.size());
    GuardedBuffer<int32_t> sum(rows), expected_sum(rows);
    for (int8_t& code : x) code = static_cast<int8_t>(random.between(0, 127));
    std::memset(q.data(), 0x55, q.size());
    table.spread_codes(x.data(), rows, k, q.data(), k_padded, sum.data());
    reference().spread_codes(x.data(), rows, k, expected.data(), k_padded, expected_sum.data());
    MM_CHECK(same(q, expected));
    MM_CHECK(std::memcmp(sum.data(), expected_sum.data(), rows * sizeof(int32_t)) == 0);
  }
}

}  // namespace

int main() {
  const TableList tables = all_tables();
  for (int t = 0; t < tables.count; ++t) {
    const KernelTable& table = *tables.tables[t];
    if (!table.is_supported() || table.isa == Isa::reference) continue;
    test_depthwise(table);
    test_epilogue(table);
    test_spreading(table);
  }
  return mm::test::finish("codes");
}
