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

StateStore::StateStore(std::vector<StateInfo> infos, int max_sequences, int max_places, size_t bytes_most)
    : infos_(std::move(infos)),
      max_sequences_(std::clamp(max_sequences, 1, 256)),
      max_places_(std::clamp(max_places, 1, 256)),
      bytes_most_(bytes_most) {
  caches_.resize(infos_.size());
  memories_.resize(infos_.size());
  for (const StateInfo& info : infos_)
    if (info.kind == StateKind::cache) max_positions_ = std::max(max_positions_, info.rows);
  slot_of_.assign(static_cast<size_t>(max_sequences_) * static_cast<size_t>(max_positions_), 0);
}

void StateStore::reset() {
  reset_sequences();
  for (Memory& memory : memories_) std::fill(memory.rows.begin(), memory.rows.end(), 0);
}

void StateStore::reset_sequences() {
  for (Cache& cache : caches_) std::fill(cache.lengths.begin(), cache.lengths.end(), 0);
}

void StateStore::truncate(int sequence, int length) {
  for (Cache& cache : caches_)
    if (static_cast<size_t>(sequence) < cache.lengths.size())
      cache.lengths[static_cast<size_t>(sequence)] = std::min(cache.lengths[static_cast<size_t>(sequence)], length);
}

base::Status StateStore::reserve(AlignedBuffer& buffer, size_t bytes, int state) {
  const size_t before = buffer.bytes();
  if (bytes <= before) return {};
  const std::string what = "state `" + info(state).name + "`, " + std::to_string(bytes) + " bytes";
  if (bytes > bytes_most_ - (bytes_ - before))
    return {base::StatusCode::out_of_memory,
            "no room for " + what + ": the states of a session may take " + std::to_string(bytes_most_) + " bytes",
            "ask for fewer pictures or beams at once"};
  const bool is_there = buffer.reserve(bytes);
  bytes_ = bytes_ - before + buffer.bytes();
  if (is_there) return {};
  return {base::StatusCode::out_of_memory, "no memory for " + what};
}

base::Status StateStore::reorder(const int32_t* parents, int count, int first) {
  if (first < 0 || first >= max_sequences_ || count < 1 || count > max_sequences_ - first)
    return base::invalid_input("reorder of " + std::to_string(count) + " sequences from sequence " +
                               std::to_string(first) + ", expected 1 to " + std::to_string(max_sequences_) + " in all");
  for (int i = 0; i < count; ++i)
    if (parents[i] < 0 || parents[i] >= max_sequences_ - first)
      return base::invalid_input("parent sequence " + std::to_string(parents[i]) + ", expected 0 to " +
                                 std::to_string(max_sequences_ - first - 1));
  // Parents are copied aside first: sequence 0 may continue 1 while 1 continues 0.
  const size_t row = static_cast<size_t>(max_positions_);
  slot_scratch_.resize(static_cast<size_t>(count) * row);
  for (int i = 0; i < count; ++i)
    std::copy_n(slot_of_.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(first + parents[i]) * row), row,
                slot_scratch_.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(i) * row));
  std::copy(slot_scratch_.begin(), slot_scratch_.end(),
            slot_of_.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(first) * row));
  std::vector<int> lengths(static_cast<size_t>(count));
  for (Cache& cache : caches_) {
    const auto length_of = [&](int sequence) {
      return static_cast<size_t>(sequence) < cache.lengths.size() ? cache.lengths[static_cast<size_t>(sequence)] : 0;
    };
    for (int i = 0; i < count; ++i) lengths[static_cast<size_t>(i)] = length_of(first + parents[i]);
    if (cache.lengths.empty()) continue;  // nothing was appended yet
    if (cache.lengths.size() < static_cast<size_t>(first + count)) {
      cache.lengths.resize(static_cast<size_t>(first + count), 0);
      cache.slots.resize(cache.lengths.size());
    }
    std::copy(lengths.begin(), lengths.end(), cache.lengths.begin() + first);
  }
  return {};
}

base::Status StateStore::write_memory(int state, const float* rows, int row_count) {
  const StateInfo& about = info(state);
  if (row_count < 1 || row_count > about.rows)
    return base::invalid_input("memory `" + about.name + "` written with " + std::to_string(row_count) +
                               " rows, expected 1 to " + std::to_string(about.rows));
  if (places_.written < 0 || places_.written >= max_places_)
    return base::invalid_input("memory `" + about.name + "` written at place " + std::to_string(places_.written) +
                               ", expected 0 to " + std::to_string(max_places_ - 1));
  const size_t place = static_cast<size_t>(places_.written);
  Memory& memory = memories_[static_cast<size_t>(state)];
  if (memory.places.size() <= place) {
    memory.places.resize(place + 1);
    memory.rows.resize(place + 1, 0);
  }
  const size_t bytes = static_cast<size_t>(row_count) * static_cast<size_t>(about.width) * sizeof(float);
  memory.rows[place] = 0;
  MM_RETURN_IF_ERROR(reserve(memory.places[place], bytes, state));
  std::memcpy(memory.places[place].data(), rows, bytes);
  memory.rows[place] = row_count;
  return {};
}

const float* StateStore::memory(int state, int place) const {
  return reinterpret_cast<const float*>(
      memories_[static_cast<size_t>(state)].places[static_cast<size_t>(place)].data());
}

base::Status StateStore::check_read(int state, int rows) const {
  const StateInfo& about = info(state);
  if (!places_.read.empty() && places_.read.size() != static_cast<size_t>(rows))
    return base::invalid_input(std::to_string(rows) + " rows read memory `" + about.name + "`, but " +
                               std::to_string(places_.read.size()) + " have a place");
  for (int row = 0; row < (places_.read.empty() ? 1 : rows); ++row) {
    const int place = read_place(row);
    if (place < 0 || place >= max_places_)
      return base::invalid_input("memory `" + about.name + "` read at place " + std::to_string(place) +
                                 ", expected 0 to " + std::to_string(max_places_ - 1));
    if (memory_rows(state, place) < 1)
      return base::invalid_input("the state `" + about.name + "` is empty" +
                                     (place > 0 ? " at place " + std::to_string(place) : std::string()),
                                 "run the program that writes it first");
  }
  return {};
}

base::Status StateStore::append(int state, int sequence, int position, const float* row) {
  const StateInfo& about = info(state);
  if (sequence < 0 || sequence >= max_sequences_)
    return base::invalid_input("sequence " + std::to_string(sequence) + ", expected 0 to " +
                               std::to_string(max_sequences_ - 1));
  Cache& cache = caches_[static_cast<size_t>(state)];
  if (cache.lengths.size() <= static_cast<size_t>(sequence)) {
    cache.lengths.resize(static_cast<size_t>(sequence) + 1, 0);
    cache.slots.resize(cache.lengths.size());
  }
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
  if (slot.data() == nullptr)
    MM_RETURN_IF_ERROR(reserve(slot, static_cast<size_t>(about.rows) * width * sizeof(float), state));
  std::memcpy(reinterpret_cast<float*>(slot.data()) + static_cast<size_t>(position) * width, row,
              width * sizeof(float));
  slot_of_[static_cast<size_t>(sequence) * static_cast<size_t>(max_positions_) + static_cast<size_t>(position)] =
      static_cast<uint8_t>(sequence);
  ++length;
  return {};
}

const float* StateStore::cache_row(int state, int sequence, int position) const {
  const size_t at = static_cast<size_t>(sequence) * static_cast<size_t>(max_positions_) + static_cast<size_t>(position);
  const std::vector<AlignedBuffer>& slots = caches_[static_cast<size_t>(state)].slots;
  const size_t slot = slot_of_[at];
  if (slot >= slots.size() || slots[slot].data() == nullptr) return nullptr;
  return reinterpret_cast<const float*>(slots[slot].data()) +
         static_cast<size_t>(position) * static_cast<size_t>(info(state).width);
}

bool StateStore::cache_rows(int state, int sequence, int count, const float** rows) const {
  const std::vector<AlignedBuffer>& slots = caches_[static_cast<size_t>(state)].slots;
  const uint8_t* slot_of = slot_of_.data() + static_cast<size_t>(sequence) * static_cast<size_t>(max_positions_);
  const size_t width = static_cast<size_t>(info(state).width);
  for (size_t position = 0; position < static_cast<size_t>(count); ++position) {
    const size_t slot = slot_of[position];
    if (slot >= slots.size() || slots[slot].data() == nullptr) return false;
    rows[position] = reinterpret_cast<const float*>(slots[slot].data()) + position * width;
  }
  return true;
}

RotaryTable& StateStore::rotary_table(float theta, int head_dim) {
  constexpr size_t tables_most = 4;  // a model has one or two
  for (RotaryTable& table : rotary_tables_)
    if (table.is_for(theta, head_dim)) return table;
  if (rotary_tables_.size() == tables_most) rotary_tables_.clear();
  rotary_tables_.emplace_back(theta, head_dim);
  return rotary_tables_.back();
}

}  // namespace mm::ops
