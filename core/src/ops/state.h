// Keeps what survives between program runs: key-value caches a sequence long, and memories written whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace mm::ops {

enum class StateKind { cache, memory };

struct StateInfo {
  std::string name;
  StateKind kind = StateKind::cache;
  int width = 0;  // floats in a row
  int rows = 0;   // the most positions of a cache, the most rows of a memory
};

// 64-byte aligned floats that are not cleared on growth.
class AlignedBuffer {
 public:
  bool reserve(size_t bytes);  // keeps nothing of the old content; false: out of memory
  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  std::unique_ptr<uint8_t[]> owner_;
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

// A sequence is one hypothesis (a beam). Row (position p of sequence s) of every cache lies in slot slot_of[s][p], so
// that beams share their common past: reordering beams copies a few bytes of this table and no cache row.
class StateStore {
 public:
  StateStore(std::vector<StateInfo> infos, int max_sequences);

  int count() const { return static_cast<int>(infos_.size()); }
  const StateInfo& info(int state) const { return infos_[static_cast<size_t>(state)]; }
  int max_sequences() const { return max_sequences_; }

  void reset();            // forgets everything
  void reset_sequences();  // forgets the sequences, keeps the memories
  // Sequence i continues what was sequence parents[i].
  base::Status reorder(const int32_t* parents, int count);

  base::Status write_memory(int state, const float* rows, int row_count);
  const float* memory(int state) const;  // [memory_rows(state), width]
  int memory_rows(int state) const { return memory_rows_[static_cast<size_t>(state)]; }

  // Appends one row; `position` must be the sequence's next one in this cache.
  base::Status append(int state, int sequence, int position, const float* row);
  // Address of the row of a position that was appended.
  const float* cache_row(int state, int sequence, int position) const;

 private:
  struct Cache {
    std::vector<AlignedBuffer> slots;  // [rows, width] each, allocated when first written
    std::vector<int> lengths;          // positions written, by sequence
  };
  std::vector<StateInfo> infos_;
  int max_sequences_;
  int max_positions_ = 0;
  std::vector<Cache> caches_;
  std::vector<AlignedBuffer> memories_;
  std::vector<int> memory_rows_;
  std::vector<uint8_t> slot_of_;  // [max_sequences, max_positions]
  std::vector<uint8_t> slot_scratch_;
};

}  // namespace mm::ops
