// Keeps what survives between program runs: key-value caches a sequence long, and memories written whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "ops/rotary_table.h"

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

// Which place of the memories a run writes, and which one each of its rows reads. A memory has a place for each of
// several pictures, so that rows of different pictures can share a run; programs know nothing of it.
struct MemoryPlaces {
  int written = 0;
  std::vector<int> read;  // by row; empty: every row reads place 0
};

// A sequence is one hypothesis (a beam). Row (position p of sequence s) of every cache lies in slot slot_of[s][p], so
// that beams share their common past: reordering beams copies a few bytes of this table and no cache row.
class StateStore {
 public:
  // At most 256 sequences: slot_of is one byte an entry. What all states hold together stays within `bytes_most`.
  StateStore(std::vector<StateInfo> infos, int max_sequences, int max_places, size_t bytes_most);

  int count() const { return static_cast<int>(infos_.size()); }
  const StateInfo& info(int state) const { return infos_[static_cast<size_t>(state)]; }
  int max_sequences() const { return max_sequences_; }
  int max_places() const { return max_places_; }
  size_t bytes() const { return bytes_; }  // allocated so far

  void reset();            // forgets everything
  void reset_sequences();  // forgets the sequences, keeps the memories
  // Forgets a sequence from position `length` on, in every cache that holds more of it.
  void truncate(int sequence, int length);
  // Sequence first + i continues what was sequence first + parents[i]: searches with sequences of their own do not
  // disturb each other.
  base::Status reorder(const int32_t* parents, int count, int first = 0);

  base::Status write_memory(int state, const float* rows, int row_count);
  const float* memory(int state, int place) const;  // [memory_rows(state, place), width]
  int memory_rows(int state, int place) const { return memories_[static_cast<size_t>(state)].rows_at(place); }

  // The places of the run that begins; checked when they are used.
  void set_places(const MemoryPlaces& places) { places_ = places; }
  // Whether `rows` rows may read this memory: as many places as rows are set, or none, and each place was written.
  base::Status check_read(int state, int rows) const;
  int read_place(int row) const { return places_.read.empty() ? 0 : places_.read[static_cast<size_t>(row)]; }

  // Appends one row; `position` must be the sequence's next one in this cache.
  base::Status append(int state, int sequence, int position, const float* row);
  // Address of the row of a position that was appended; nullptr when the slot it should lie in was never written.
  const float* cache_row(int state, int sequence, int position) const;
  // The same for the positions [0, count); false when one of them is missing.
  bool cache_rows(int state, int sequence, int count, const float** rows) const;

  RotaryTable& rotary_table(float theta, int head_dim);

 private:
  struct Cache {
    std::vector<AlignedBuffer> slots;  // [rows, width] each, allocated when first written
    std::vector<int> lengths;          // positions written, by sequence
  };
  struct Memory {
    std::vector<AlignedBuffer> places;  // grown when first written
    std::vector<int> rows;              // written, by place
    int rows_at(int place) const {
      return static_cast<size_t>(place) < rows.size() ? rows[static_cast<size_t>(place)] : 0;
    }
  };
  // Makes `buffer` at least so large, within the bound of all states.
  base::Status reserve(AlignedBuffer& buffer, size_t bytes, int state);

  std::vector<StateInfo> infos_;
  int max_sequences_, max_places_;
  size_t bytes_most_, bytes_ = 0;
  int max_positions_ = 0;
  std::vector<Cache> caches_;
  std::vector<Memory> memories_;
  std::vector<uint8_t> slot_of_;  // [max_sequences, max_positions]
  std::vector<uint8_t> slot_scratch_;
  MemoryPlaces places_;
  std::vector<RotaryTable> rotary_tables_;
};

}  // namespace mm::ops
