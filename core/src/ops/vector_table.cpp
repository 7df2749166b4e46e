// Packs vectors into tiles, scans them with the integer kernels and keeps the best rows in a heap.
#include "ops/vector_table.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <string>

#include "quant/layout.h"

namespace mm::ops {
namespace {

constexpr int most_width = 4096;
constexpr int bits = 8;
constexpr int zero2 = 256;       // twice 128: code 0..255 stands for -128..127
constexpr int query_rows = 2;    // the coarse row, and the row of what it leaves over
constexpr int group_tiles = 64;  // 64 tiles x 16 rows x 2 int32 = 8 KB of accumulators: they stay in L1

// The query as two int8 rows: query = scale[0] * codes[0] + scale[1] * codes[1] + at most scale[1] / 2 an element.
struct RoundedQuery {
  std::vector<int8_t> codes;
  float scale[query_rows];
  int32_t sum[query_rows];
};

RoundedQuery round_query(const kernels::KernelTable& kernels, const float* query, int width, int columns) {
  RoundedQuery rounded = {};
  rounded.codes.resize(static_cast<size_t>(columns) * query_rows);
  kernels.quantize_rows(query, 1, width, rounded.codes.data(), columns, rounded.scale, rounded.sum);
  std::vector<float> left(static_cast<size_t>(width));
  for (int i = 0; i < width; ++i)
    left[static_cast<size_t>(i)] =
        query[i] - rounded.scale[0] * static_cast<float>(rounded.codes[static_cast<size_t>(i)]);
  kernels.quantize_rows(left.data(), 1, width, rounded.codes.data() + columns, columns, rounded.scale + 1,
                        rounded.sum + 1);
  return rounded;
}

// The k best so far, worst on top.
class BestRows {
 public:
  explicit BestRows(int64_t k) : k_(static_cast<size_t>(k)) {}

  void offer(int64_t row, float score) {
    if (heap_.size() == k_ && !(score > heap_.front().score)) return;  // rows come in order: an equal one is later
    if (heap_.size() == k_) {
      std::pop_heap(heap_.begin(), heap_.end(), ranks_before);
      heap_.pop_back();
    }
    heap_.push_back({row, score});
    std::push_heap(heap_.begin(), heap_.end(), ranks_before);
  }

  std::vector<ScoredRow> take() {
    std::sort(heap_.begin(), heap_.end(), ranks_before);
    return std::move(heap_);
  }

 private:
  size_t k_;
  std::vector<ScoredRow> heap_;
};

}  // namespace

VectorTable::VectorTable(int width) : width_(width), columns_(quant::round_up(width, quant::column_step)) {}

base::Result<VectorTable> VectorTable::create(int width) {
  if (width < 1 || width > most_width)
    return base::invalid_input("vectors of width " + std::to_string(width) + ", expected 1 to " +
                               std::to_string(most_width));
  return VectorTable(width);
}

size_t VectorTable::bytes() const {
  return chunks_.size() * (quant::packed_bytes(bits, chunk_rows, columns_) + chunk_rows * sizeof(float));
}

bool VectorTable::add_chunk() {
  Chunk chunk;
  const size_t bytes = quant::packed_bytes(bits, chunk_rows, columns_);
  chunk.memory.reset(new (std::nothrow) uint8_t[bytes + quant::tile_bytes - 1]());
  chunk.scales.reset(new (std::nothrow) float[chunk_rows]);
  if (!chunk.memory || !chunk.scales) return false;
  const uintptr_t start = reinterpret_cast<uintptr_t>(chunk.memory.get());
  chunk.tiles = chunk.memory.get() + (quant::tile_bytes - start % quant::tile_bytes) % quant::tile_bytes;
  chunks_.push_back(std::move(chunk));
  return true;
}

base::Status VectorTable::append(const int8_t* codes, const float* scales, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    if (!std::isfinite(scales[i]) || scales[i] < 0)
      return base::invalid_input("the scale of vector " + std::to_string(i) + " is " + std::to_string(scales[i]) +
                                 ", expected a finite number from 0 on");
  while (static_cast<int64_t>(chunks_.size()) * chunk_rows < rows_ + count)
    if (!add_chunk())
      return {base::StatusCode::out_of_memory,
              "no memory for " + std::to_string(count) + " more vectors of width " + std::to_string(width_)};
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = rows_ + i;
    const Chunk& chunk = chunks_[static_cast<size_t>(row / chunk_rows)];
    const int within = static_cast<int>(row % chunk_rows);
    chunk.scales[static_cast<size_t>(within)] = scales[i];
    const size_t tile_row_bytes = static_cast<size_t>(columns_) * quant::tile_rows;
    uint8_t* out = chunk.tiles + static_cast<size_t>(within / quant::tile_rows) * tile_row_bytes +
                   static_cast<size_t>(within % quant::tile_rows) * 4;
    const int8_t* in = codes + i * width_;
    for (int column = 0; column < width_; ++column)
      out[static_cast<size_t>(column / 4) * quant::tile_bytes + static_cast<size_t>(column % 4)] =
          static_cast<uint8_t>(in[column] + 128);
  }
  rows_ += count;
  return {};
}

base::Status VectorTable::check_query(const float* query) const {
  for (int i = 0; i < width_; ++i)
    if (!std::isfinite(query[i]))
      return base::invalid_input("element " + std::to_string(i) + " of the query is " + std::to_string(query[i]) +
                                 ", expected a finite number");
  return {};
}

base::Result<std::vector<ScoredRow>> VectorTable::search(const kernels::KernelTable& kernels, const float* query,
                                                         int64_t k, const uint8_t* allowed, int64_t row_begin) const {
  MM_RETURN_IF_ERROR(check_query(query));
  if (k < 1) return base::invalid_input("k is " + std::to_string(k) + ", expected at least 1");
  if (row_begin < 0)
    return base::invalid_input("the first row is " + std::to_string(row_begin) + ", expected 0 or more");
  const RoundedQuery rounded = round_query(kernels, query, width_, columns_);
  BestRows best(k);
  int32_t sums[query_rows * group_tiles * quant::tile_rows];
  // The kernel gives twice the sum.
  const float coarse = 0.5f * rounded.scale[0], fine = 0.5f * rounded.scale[1];
  for (int64_t chunk_begin = row_begin / chunk_rows * chunk_rows; chunk_begin < rows_; chunk_begin += chunk_rows) {
    const Chunk& chunk = chunks_[static_cast<size_t>(chunk_begin / chunk_rows)];
    const int first = static_cast<int>(std::max<int64_t>(row_begin - chunk_begin, 0));
    const int last = static_cast<int>(std::min<int64_t>(rows_ - chunk_begin, chunk_rows));
    const int tiles = (last + quant::tile_rows - 1) / quant::tile_rows;
    for (int tile = first / quant::tile_rows; tile < tiles; tile += group_tiles) {
      const int tile_end = std::min(tile + group_tiles, tiles);
      const int stride = (tile_end - tile) * quant::tile_rows;
      kernels.linear_w8a8(
          {rounded.codes.data(), rounded.sum, chunk.tiles, query_rows, columns_, zero2, tile, tile_end, sums, stride});
      const int tile_row = tile * quant::tile_rows;
      const int end = std::min(tile_row + stride, last);
      for (int row = std::max(tile_row, first); row < end; ++row) {
        if (allowed != nullptr && allowed[chunk_begin + row] == 0) continue;
        const int at = row - tile_row;
        const float sum = coarse * static_cast<float>(sums[at]) + fine * static_cast<float>(sums[stride + at]);
        best.offer(chunk_begin + row, chunk.scales[static_cast<size_t>(row)] * sum);
      }
    }
  }
  return best.take();
}

base::Status VectorTable::score(const float* query, const int64_t* rows, int64_t count, float* scores) const {
  MM_RETURN_IF_ERROR(check_query(query));
  for (int64_t i = 0; i < count; ++i) {
    if (rows[i] < 0 || rows[i] >= rows_)
      return base::invalid_input("row " + std::to_string(rows[i]) + " of " + std::to_string(rows_) +
                                 " vectors, expected 0 to one less");
    const Chunk& chunk = chunks_[static_cast<size_t>(rows[i] / chunk_rows)];
    const int within = static_cast<int>(rows[i] % chunk_rows);
    double sum = 0;
    for (int column = 0; column < width_; ++column)
      sum += static_cast<double>(query[column]) * (quant::code_at(chunk.tiles, bits, columns_, within, column) - 128);
    scores[i] = static_cast<float>(sum * chunk.scales[static_cast<size_t>(within)]);
  }
  return {};
}

}  // namespace mm::ops
