// Holds one matrix of 2-, 4- or 8-bit weights, checked, and multiplies blocks of int8 rows with it.
#pragma once

#include <string>

#include "ops/op.h"

namespace mm::ops {

// Calls body(first, count) for equal blocks of at most `block_rows` rows that cover [0, rows).
template <class Body>
void each_block(int rows, int block_rows, Body&& body) {
  for (int first = 0, blocks = (rows + block_rows - 1) / block_rows; blocks > 0; --blocks) {
    const int count = (rows - first + blocks - 1) / blocks;
    body(first, count);
    first += count;
  }
}

// Where the rows of one block lie while they are multiplied.
struct QuantizedRows {
  int8_t* x;        // [rows, k_padded]
  float* scale;     // [rows]
  int32_t* sum;     // [rows]
  int32_t* acc;     // accumulators of one group of tiles
  int group_tiles;  // tiles whose accumulators fit
};

struct PackedMatrix {
  int bits, n, k, zero2, k_padded, tiles;
  kernels::Activation activation;
  const uint8_t* weight;
  const float* scale;
  const float* bias;  // nullptr: none

  // y[r, c] = activation(x W^T + bias) + residual for the columns of tiles [tile_begin, tile_end); rows of y and
  // residual are n apart. As codes: clamp(round(x W^T + bias), 0, 127), without activation and residual.
  void multiply(const kernels::KernelTable& kernels, const QuantizedRows& rows, int m, int tile_begin, int tile_end,
                const float* residual, float* y) const;
  void multiply(const kernels::KernelTable& kernels, const QuantizedRows& rows, int m, int tile_begin, int tile_end,
                const float* residual, int8_t* y) const;
  // The same for m rows of k: float32 ones, which become int8, or codes; in equal blocks of at most `block_rows`, as
  // many as `rows` holds.
  template <class X, class Y>
  void apply(const kernels::KernelTable& kernels, const QuantizedRows& rows, int block_rows, const X* x, int m,
             int tile_begin, int tile_end, const float* residual, Y* y) const {
    each_block(m, block_rows, [&](int row, int count) {
      const size_t first = static_cast<size_t>(row), at = first * static_cast<size_t>(n);
      fill_rows(kernels, rows, x + first * static_cast<size_t>(k), count);
      multiply(kernels, rows, count, tile_begin, tile_end, residual != nullptr ? residual + at : nullptr, y + at);
    });
  }

 private:
  void fill_rows(const kernels::KernelTable& kernels, const QuantizedRows& rows, const float* x, int count) const;
  void fill_rows(const kernels::KernelTable& kernels, const QuantizedRows& rows, const int8_t* codes, int count) const;
  template <class Finish>
  void each_group(const kernels::KernelTable& kernels, const QuantizedRows& rows, int m, int tile_begin, int tile_end,
                  Finish&& finish) const;
};

// Checks bits, n, k, zero2, activation and the tensors that must fit them; `bias` may be nullptr.
base::Result<PackedMatrix> packed_matrix(const std::string& op, int bits, int n, int64_t k, int zero2, int activation,
                                         const tensor::TensorView& packed, const tensor::TensorView& scale,
                                         const tensor::TensorView* bias);

// Threads that share rows take multiples of this, as many as are quantized together; whole blocks would leave one of
// two threads 2 of 5.
inline constexpr size_t rows_apart = 4;

// 48 rows are a multiple of the kernels' 4-, 8- and 12-row blocks, and 48 rows of 1280 int8 activations (60 KB) stay in
// L2. Equal blocks: 97 rows become 33 + 32 + 32, not 48 + 48 + 1. Up to 64 rows, the chunks of a text that is read, are
// one block, so that low-bit weights are unpacked once.
int balanced_block(int64_t rows);
// 6144 int32 accumulators are 24 KB: half of a 48 KB L1, the rest is for weights and activations. Kernels take tiles in
// pairs.
int tiles_in_group(int block_rows, int tiles);

// Scratch memory of one block, piece by piece, each on a cache line of its own.
class ScratchPieces {
 public:
  explicit ScratchPieces(uint8_t* base) : base_(reinterpret_cast<uintptr_t>(base)) {}
  template <class T>
  T* take(size_t count) {
    T* piece = reinterpret_cast<T*>(base_ + used_);
    used_ += (count * sizeof(T) + 63) / 64 * 64;
    return piece;
  }
  size_t used() const { return used_; }

 private:
  uintptr_t base_;  // 0 while sizes are counted
  size_t used_ = 0;
};

QuantizedRows take_rows(ScratchPieces& scratch, int block_rows, int k_padded, int group_tiles);

}  // namespace mm::ops
