// Times every table's kernels on one thread, one JSON line a case, as a share of what the same run measured to be
// possible.
//
//   bench_kernels [--table NAME] [--kernel PART_OF_NAME] [--seconds 0.1]
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <string>
#include <vector>

#include "ceilings.h"
#include "kernels/kernels.h"
#include "quant/layout.h"

using namespace mm::kernels;

namespace {

double seconds_a_case = 0.1;
std::string wanted_kernel;
uint64_t sink = 0;

// Memory that begins at a cache line, as the core's own does: a 64-byte load across two lines takes twice the time.
template <class T>
struct LineAllocator {
  using value_type = T;
  LineAllocator() = default;
  template <class U>
  LineAllocator(const LineAllocator<U>&) {}
  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(64))); }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(64)); }
  bool operator==(const LineAllocator&) const { return true; }
  bool operator!=(const LineAllocator&) const { return false; }
};
template <class T>
using Vector = std::vector<T, LineAllocator<T>>;

// Time this thread ran, so that others on the same core do not count.
double now_seconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Seconds of one call: the best of many batches of half a millisecond, because what disturbs a batch only makes it
// slower.
double time_of(const std::function<void()>& call) {
  double start = now_seconds();
  call();
  const double first = now_seconds() - start;
  const int calls = std::max(1, static_cast<int>(5e-4 / std::max(first, 1e-8)));
  double best = first, spent = 0;
  for (int batch = 0; batch < 3 || spent < seconds_a_case; ++batch) {
    start = now_seconds();
    for (int i = 0; i < calls; ++i) call();
    const double elapsed = now_seconds() - start;
    spent += elapsed;
    best = std::min(best, elapsed / calls);
  }
  return best;
}

struct Ceiling {
  const char* level;
  size_t footprint_bytes;  // the most that is served from this level, and well above the level below
  double gbytes_per_second;
};
std::vector<Ceiling> read_ceilings;

void measure_reads() {
  read_ceilings = {{"l1", 24u << 10, 0}, {"l2", 1u << 20, 0}, {"l3", 25u << 20, 0}, {"memory", 400u << 20, 0}};
  for (Ceiling& ceiling : read_ceilings) {
    const Vector<uint8_t> data(ceiling.footprint_bytes, 1);
    const double seconds = time_of([&] { sink += mm::bench::read_all(data.data(), data.size()); });
    ceiling.gbytes_per_second = static_cast<double>(data.size()) / seconds * 1e-9;
    std::printf("{\"ceiling\": \"read_%s\", \"footprint_bytes\": %zu, \"gbytes_per_second\": %.1f}\n", ceiling.level,
                ceiling.footprint_bytes, ceiling.gbytes_per_second);
  }
}

const Ceiling& ceiling_of(double footprint_bytes) {
  // Twice the measured footprint still lies in the same level on the CPUs known to us (48 KB, 2 MB and more).
  for (const Ceiling& ceiling : read_ceilings) {
    if (footprint_bytes <= 2.0 * static_cast<double>(ceiling.footprint_bytes)) return ceiling;
  }
  return read_ceilings.back();
}

double dot_ceiling(Isa isa) {
  const double work = mm::bench::dot_products(isa, 1000, &sink);
  return work == 0 ? 0 : work / time_of([&] { mm::bench::dot_products(isa, 1000, &sink); }) * 1e-9;
}

bool is_wanted(const std::string& name) { return name.find(wanted_kernel) != std::string::npos; }

std::string name_of(const char* kernel, const KernelTable& table) { return std::string(kernel) + "_" + table.name; }

// Uninitialized values would do for time, but not for denormals and saturation.
Vector<float> floats(size_t count) {
  Vector<float> values(count);
  unsigned state = 1;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) * (1.0f / 8388608.0f) - 1.0f;
  }
  return values;
}

template <class T>
Vector<T> bytes(size_t count) {
  Vector<T> values(count);
  unsigned state = 7;
  for (T& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<T>(state >> 24);
  }
  return values;
}

// One int8 linear layer with everything a caller does around it.
struct Layer {
  int bits, m, n, k, k_padded, n_padded;
  Vector<float> x, weight_scale, bias, y, x_scale;
  Vector<int8_t> codes;
  Vector<int32_t> x_sum, out;
  Vector<uint8_t> weight;

  Layer(int bits_, int m_, int n_, int k_)
      : bits(bits_),
        m(m_),
        n(n_),
        k(k_),
        k_padded(mm::quant::round_up(k_, mm::quant::column_step)),
        n_padded(mm::quant::round_up(n_, mm::quant::tile_rows)),
        x(floats(size(m_, k_))),
        weight_scale(floats(static_cast<size_t>(n_))),
        bias(floats(static_cast<size_t>(n_))),
        y(size(m_, n_)),
        x_scale(static_cast<size_t>(m_), 1.0f),
        codes(bytes<int8_t>(size(m_, k_padded))),
        x_sum(static_cast<size_t>(m_)),
        out(size(m_, n_padded)),
        weight(bytes<uint8_t>(mm::quant::packed_bytes(bits_, n_, k_))) {}

  static size_t size(int a, int b) { return static_cast<size_t>(a) * static_cast<size_t>(b); }
  double weight_bytes() const { return static_cast<double>(mm::quant::packed_bytes(bits, n, k)); }

  void multiply(const KernelTable& table, int row_begin, int row_end, int tile_begin, int tile_end) {
    const LinearArgs args{codes.data() + size(row_begin, k_padded),
                          x_sum.data() + row_begin,
                          weight.data(),
                          row_end - row_begin,
                          k_padded,
                          256,
                          tile_begin,
                          tile_end,
                          out.data(),
                          (tile_end - tile_begin) * 16};
    bits == 2 ? table.linear_w2a8(args) : bits == 4 ? table.linear_w4a8(args) : table.linear_w8a8(args);
  }
  void quantize(const KernelTable& table, int row_begin, int row_end) {
    table.quantize_rows(x.data() + size(row_begin, k), row_end - row_begin, k, codes.data() + size(row_begin, k_padded),
                        k_padded, x_scale.data() + row_begin, x_sum.data() + row_begin);
  }
  void finish(const KernelTable& table, int row_begin, int row_end, int tile_begin, int tile_end,
              Activation activation) {
    const int column = tile_begin * 16, stride = (tile_end - tile_begin) * 16;
    table.linear_epilogue({out.data(), stride, x_scale.data() + row_begin, weight_scale.data() + column,
                           bias.data() + column, nullptr, y.data() + size(row_begin, n) + column, n,
                           row_end - row_begin, std::min(stride, n - column), activation});
  }
};

void bench_linear(const KernelTable& table) {
  const auto measured_dots = [](Isa isa, const char* name) {
    const double dots = dot_ceiling(isa);
    if (dots > 0) std::printf("{\"ceiling\": \"dot_products_%s\", \"gmacs_per_second\": %.1f}\n", name, dots);
    return dots;
  };
  const double most_dots = measured_dots(table.isa, table.name);
  const double few_dots = table.isa == Isa::amx ? measured_dots(Isa::avx512_vnni, "avx512_vnni") : most_dots;
  struct Shape {
    int n, k, bits, m;
  };
  std::vector<Shape> shapes;
  for (int bits : {2, 4, 8}) {
    // SmolLM2-135M: query, key and value; attention's output; gate and up; down; the head, which sees one row.
    for (int m : {1, 3, 4, 8, 64, 256}) {
      shapes.push_back({960, 576, bits, m});
      shapes.push_back({576, 576, bits, m});
      shapes.push_back({3072, 576, bits, m});
      shapes.push_back({576, 1536, bits, m});
    }
    shapes.push_back({49152, 576, bits, 1});
    for (int m : {1, 2, 3, 4, 8, 12, 64}) {
      shapes.push_back({1536, 576, bits, m});               // a small model's matrix: 0.2 to 0.9 MB
      shapes.push_back({2048, 2048, bits, m});              // 1 MB at 2 bits
      shapes.push_back({25600 / bits * 2, 4096, bits, m});  // 26 MB at every width
    }
  }
  for (const Shape& s : shapes) {
    const std::string name = name_of(s.bits == 2 ? "linear_w2a8" : s.bits == 4 ? "linear_w4a8" : "linear_w8a8", table);
    if (!is_wanted(name)) continue;
    if (table.isa == Isa::reference && static_cast<int64_t>(s.m) * s.n * s.k > 4000000) continue;
    Layer layer(s.bits, s.m, s.n, s.k);
    const double seconds = time_of([&] { layer.multiply(table, 0, s.m, 0, layer.n_padded / mm::quant::tile_rows); });
    const double macs = static_cast<double>(s.m) * s.n * s.k;
    const Ceiling& read = ceiling_of(layer.weight_bytes());
    const double read_seconds = layer.weight_bytes() / read.gbytes_per_second * 1e-9;
    const double dots = s.m < mm::kernels::amx_least_rows ? few_dots : most_dots;
    const double dot_seconds = dots > 0 ? macs / dots * 1e-9 : 0;
    std::printf(
        "{\"kernel\": \"%s\", \"m\": %d, \"n\": %d, \"k\": %d, \"microseconds\": %.2f, \"gweights_per_second\": %.1f, "
        "\"gmacs_per_second\": %.1f, \"gbytes_per_second\": %.1f, \"limit\": \"%s\", \"percent_of_limit\": %.0f}\n",
        name.c_str(), s.m, s.n, s.k, seconds * 1e6, macs / s.m / seconds * 1e-9, macs / seconds * 1e-9,
        layer.weight_bytes() / seconds * 1e-9, read_seconds > dot_seconds ? read.level : "dot products",
        100 * std::max(read_seconds, dot_seconds) / seconds);
    std::fflush(stdout);
  }
}

// The 1x1 convolutions of EfficientNet-Lite0 at 224 pixels: pixels, channels in, channels out, how often.
struct Pointwise {
  int pixels, in, out, count;
  Activation activation;
};
constexpr Pointwise efficientnet_lite0[] = {
    {12544, 32, 16, 1, Activation::none},  {12544, 16, 96, 1, Activation::relu6}, {3136, 96, 24, 1, Activation::none},
    {3136, 24, 144, 2, Activation::relu6}, {3136, 144, 24, 1, Activation::none},  {784, 144, 40, 1, Activation::none},
    {784, 40, 240, 2, Activation::relu6},  {784, 240, 40, 1, Activation::none},   {196, 240, 80, 1, Activation::none},
    {196, 80, 480, 3, Activation::relu6},  {196, 480, 80, 2, Activation::none},   {196, 480, 112, 1, Activation::none},
    {196, 112, 672, 3, Activation::relu6}, {196, 672, 112, 2, Activation::none},  {49, 672, 192, 1, Activation::none},
    {49, 192, 1152, 4, Activation::relu6}, {49, 1152, 192, 3, Activation::none},  {49, 1152, 320, 1, Activation::none},
    {49, 320, 1280, 1, Activation::relu6}};

void bench_encoder_pointwise(const KernelTable& table) {
  const std::string name = name_of("linear_w8a8", table);
  if (!is_wanted("encoder_" + name)) return;
  double total_linear = 0, total_quantize = 0, total_epilogue = 0, total_layer = 0, total_macs = 0;
  for (const Pointwise& p : efficientnet_lite0) {
    Layer layer(8, p.pixels, p.out, p.in);
    // As the linear operation does it: at most 48 rows, dealt out evenly, times at most 6144 sums, so that both stay in
    // L1.
    const int block_count = (p.pixels + 47) / 48, block = (p.pixels + block_count - 1) / block_count;
    const int tiles = layer.n_padded / mm::quant::tile_rows, group = std::clamp(6144 / (block * 16), 1, tiles);
    const auto seconds_of = [&](bool quantizes, bool multiplies, bool finishes) {
      return time_of([&] {
        for (int row = 0; row < p.pixels; row += block) {
          const int end = std::min(row + block, p.pixels);
          if (quantizes) layer.quantize(table, row, end);
          for (int tile = 0; tile < tiles; tile += group) {
            const int tile_end = std::min(tile + group, tiles);
            if (multiplies) layer.multiply(table, row, end, tile, tile_end);
            if (finishes) layer.finish(table, row, end, tile, tile_end, p.activation);
          }
        }
      });
    };
    const double quantize = seconds_of(true, false, false), linear = seconds_of(false, true, false);
    const double epilogue = seconds_of(false, false, true), whole = seconds_of(true, true, true);
    const double macs = static_cast<double>(p.pixels) * p.in * p.out;
    std::printf(
        "{\"kernel\": \"%s\", \"layer\": \"%d x %d -> %d\", \"count\": %d, \"linear_microseconds\": %.1f, "
        "\"gmacs_per_second\": %.1f, \"quantize_microseconds\": %.1f, \"epilogue_microseconds\": %.1f, "
        "\"layer_microseconds\": %.1f}\n",
        name.c_str(), p.pixels, p.in, p.out, p.count, linear * 1e6, macs / linear * 1e-9, quantize * 1e6,
        epilogue * 1e6, whole * 1e6);
    total_linear += p.count * linear;
    total_quantize += p.count * quantize;
    total_epilogue += p.count * epilogue;
    total_layer += p.count * whole;
    total_macs += p.count * macs;
  }
  std::printf(
      "{\"kernel\": \"%s\", \"layer\": \"all 1x1 of EfficientNet-Lite0\", \"mmacs\": %.0f, \"linear_milliseconds\": "
      "%.2f, "
      "\"quantize_milliseconds\": %.2f, \"epilogue_milliseconds\": %.2f, \"layers_milliseconds\": %.2f}\n",
      name.c_str(), total_macs * 1e-6, total_linear * 1e3, total_quantize * 1e3, total_epilogue * 1e3,
      total_layer * 1e3);
}

struct Conv {
  int size, channels_in, channels_out, side, stride, count;
};
// The stem and the depthwise convolutions of EfficientNet-Lite0 at 224 pixels.
constexpr Conv efficientnet_lite0_stem[] = {{224, 3, 32, 3, 2, 1}};
constexpr Conv efficientnet_lite0_depthwise[] = {
    {112, 32, 32, 3, 1, 1},  {112, 96, 96, 3, 2, 1},  {56, 144, 144, 3, 1, 1},  {56, 144, 144, 5, 2, 1},
    {28, 240, 240, 5, 1, 1}, {28, 240, 240, 3, 2, 1}, {14, 480, 480, 3, 1, 2},  {14, 480, 480, 5, 1, 1},
    {14, 672, 672, 5, 1, 2}, {14, 672, 672, 5, 2, 1}, {7, 1152, 1152, 5, 1, 3}, {7, 1152, 1152, 3, 1, 1}};

// The float convolutions of PP-OCRv6 tiny's detection at 640 pixels, and the depthwise ones that take longest.
constexpr Conv text_detection_dense[] = {{640, 3, 16, 3, 2, 1}, {320, 16, 8, 2, 1, 1}, {320, 8, 16, 2, 1, 1}};
constexpr Conv text_detection_depthwise[] = {{160, 32, 32, 3, 1, 2}, {160, 64, 64, 5, 1, 1}, {80, 64, 64, 5, 1, 1}};

template <size_t count>
void bench_convolutions(const KernelTable& table, const Conv (&convs)[count], bool is_depthwise, const char* network) {
  const std::string name = name_of(is_depthwise ? "conv2d_depthwise_f32" : "conv2d_f32", table);
  if (!is_wanted(name)) return;
  double total = 0, total_macs = 0;
  for (const Conv& c : convs) {
    const int out_size = (c.size + c.stride - 1) / c.stride;
    const int pad = std::max(0, (out_size - 1) * c.stride + c.side - c.size) / 2;
    const int inputs = is_depthwise ? 1 : c.channels_in;
    const Vector<float> x = floats(static_cast<size_t>(c.size * c.size * c.channels_in));
    const Vector<float> w = floats(static_cast<size_t>(c.side * c.side * inputs * c.channels_out));
    const Vector<float> bias = floats(static_cast<size_t>(c.channels_out));
    Vector<float> y(static_cast<size_t>(out_size * out_size * c.channels_out));
    const ConvArgs args{
        x.data(), w.data(),       bias.data(),      y.data(), c.size,   c.size,   c.channels_in, out_size,
        out_size, c.channels_out, c.side,           c.side,   c.stride, c.stride, pad,           pad,
        0,        out_size,       Activation::relu6};
    const double seconds = time_of([&] { is_depthwise ? table.conv2d_depthwise_f32(args) : table.conv2d_f32(args); });
    const double macs = static_cast<double>(y.size()) * c.side * c.side * inputs;
    std::printf(
        "{\"kernel\": \"%s\", \"size\": %d, \"channels\": %d, \"side\": %d, \"stride\": %d, \"count\": %d, "
        "\"microseconds\": %.1f, \"gmacs_per_second\": %.1f, \"gbytes_per_second\": %.1f}\n",
        name.c_str(), c.size, c.channels_out, c.side, c.stride, c.count, seconds * 1e6, macs / seconds * 1e-9,
        static_cast<double>(x.size() + y.size() + w.size()) * 4 / seconds * 1e-9);
    total += c.count * seconds;
    total_macs += c.count * macs;
  }
  std::printf("{\"kernel\": \"%s\", \"layer\": \"all of %s\", \"mmacs\": %.1f, \"milliseconds\": %.2f}\n", name.c_str(),
              network, total_macs * 1e-6, total * 1e3);
}

// The depthwise convolutions of the same encoder from codes to codes.
void bench_depthwise_codes(const KernelTable& table) {
  const std::string name = name_of("conv2d_depthwise_codes", table);
  if (!is_wanted(name)) return;
  double total = 0;
  for (const Conv& c : efficientnet_lite0_depthwise) {
    const int out_size = (c.size + c.stride - 1) / c.stride;
    const int pad = std::max(0, (out_size - 1) * c.stride + c.side - c.size) / 2;
    const size_t channels = static_cast<size_t>(c.channels_in);
    const Vector<int8_t> x(static_cast<size_t>(c.size * c.size) * channels, 50);
    const Vector<int8_t> w(static_cast<size_t>(c.side * c.side) * channels, 3);
    const Vector<float> scale(channels, 0.01f), bias(channels, 1.0f);
    Vector<int8_t> y(static_cast<size_t>(out_size * out_size) * channels);
    const ConvArgs window{nullptr,         nullptr,  bias.data(), nullptr,       c.size, c.size,
                          c.channels_in,   out_size, out_size,    c.channels_in, c.side, c.side,
                          c.stride,        c.stride, pad,         pad,           0,      out_size,
                          Activation::none};
    const CodesConvArgs args{window, x.data(), w.data(), scale.data(), y.data()};
    const double seconds = time_of([&] { table.conv2d_depthwise_codes(args); });
    const double macs = static_cast<double>(y.size()) * c.side * c.side;
    std::printf(
        "{\"kernel\": \"%s\", \"size\": %d, \"channels\": %d, \"side\": %d, \"stride\": %d, \"count\": %d, "
        "\"microseconds\": %.1f, \"gmacs_per_second\": %.1f, \"gbytes_per_second\": %.1f}\n",
        name.c_str(), c.size, c.channels_in, c.side, c.stride, c.count, seconds * 1e6, macs / seconds * 1e-9,
        static_cast<double>(x.size() + y.size() + w.size()) / seconds * 1e-9);
    total += c.count * seconds;
  }
  std::printf("{\"kernel\": \"%s\", \"layer\": \"all of EfficientNet-Lite0\", \"milliseconds\": %.2f}\n", name.c_str(),
              total * 1e3);
}

// What detection calls over whole pictures, in its sizes: normalisation, pooling, sums, rows copied by concat,
// upsample_nearest and depth_to_space, and the codes of a band of conv2d_packed.
void bench_pictures(const KernelTable& table) {
  const auto report = [&](const char* kernel, const char* what, double elements, double moved_bytes,
                          const std::function<void()>& call) {
    const std::string name = name_of(kernel, table);
    if (!is_wanted(name)) return;
    const double seconds = time_of(call);
    const Ceiling& read = ceiling_of(moved_bytes);
    const double gbytes = moved_bytes / seconds * 1e-9;
    std::printf(
        "{\"kernel\": \"%s\", \"what\": \"%s\", \"microseconds\": %.2f, \"nanoseconds_per_element\": %.4f, "
        "\"gbytes_per_second\": %.1f, \"limit\": \"%s\", \"percent_of_limit\": %.0f}\n",
        name.c_str(), what, seconds * 1e6, seconds * 1e9 / elements, gbytes, read.level,
        100 * gbytes / read.gbytes_per_second);
  };
  constexpr int side = 320, channels = 16, most = side * side * channels;
  const Vector<float> x = floats(most);
  Vector<float> y(most);
  const Vector<uint8_t> pixels = bytes<uint8_t>(640 * 640 * 3);
  const float mean[3] = {123.675f, 116.28f, 103.53f}, factor[3] = {0.0171f, 0.0175f, 0.0174f};
  report("normalize_bytes", "640 x 640 x 3", 640 * 640 * 3, 640 * 640 * 3 * 5,
         [&] { table.normalize_bytes(pixels.data(), y.data(), 640 * 640, mean, factor); });

  ConvArgs pool = {};
  pool.x = x.data(), pool.y = y.data();
  pool.height = pool.width = pool.out_height = pool.out_width = side;
  pool.channels_in = pool.channels_out = channels;
  pool.kernel_h = pool.kernel_w = 2, pool.stride_h = pool.stride_w = 1;
  pool.row_end = side;
  report("max_pool2d_f32", "320 x 320 x 16, 2 x 2, stride 1", most, most * 8.0, [&] { table.max_pool2d_f32(pool); });
  pool.height = 3, pool.width = 320, pool.channels_in = pool.channels_out = 160;
  pool.out_height = pool.row_end = 1, pool.out_width = 160;
  pool.kernel_h = pool.stride_h = 3, pool.stride_w = 2;
  report("average_pool2d_f32", "3 x 320 x 160, 3 x 2, stride 3 x 2", 3 * 320 * 160, (3 * 320 + 160) * 160 * 4.0,
         [&] { table.average_pool2d_f32(pool); });
  report("sum_rows_f32", "256 x 64", 256 * 64, 256 * 64 * 4, [&] { table.sum_rows_f32(x.data(), y.data(), 256, 64); });
  report("hadamard_f32", "64 x 1536, blocks of 512", 64 * 1536, 64 * 1536 * 8,
         [&] { table.hadamard_f32(x.data(), y.data(), 64 * 3, 512, 0.044f); });
  report("copy_rows_f32", "concat: 1600 rows of 64 into 128", 1600 * 64, 1600 * 64 * 8,
         [&] { table.copy_rows_f32(x.data(), 64, y.data(), 128, 1600, 64); });
  report("copy_rows_f32", "upsample_nearest: one row of 64, twice, 1600 times", 1600 * 128, 1600 * (64 + 128) * 4, [&] {
    for (int i = 0; i < 1600; ++i) table.copy_rows_f32(x.data() + i * 64, 0, y.data() + i * 128, 64, 2, 64);
  });
  report("copy_rows_f32", "depth_to_space: 1600 rows of 4 from 16", 1600 * 4, 1600 * 8 * 4,
         [&] { table.copy_rows_f32(x.data(), 16, y.data(), 4, 1600, 4); });

  // A band of 6 rows of 160 x 16, and of 3 rows of 80 x 16 that are written twice, as channels of 64.
  constexpr int width = 160, rows = 6, all_channels = 64;
  report("largest_magnitude", "6 x 160 x 16", rows * width * channels, rows * width * channels * 4,
         [&] { sink += table.largest_magnitude(x.data(), rows * width * channels).is_finite; });
  Vector<int8_t> codes(rows * width * all_channels);
  Vector<int32_t> sums(rows * width);
  for (const int copies : {1, 2}) {
    const double values = static_cast<double>(rows) / copies * width / copies * channels;
    report("quantize_scaled", copies == 1 ? "6 x 160 x 16" : "3 x 80 x 16, written twice", values,
           values * (4 + copies), [&, copies] {
             std::fill(sums.begin(), sums.end(), 0);
             for (int row = 0; row < rows; row += copies)
               table.quantize_scaled({x.data() + row * width * channels, width / copies, channels, 127.0f, true,
                                      codes.data() + row * width * all_channels, all_channels, copies,
                                      sums.data() + row * width});
           });
  }
}

// The pairs of products over pixels in PP-OCRv6 tiny's detection at 640 pixels, GELU between them.
struct Pair {
  int pixels, in, hidden, out, count;
};
constexpr Pair text_detection_pairs[] = {{25600, 32, 64, 32, 2}, {25600, 16, 64, 16, 1}, {6400, 32, 64, 48, 1},
                                         {6400, 48, 96, 48, 2},  {1600, 64, 128, 64, 4}, {400, 160, 320, 160, 2}};

void bench_linear_pairs(const KernelTable& table) {
  const std::string name = name_of("linear_pair", table);
  if (!is_wanted(name)) return;
  double total = 0;
  for (const Pair& p : text_detection_pairs) {
    // As the operation does it: blocks of 48 rows, so that what lies between stays in the L1 cache.
    Layer first(8, 48, p.hidden, p.in), second(8, 48, p.out, p.hidden);
    const Vector<float> x = floats(Layer::size(p.pixels, p.in));
    Vector<float> y(Layer::size(p.pixels, p.out));
    const int first_tiles = first.n_padded / mm::quant::tile_rows,
              second_tiles = second.n_padded / mm::quant::tile_rows;
    const double seconds = time_of([&] {
      for (int row = 0; row < p.pixels; row += 48) {
        const int rows = std::min(48, p.pixels - row);
        table.quantize_rows(x.data() + Layer::size(row, p.in), rows, p.in, first.codes.data(), first.k_padded,
                            first.x_scale.data(), first.x_sum.data());
        first.multiply(table, 0, rows, 0, first_tiles);
        first.finish(table, 0, rows, 0, first_tiles, Activation::gelu);
        second.x.swap(first.y);  // [48, hidden], both
        second.quantize(table, 0, rows);
        second.x.swap(first.y);
        second.multiply(table, 0, rows, 0, second_tiles);
        table.linear_epilogue({second.out.data(), second.n_padded, second.x_scale.data(), second.weight_scale.data(),
                               second.bias.data(), nullptr, y.data() + Layer::size(row, p.out), p.out, rows, p.out,
                               Activation::none});
      }
    });
    const double macs = static_cast<double>(p.pixels) * p.hidden * (p.in + p.out);
    std::printf(
        "{\"kernel\": \"%s\", \"layer\": \"%d x %d -> %d -> %d\", \"count\": %d, \"microseconds\": %.1f, "
        "\"nanoseconds_per_pixel\": %.1f, \"gmacs_per_second\": %.1f}\n",
        name.c_str(), p.pixels, p.in, p.hidden, p.out, p.count, seconds * 1e6, seconds * 1e9 / p.pixels,
        macs / seconds * 1e-9);
    total += p.count * seconds;
  }
  std::printf("{\"kernel\": \"%s\", \"layer\": \"all of PP-OCRv6 tiny detection\", \"milliseconds\": %.2f}\n",
              name.c_str(), total * 1e3);
}

// Element-wise and row-wise kernels on 48 x 576 floats (110 KB, in the L2 cache) and attention as a decoder calls it.
void bench_rows(const KernelTable& table) {
  const int rows = 48, columns = 576;
  const size_t count = static_cast<size_t>(rows * columns);
  const Vector<float> x = floats(2 * count), weight = floats(columns), bias = floats(columns);
  Vector<float> y(2 * count);
  Vector<int8_t> codes(count);
  Vector<float> scale(rows);
  Vector<int32_t> sum(rows), acc(count, 1000);
  const auto report = [&](const char* kernel, const std::function<void()>& call, double moved_bytes) {
    const std::string name = name_of(kernel, table);
    if (!is_wanted(name)) return;
    const double seconds = time_of(call);
    const Ceiling& read = ceiling_of(moved_bytes);
    const double gbytes = moved_bytes / seconds * 1e-9;
    std::printf(
        "{\"kernel\": \"%s\", \"rows\": %d, \"columns\": %d, \"microseconds\": %.2f, \"nanoseconds_per_element\": "
        "%.4f, "
        "\"gbytes_per_second\": %.1f, \"limit\": \"%s\", \"percent_of_limit\": %.0f}\n",
        name.c_str(), rows, columns, seconds * 1e6, seconds * 1e9 / static_cast<double>(count), gbytes, read.level,
        100 * gbytes / read.gbytes_per_second);
  };
  const double both = static_cast<double>(count) * 8;
  report(
      "quantize_rows",
      [&] { table.quantize_rows(x.data(), rows, columns, codes.data(), columns, scale.data(), sum.data()); },
      static_cast<double>(count) * 5);
  for (const auto& [kernel, kind] :
       {std::pair{"linear_epilogue_none", Activation::none}, std::pair{"linear_epilogue_relu6", Activation::relu6},
        std::pair{"linear_epilogue_gelu", Activation::gelu}}) {
    report(
        kernel,
        [&, chosen = kind] {
          table.linear_epilogue({acc.data(), columns, scale.data(), weight.data(), bias.data(), nullptr, y.data(),
                                 columns, rows, columns, chosen});
        },
        both);
  }
  for (const auto& [kernel, kind] :
       {std::pair{"activation_f32_silu", Activation::silu}, std::pair{"activation_f32_gelu", Activation::gelu},
        std::pair{"activation_f32_sigmoid", Activation::sigmoid}, std::pair{"activation_f32_tanh", Activation::tanh},
        std::pair{"activation_f32_hard_swish", Activation::hard_swish}}) {
    report(
        kernel, [&, chosen = kind] { table.activation_f32(chosen, x.data(), y.data(), static_cast<int64_t>(count)); },
        both);
  }
  report("rms_norm_f32", [&] { table.rms_norm_f32(x.data(), weight.data(), y.data(), rows, columns, 1e-6f); }, both);
  report(
      "layer_norm_f32",
      [&] { table.layer_norm_f32(x.data(), weight.data(), bias.data(), y.data(), rows, columns, 1e-5f); }, both);
  report("silu_mul_f32", [&] { table.silu_mul_f32(x.data(), y.data(), rows, columns); }, both * 1.5);
  report("softmax_f32", [&] { table.softmax_f32(x.data(), y.data(), rows, columns); }, both);
  report("log_softmax_f32", [&] { table.log_softmax_f32(x.data(), y.data(), rows, columns); }, both);
  report(
      "add_f32", [&] { table.add_f32(x.data(), weight.data(), y.data(), static_cast<int64_t>(count), columns); }, both);
  report(
      "mul_f32", [&] { table.mul_f32(x.data(), weight.data(), y.data(), static_cast<int64_t>(count), columns); }, both);

  const std::string attention = name_of("attention_f32", table);
  if (is_wanted(attention)) {
    for (int n : {16, 49, 100}) {
      const int heads = 6, head_dim = 64, width = heads * head_dim;
      const Vector<float> keys = floats(static_cast<size_t>(n * width)), values = floats(keys.size());
      std::vector<const float*> k_rows, v_rows;
      for (int i = 0; i < n; ++i)
        k_rows.push_back(keys.data() + i * width), v_rows.push_back(values.data() + i * width);
      Vector<float> scores(static_cast<size_t>(n)), out(static_cast<size_t>(width));
      const double seconds = time_of([&] {
        table.attention_f32({x.data(), k_rows.data(), v_rows.data(), n, heads, heads, head_dim, 0, heads, 0.125f,
                             scores.data(), out.data()});
      });
      const double moved_bytes = 2.0 * n * width * 4, gbytes = moved_bytes / seconds * 1e-9;
      const Ceiling& read = ceiling_of(moved_bytes);
      std::printf(
          "{\"kernel\": \"%s\", \"n\": %d, \"heads\": %d, \"head_dim\": %d, \"microseconds\": %.2f, "
          "\"gmacs_per_second\": %.1f, \"gbytes_per_second\": %.1f, \"limit\": \"%s\", \"percent_of_limit\": %.0f}\n",
          attention.c_str(), n, heads, head_dim, seconds * 1e6, 2.0 * n * width / seconds * 1e-9, gbytes, read.level,
          100 * gbytes / read.gbytes_per_second);
    }
  }
  const std::string linear = name_of("linear_f32", table);
  if (is_wanted(linear)) {
    for (int m : {1, 4, 49}) {
      const int k = 384, n = 384;
      const Vector<float> w = floats(static_cast<size_t>(k * n)), in = floats(static_cast<size_t>(m * k));
      Vector<float> out(static_cast<size_t>(m * n));
      const double seconds = time_of([&] {
        table.linear_f32({in.data(), w.data(), nullptr, nullptr, out.data(), m, k, n, 0, n, Activation::none});
      });
      std::printf(
          "{\"kernel\": \"%s\", \"m\": %d, \"n\": %d, \"k\": %d, \"microseconds\": %.2f, \"gmacs_per_second\": %.1f}\n",
          linear.c_str(), m, n, k, seconds * 1e6, static_cast<double>(m) * k * n / seconds * 1e-9);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::string wanted_table;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--table") == 0) wanted_table = argv[i + 1];
    if (std::strcmp(argv[i], "--kernel") == 0) wanted_kernel = argv[i + 1];
    if (std::strcmp(argv[i], "--seconds") == 0) seconds_a_case = std::atof(argv[i + 1]);
  }
  measure_reads();
  const TableList list = all_tables();
  for (int i = 0; i < list.count; ++i) {
    const KernelTable& table = *list.tables[i];
    if (!table.is_supported() || (!wanted_table.empty() && wanted_table != table.name)) continue;
    bench_linear(table);
    if (table.isa != Isa::reference) bench_encoder_pointwise(table);
    bench_convolutions(table, efficientnet_lite0_stem, false, "EfficientNet-Lite0");
    bench_convolutions(table, efficientnet_lite0_depthwise, true, "EfficientNet-Lite0");
    bench_depthwise_codes(table);
    bench_convolutions(table, text_detection_dense, false, "PP-OCRv6 tiny detection");
    bench_convolutions(table, text_detection_depthwise, true, "PP-OCRv6 tiny detection");
    bench_pictures(table);
    if (table.isa != Isa::reference) bench_linear_pairs(table);
    bench_rows(table);
  }
  return sink == 42 ? 1 : 0;  // the sink is used, so nothing measured can be left out
}
