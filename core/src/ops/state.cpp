// Allocates, appends to and reorders the states of a session.
#include "ops/state.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace mm::ops {

bool AlignedBuffer::reserve(size_t bytes) {
  if (bytes <= bytes_) return true;
  owner_.reset();
  data_ = nullptr;
  bytes_ = 0;
  owner_.reset(new (std::nothrow) uint8_t[bytes + 64]);
  if (!owner_) return false;
  const uintptr_t address = reinterpret_cast<uintptr_t>(owner_.get());
  data_ = owner_.get() + ((64 - address % 64) % 64);
  bytes_ = bytes;
  return true;
}

StateStore::StateStore(std::vector<StateInfo> infos, int max_sequences)
    : infos_(std::move(infos)), max_sequences_(std::clamp(max_sequences, 1, 255)) {
  caches_.resize(infos_.size());
  memories_.resize(infos_.size());
  memory_rows_.assign(infos_.size(), 0);
  for (size_t i = 0; i < infos_.size(); ++i) {
    if (infos_[i].kind != StateKind::cache) continue;
    max_positions_ = std::max(max_positions_, infos_[i].rows);
    caches_[i].slots.resize(static_cast<size_t>(max_sequences_));
    caches_[i].lengths.assign(static_cast<size_t>(max_sequences_), 0);
  }
  slot_of_.assign(static_cast<size_t>(max_sequences_) * static_cast<size_t>(max_positions_), 0);
  slot_scratch_ = slot_of_;
}

void StateStore::reset() {
  reset_sequences();
  std::fill(memory_rows_.begin(), memory_rows_.end(), 0);
}

void StateStore::reset_sequences() {
  for (Cache& cache : caches_) std::fill(cache.lengths.begin(), cache.lengths.end(), 0);
}

base::Status StateStore::reorder(const int32_t* parents, int count) {
  if (count < 1 || count > max_sequences_)
    return base::invalid_input("reorder of " + std::to_string(count) + " sequences, expected 1 to " +
                               std::to_string(max_sequences_));
  for (int i = 0; i < count; ++i)
    if (parents[i] < 0 || parents[i] >= max_sequences_)
      return base::invalid_input("parent sequence " + std::to_string(parents[i]) + ", expected 0 to " +
                                 std::to_string(max_sequences_ - 1));
  const size_t row = static_cast<size_t>(max_positions_);
  slot_scratch_ = slot_of_;
  for (int i = 0; i < count; ++i)
    std::memcpy(slot_of_.data() + static_cast<size_t>(i) * row,
                slot_scratch_.data() + static_cast<size_t>(parents[i]) * row, row);
  std::vector<int> lengths;
  for (Cache& cache : caches_) {
    if (cache.lengths.empty()) continue;
    lengths = cache.lengths;
    for (int i = 0; i < count; ++i) cache.lengths[static_cast<size_t>(i)] = lengths[static_cast<size_t>(parents[i])];
  }
  return {};
}

base::Status StateStore::write_memory(int state, const float* rows, int row_count) {
  const StateInfo& about = info(state);
  if (row_count < 1 || row_count > about.rows)
    return base::invalid_input("memory `" + about.name + "` written with " + std::to_string(row_count) +
                               " rows, expected 1 to " + std::to_string(about.rows));
  const size_t bytes = static_cast<size_t>(row_count) * static_cast<size_t>(about.width) * sizeof(float);
  AlignedBuffer& buffer = memories_[static_cast<size_t>(state)];
  memory_rows_[static_cast<size_t>(state)] = 0;
  if (!buffer.reserve(bytes))
    return {base::StatusCode::out_of_memory,
            "no memory for state `" + about.name + "`, " + std::to_string(bytes) + " bytes"};
  std::memcpy(buffer.data(), rows, bytes);
  memory_rows_[static_cast<size_t>(state)] = row_count;
  return {};
}

const float* StateStore::memory(int state) const {
  return reinterpret_cast<const float*>(memories_[static_cast<size_t>(state)].data());
}

base::Status StateStore::append(int state, int sequence, int position, const float* row) {
  const StateInfo& about = info(state);
  if (sequence < 0 || sequence >= max_sequences_)
    return base::invalid_input("sequence " + std::to_string(sequence) + ", expected 0 to " +
                               std::to_string(max_sequences_ - 1));
  Cache& cache = caches_[static_cast<size_t>(state)];
  int& length = cache.lengths[static_cast<size_t>(sequence)];
  if (position >= about.rows)
    return base::invalid_input("position " + std::to_string(position) + " of cache `" + about.name + "`, which holds " +
                                   std::to_string(about.rows) + " positions",
                               "ask for fewer tokens");
  if (position != length)
    return base::invalid_input("position " + std::to_string(position) + " of sequence " + std::to_string(sequence) +
                               ", expected " + std::to_string(length) + ": positions are appended in order");
  AlignedBuffer& slot = cache.slots[static_cast<size_t>(sequence)];
  const size_t width = static_cast<size_t>(about.width);
  if (slot.data() == nullptr && !slot.reserve(static_cast<size_t>(about.rows) * width * sizeof(float)))
    return {base::StatusCode::out_of_memory, "no memory for cache `" + about.name + "`"};
  std::memcpy(reinterpret_cast<float*>(slot.data()) + static_cast<size_t>(position) * width, row,
              width * sizeof(float));
  slot_of_[static_cast<size_t>(sequence) * static_cast<size_t>(max_positions_) + static_cast<size_t>(position)] =
      static_cast<uint8_t>(sequence);
  ++length;
  return {};
}

const float* StateStore::cache_row(int state, int sequence, int position) const {
  const size_t at = static_cast<size_t>(sequence) * static_cast<size_t>(max_positions_) + static_cast<size_t>(position);
  const AlignedBuffer& slot = caches_[static_cast<size_t>(state)].slots[slot_of_[at]];
  return reinterpret_cast<const float*>(slot.data()) +
         static_cast<size_t>(position) * static_cast<size_t>(info(state).width);
}

}  // namespace mm::ops
