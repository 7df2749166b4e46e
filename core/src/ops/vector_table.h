// Holds int8 vectors as 8-bit tiles and finds those nearest to a query by looking at every one of them.
//
// Vector i stands for scale[i] * code[i, :]; the score of a query q is the inner product q . (scale[i] * code[i, :]),
// for unit vectors the cosine. A row is a row of a w8 matrix (quant/layout.h), so a scan is one linear layer.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "kernels/kernels.h"

namespace mm::ops {

struct ScoredRow {
  int64_t row;
  float score;
};

// Best score first; of equal scores the lower row, so that an answer does not depend on how rows were visited.
inline bool ranks_before(const ScoredRow& a, const ScoredRow& b) {
  return a.score > b.score || (a.score == b.score && a.row < b.row);
}

class VectorTable {
 public:
  static base::Result<VectorTable> create(int width);  // 1 to 4096

  int width() const { return width_; }
  int64_t rows() const { return rows_; }
  size_t bytes() const;  // of codes and scales, reserved rows included

  // Adds `count` rows behind the others: codes [count, width], finite scales [count]. A failure adds none.
  base::Status append(const int8_t* codes, const float* scales, int64_t count);

  // The k best of the rows [row_begin, rows()) that are not 0 in `allowed` [rows()] (nullptr: all of them); fewer than
  // k when there are no more. The query [width] is rounded to two int8 rows, a coarse one and what it leaves over: a
  // score is at most query_step / 2 * |scale * code|_1 from the float inner product, query_step <= max|query| / 32258.
  base::Result<std::vector<ScoredRow>> search(const kernels::KernelTable& kernels, const float* query, int64_t k,
                                              const uint8_t* allowed, int64_t row_begin) const;

  // The plain twin: the float inner product with each of the named rows.
  base::Status score(const float* query, const int64_t* rows, int64_t count, float* scores) const;

 private:
  // 4096 rows of 256 columns are 1 MiB: growing copies nothing and reserves little.
  static constexpr int chunk_rows = 4096;
  struct Chunk {
    std::unique_ptr<uint8_t[]> memory;  // the tiles begin at the first cache line inside
    uint8_t* tiles = nullptr;
    std::unique_ptr<float[]> scales;
  };

  explicit VectorTable(int width);
  base::Status check_query(const float* query) const;
  bool add_chunk();

  int width_, columns_;  // columns_: the width, padded
  int64_t rows_ = 0;
  std::vector<Chunk> chunks_;
};

}  // namespace mm::ops
