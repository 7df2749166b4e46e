// Declares what every instruction set must offer: one table of kernels, plain twins first.
//
// All matrices are row-major float32 unless said. Kernels neither allocate nor start threads: the caller hands each one
// a range of outputs, and an output never depends on the range it was computed in, so every thread count gives the same
// bits. The integer kernels (linear_w*a8, quantize_*, those of codes) give the same bits on every instruction set too.
#pragma once

#include <cstdint>

namespace mm::kernels {

enum class Isa : int { reference = 0, avx2 = 1, avx512_vnni = 2, neon_dotprod = 3, avx_vnni = 4, amx = 5 };

enum class Activation : int {
  none = 0,
  relu = 1,
  relu6 = 2,
  silu = 3,
  gelu = 4,
  sigmoid = 5,
  hard_swish = 6,
  tanh = 7,
  hard_sigmoid = 8
};
inline constexpr int activation_count = 9;

// With fewer rows the table `amx` multiplies as `avx512_vnni` does: most of a register of 16 rows would be empty.
inline constexpr int amx_least_rows = 5;

// out[r, c] = 2 * sum_k(code[c, k] * x[r, k]) - zero2 * x_sum[r]   for the columns c of tiles [tile_begin, tile_end),
// exact int32.
struct LinearArgs {
  const int8_t* x;        // [m, k_padded], -128..127, columns beyond the true k are 0
  const int32_t* x_sum;   // [m], sum over a row of x
  const uint8_t* weight;  // packed as in quant/layout.h
  int m;
  int k_padded;  // multiple of 16
  int zero2;     // twice the zero point: 3 for 2-bit SEQ, 15 for 4-bit SEQ, 256 for 8 bits
  int tile_begin;
  int tile_end;
  int32_t* out;    // element (r, c) of tile t at out[r * out_stride + (t - tile_begin) * 16 + c]
  int out_stride;  // >= (tile_end - tile_begin) * 16
};

// The largest |x| of a block; NaN does not count and infinities count as FLT_MAX.
struct Magnitude {
  float largest;
  bool is_finite;  // neither a NaN nor an infinity is there
};

// q = round-half-even(x * inverse) in [-127, 127] of each row, as in quantize_rows; row r is written `copies` times, as
// rows r * copies .. of q, and the sum of its codes is added to as many elements of `sum`.
struct QuantizeArgs {
  const float* x;  // [m, k]
  int m, k;
  float inverse;   // 127 / the largest magnitude, or 0
  bool is_finite;  // as largest_magnitude says of a block that holds x
  int8_t* q;       // rows of k codes, q_step apart
  int64_t q_step;
  int copies;
  int32_t* sum;  // [m * copies]
};

// y[r, c] = activation(acc[r, c] * (x_scale[r] * (0.5f * weight_scale[c])) + bias[c]) + residual[r, c]
struct EpilogueArgs {
  const int32_t* acc;  // [m, acc_stride]
  int acc_stride;
  const float* x_scale;       // [m]
  const float* weight_scale;  // [columns]
  const float* bias;          // [columns] or nullptr
  const float* residual;      // row stride y_stride, or nullptr; may be y itself
  float* y;
  int y_stride;
  int m;
  int columns;
  Activation activation;
};

// Codes stand for values of at least 0 in units that their producer chose, one a channel: 0..127 in an int8. What reads
// them has the units in its scales.
//
// y[r, c] = clamp(round-half-even(fma(acc[r, c], x_scale[r] * (0.5f * weight_scale[c]), bias[c])), 0, 127)
struct CodesEpilogueArgs {
  const int32_t* acc;  // [m, acc_stride]
  int acc_stride;
  const float* x_scale;       // [m]
  const float* weight_scale;  // [columns]
  const float* bias;          // [columns] or nullptr
  int8_t* y;
  int y_stride;
  int m;
  int columns;
};

// y[r, c] = activation(sum_k x[r, k] * w[k, c] + bias[c]) + residual[r, c] for c in [column_begin, column_end)
struct LinearF32Args {
  const float* x;         // [m, k]
  const float* w;         // [k, n]: inputs outermost, so a vector covers outputs
  const float* bias;      // [n] or nullptr
  const float* residual;  // [m, n] or nullptr
  float* y;               // [m, n]
  int m, k, n;
  int column_begin, column_end;
  Activation activation;
};

// Convolution over one picture, channels last, zero padding. Depthwise: w is [kernel_h, kernel_w, channels_in],
// channels_out == channels_in. Dense: w is [kernel_h, kernel_w, channels_in, channels_out]. Computes the output rows
// [row_begin, row_end).
struct ConvArgs {
  const float* x;  // [height, width, channels_in]
  const float* w;
  const float* bias;  // [channels_out] or nullptr
  float* y;           // [out_height, out_width, channels_out]
  int height, width, channels_in;
  int out_height, out_width, channels_out;
  int kernel_h, kernel_w;
  int stride_h, stride_w;
  int pad_top, pad_left;  // bottom and right follow from the output size
  int row_begin, row_end;
  Activation activation;
};

// Depthwise convolution of codes: y = clamp(round-half-even(fma(sum of x * w, scale[c], bias[c])), 0, 127).
struct CodesConvArgs {
  ConvArgs window;     // geometry, rows and bias; its x, w, y and activation are not read
  const int8_t* x;     // codes [height, width, channels_in]
  const int8_t* w;     // [kernel_h, kernel_w, channels_in]
  const float* scale;  // [channels_in]
  int8_t* y;           // codes [out_height, out_width, channels_in]
};

// One query row against n key/value rows given by address, so that beams may share rows and caches need not be
// contiguous. out[h] = sum_i softmax_i(scale * dot(q[h], k_i[h / group])) * v_i[h / group], group = heads / kv_heads.
struct AttentionArgs {
  const float* q;              // [heads * head_dim]
  const float* const* k_rows;  // n addresses of [kv_heads * head_dim]
  const float* const* v_rows;
  int n;                          // >= 1
  int heads, kv_heads, head_dim;  // head_dim: multiple of 4
  int head_begin, head_end;       // the heads to compute
  float scale;
  float* scores;  // scratch, n floats
  float* out;     // [heads * head_dim]
};

struct KernelTable {
  const char* name;  // "reference", "avx2", "avx_vnni", "avx512_vnni", "amx", "neon_dotprod"
  Isa isa;
  bool (*is_supported)();  // asks the CPU (and the operating system) at run time

  void (*linear_w2a8)(const LinearArgs&);
  void (*linear_w4a8)(const LinearArgs&);
  void (*linear_w8a8)(const LinearArgs&);
  // Per row: scale = max|x| / 127, q = round-half-even(x * (127 / max|x|)) in [-127, 127], sum = sum of q; a row of
  // zeros (or one whose largest magnitude is below 1e-30) gives scale 0 and zeros; NaN counts as 0 and infinities
  // clamp. Columns k..k_padded become 0.
  void (*quantize_rows)(const float* x, int m, int k, int8_t* q, int k_padded, float* scale, int32_t* sum);
  // The same in two steps, where many rows share one scale and so may be added up, as the taps of a convolution are.
  Magnitude (*largest_magnitude)(const float* x, int64_t count);
  void (*quantize_scaled)(const QuantizeArgs&);
  void (*linear_epilogue)(const EpilogueArgs&);
  void (*linear_epilogue_codes)(const CodesEpilogueArgs&);
  // Rows of k codes, k apart, become rows of k_padded for linear_w*a8: zeros behind them, and sum = the sum of a row.
  void (*spread_codes)(const int8_t* x, int m, int k, int8_t* q, int k_padded, int32_t* sum);

  void (*linear_f32)(const LinearF32Args&);
  // y = (x - mean[channel]) * factor[channel], each rounded, over pixels of three bytes.
  void (*normalize_bytes)(const uint8_t* x, float* y, int64_t pixels, const float* mean, const float* factor);
  void (*conv2d_f32)(const ConvArgs&);
  void (*conv2d_depthwise_f32)(const ConvArgs&);
  void (*conv2d_depthwise_codes)(const CodesConvArgs&);
  // Pooling takes the geometry of a depthwise convolution and neither weights nor activation. Every window reaches into
  // the picture; what lies outside does not count.
  void (*max_pool2d_f32)(const ConvArgs&);
  void (*average_pool2d_f32)(const ConvArgs&);
  // y[r * y_step + c] = x[r * x_step + c]; x_step 0 repeats one row.
  void (*copy_rows_f32)(const float* x, int64_t x_step, float* y, int64_t y_step, int rows, int columns);
  void (*sum_rows_f32)(const float* x, float* y, int rows, int columns);  // y [columns] = the sum of the rows
  // Walsh-Hadamard transform of `count` blocks of `block` values, a power of two: log2(block) rounds of sums and
  // differences of values 1, 2, 4 .. apart, then one factor. The same bits on every instruction set; y may be x.
  void (*hadamard_f32)(const float* x, float* y, int64_t count, int block, float factor);
  void (*attention_f32)(const AttentionArgs&);
  void (*rms_norm_f32)(const float* x, const float* weight, float* y, int rows, int columns, float epsilon);
  void (*layer_norm_f32)(const float* x, const float* weight, const float* bias, float* y, int rows, int columns,
                         float epsilon);
  void (*activation_f32)(Activation kind, const float* x, float* y, int64_t count);  // y may be x
  void (*silu_mul_f32)(const float* gate_up, float* y, int rows,
                       int half);                                        // gate_up [rows, 2 * half] -> silu(gate) * up
  void (*softmax_f32)(const float* x, float* y, int rows, int columns);  // y may be x
  void (*log_softmax_f32)(const float* x, float* y, int rows, int columns);
  void (*add_f32)(const float* a, const float* b, float* y, int64_t count,
                  int64_t b_count);  // b repeats every b_count elements
  void (*mul_f32)(const float* a, const float* b, float* y, int64_t count, int64_t b_count);
};

// Every table compiled into this build, reference first, best last.
struct TableList {
  const KernelTable* const* tables;
  int count;
};
TableList all_tables();

// The best table this CPU supports. MM_FORCE_ISA in the environment (a table's name) picks one; an unknown or
// unsupported name falls back to the best and `forced_isa_error` says so.
const KernelTable& best_table();
const char* forced_isa_error();  // nullptr when MM_FORCE_ISA is unset or was honoured

// Instruction-set files (each compiled with its own flags) export exactly one function; nullptr where not compiled in.
const KernelTable* reference_table();
const KernelTable* avx2_table();
const KernelTable* avx_vnni_table();  // AVX2's float kernels, integer kernels of its own
const KernelTable* avx512_vnni_table();
const KernelTable* amx_table();  // AVX-512's float kernels, integer kernels of its own
const KernelTable* neon_dotprod_table();

}  // namespace mm::kernels
