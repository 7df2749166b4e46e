// Declares, for each instruction set, its kernels by name and the question whether this CPU has it.
//
// Only declarations: the files compiled with -m flags include nothing but this, so no inline function can leak into
// other files.
#pragma once

#include "kernels/kernels.h"

#define MM_DECLARE_KERNELS(isa)                                                                                      \
  void linear_w2a8_##isa(const LinearArgs&);                                                                         \
  void linear_w4a8_##isa(const LinearArgs&);                                                                         \
  void linear_w8a8_##isa(const LinearArgs&);                                                                         \
  void quantize_rows_##isa(const float* x, int m, int k, int8_t* q, int k_padded, float* scale, int32_t* sum);       \
  Magnitude largest_magnitude_##isa(const float* x, int64_t count);                                                  \
  void quantize_scaled_##isa(const QuantizeArgs&);                                                                   \
  void linear_epilogue_##isa(const EpilogueArgs&);                                                                   \
  void linear_epilogue_codes_##isa(const CodesEpilogueArgs&);                                                        \
  void spread_codes_##isa(const int8_t* x, int m, int k, int8_t* q, int k_padded, int32_t* sum);                     \
  void linear_f32_##isa(const LinearF32Args&);                                                                       \
  void normalize_bytes_##isa(const uint8_t* x, float* y, int64_t pixels, const float* mean, const float* factor);    \
  void conv2d_f32_##isa(const ConvArgs&);                                                                            \
  void conv2d_depthwise_f32_##isa(const ConvArgs&);                                                                  \
  void conv2d_depthwise_codes_##isa(const CodesConvArgs&);                                                           \
  void max_pool2d_f32_##isa(const ConvArgs&);                                                                        \
  void average_pool2d_f32_##isa(const ConvArgs&);                                                                    \
  void copy_rows_f32_##isa(const float* x, int64_t x_step, float* y, int64_t y_step, int rows, int columns);         \
  void sum_rows_f32_##isa(const float* x, float* y, int rows, int columns);                                          \
  void hadamard_f32_##isa(const float* x, float* y, int64_t count, int block, float factor);                         \
  void attention_f32_##isa(const AttentionArgs&);                                                                    \
  void rms_norm_f32_##isa(const float* x, const float* weight, float* y, int rows, int columns, float epsilon);      \
  void layer_norm_f32_##isa(const float* x, const float* weight, const float* bias, float* y, int rows, int columns, \
                            float epsilon);                                                                          \
  void activation_f32_##isa(Activation kind, const float* x, float* y, int64_t count);                               \
  void silu_mul_f32_##isa(const float* gate_up, float* y, int rows, int half);                                       \
  void softmax_f32_##isa(const float* x, float* y, int rows, int columns);                                           \
  void log_softmax_f32_##isa(const float* x, float* y, int rows, int columns);                                       \
  void add_f32_##isa(const float* a, const float* b, float* y, int64_t count, int64_t b_count);                      \
  void mul_f32_##isa(const float* a, const float* b, float* y, int64_t count, int64_t b_count)

// The table of one instruction set, in the order of KernelTable.
#define MM_KERNEL_TABLE(isa, is_supported) \
  {#isa,                                   \
   Isa::isa,                               \
   is_supported,                           \
   linear_w2a8_##isa,                      \
   linear_w4a8_##isa,                      \
   linear_w8a8_##isa,                      \
   quantize_rows_##isa,                    \
   largest_magnitude_##isa,                \
   quantize_scaled_##isa,                  \
   linear_epilogue_##isa,                  \
   linear_epilogue_codes_##isa,            \
   spread_codes_##isa,                     \
   linear_f32_##isa,                       \
   normalize_bytes_##isa,                  \
   conv2d_f32_##isa,                       \
   conv2d_depthwise_f32_##isa,             \
   conv2d_depthwise_codes_##isa,           \
   max_pool2d_f32_##isa,                   \
   average_pool2d_f32_##isa,               \
   copy_rows_f32_##isa,                    \
   sum_rows_f32_##isa,                     \
   hadamard_f32_##isa,                     \
   attention_f32_##isa,                    \
   rms_norm_f32_##isa,                     \
   layer_norm_f32_##isa,                   \
   activation_f32_##isa,                   \
   silu_mul_f32_##isa,                     \
   softmax_f32_##isa,                      \
   log_softmax_f32_##isa,                  \
   add_f32_##isa,                          \
   mul_f32_##isa}

namespace mm::kernels {

MM_DECLARE_KERNELS(avx2);
void linear_w2a8_avx_vnni(const LinearArgs&);
void linear_w4a8_avx_vnni(const LinearArgs&);
void linear_w8a8_avx_vnni(const LinearArgs&);
MM_DECLARE_KERNELS(avx512_vnni);
void linear_w2a8_amx(const LinearArgs&);
void linear_w4a8_amx(const LinearArgs&);
void linear_w8a8_amx(const LinearArgs&);
MM_DECLARE_KERNELS(neon_dotprod);

}  // namespace mm::kernels
