// Parses GGUF v3: every count, length, type and offset is checked against the bytes that are there before it is used.
#include "tensor/gguf_parser.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/utf8.h"
#include "tensor/byte_cursor.h"

namespace mm::tensor {

using base::model_format;
using base::Status;

namespace {

// Bounds on what a file may ask for. The largest shipped model has about 300 tensors and 100 keys.
constexpr uint64_t max_pairs = 65536;
constexpr uint64_t max_tensors = 65536;
constexpr uint64_t max_name_bytes = 65536;
constexpr uint64_t max_elements = uint64_t{1} << 48;
// Metadata and tensor table: a vocabulary of 256k tokens with its merges takes about 10 MB. A byte array grows
// eightfold in memory (MetadataValue keeps u64), so this also holds an opened file under 256 MB.
constexpr size_t max_header_bytes = size_t{32} << 20;
// The smallest pair is a key of one byte and a value of one byte: 8 + 1 + 4 + 1. The smallest tensor entry: 8 + 1 + 4 +
// 8 + 4 + 8.
constexpr uint64_t min_pair_bytes = 14;
constexpr uint64_t min_tensor_bytes = 33;

constexpr const char* alignment_key = "general.alignment";
constexpr const char* download_hint = "the file is damaged or cut off: download or build it again";

enum class ValueType : uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};

// The bytes of a scalar, the length field of a string; 0: no scalar type.
uint64_t min_value_bytes(uint32_t type) {
  constexpr uint64_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};
  return type < std::size(sizes) ? sizes[type] : 0;
}

Status cut_off(const std::string& what, uint64_t needed, uint64_t left) {
  return model_format(
      what + " needs " + std::to_string(needed) + " bytes, expected at most the " + std::to_string(left) + " left",
      download_hint);
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// A tensor entry as the file states it, dimensions already reversed and multiplied.
struct TensorEntry {
  std::string_view name;
  DType dtype = DType::f32;
  Shape shape;
  uint64_t bytes = 0;
  uint64_t offset = 0;  // in the data section
};

class Parser {
 public:
  explicit Parser(ParsedFile& out)
      : out_(out), cursor_(out.file->data(), std::min(out.file->size(), max_header_bytes)) {}

  Status parse() {
    MM_RETURN_IF_ERROR(parse_header());
    for (uint64_t i = 0; i < pair_count_; ++i) MM_RETURN_IF_ERROR(parse_pair(i));
    const std::string_view twice = out_.keys.build();
    if (!twice.empty()) return model_format("metadata key " + quoted(twice) + " occurs twice, expected once");
    MM_RETURN_IF_ERROR(check_alignment());
    for (uint64_t i = 0; i < tensor_count_; ++i) MM_RETURN_IF_ERROR(parse_tensor(i));
    return place_tensors();
  }

 private:
  Status parse_header() {
    uint32_t magic = 0, version = 0;
    if (!cursor_.read(magic) || !cursor_.read(version) || !cursor_.read(tensor_count_) || !cursor_.read(pair_count_)) {
      return cut_off("the header", 24, out_.file->size());
    }
    if (magic != 0x46554747u) {  // "GGUF"
      char found[16];
      for (int i = 0; i < 4; ++i) {
        found[2 * i] = "0123456789abcdef"[(magic >> (8 * i + 4)) & 15];
        found[2 * i + 1] = "0123456789abcdef"[(magic >> (8 * i)) & 15];
      }
      return model_format("the file begins with bytes " + std::string(found, 8) + ", expected 47475546 (GGUF)",
                          "this is no model file");
    }
    if (version != 3) {
      return model_format("the file is GGUF version " + std::to_string(version) + ", expected 3 (little-endian)");
    }
    MM_RETURN_IF_ERROR(check_count("metadata pairs", pair_count_, max_pairs, min_pair_bytes));
    MM_RETURN_IF_ERROR(check_count("tensors", tensor_count_, max_tensors, min_tensor_bytes));
    const size_t pairs = static_cast<size_t>(pair_count_);
    const size_t tensors = static_cast<size_t>(tensor_count_);
    out_.keys.names.reserve(pairs);
    out_.values.reserve(pairs);
    out_.pair_ranges.reserve(pairs);
    entries_.reserve(tensors);
    return {};
  }

  Status check_count(const char* what, uint64_t count, uint64_t most, uint64_t least_bytes) const {
    if (count > most) {
      return model_format("the file announces " + std::to_string(count) + " " + what + ", expected at most " +
                          std::to_string(most));
    }
    if (count > cursor_.left() / least_bytes) {
      return model_format("the file announces " + std::to_string(count) + " " + what + ", expected at most the " +
                              std::to_string(cursor_.left() / least_bytes) + " that fit into it",
                          download_hint);
    }
    return {};
  }

  // A string of UTF-8; `what` names it in messages.
  Status parse_string(const std::string& what, uint64_t most, std::string_view& text) {
    uint64_t length = 0;
    if (!cursor_.read(length)) return cut_off(what, 8, cursor_.left());
    if (length > most) {
      return model_format(what + " has " + std::to_string(length) + " bytes, expected at most " + std::to_string(most));
    }
    if (!cursor_.read(text, length)) return cut_off(what, length, cursor_.left());
    if (!base::is_valid_utf8(text)) return model_format(what + " is not UTF-8");
    return {};
  }

  Status parse_name(const std::string& what, std::string_view& name) {
    MM_RETURN_IF_ERROR(parse_string(what, max_name_bytes, name));
    if (name.empty()) return model_format(what + " is empty, expected at least 1 byte");
    // A zero byte would cut the name short behind the C ABI, where it could then stand for another one.
    if (name.find('\0') != std::string_view::npos)
      return model_format(what + " " + quoted(name) + " holds a zero byte");
    return {};
  }

  Status parse_pair(uint64_t number) {
    ByteRange range;
    range.begin = cursor_.position();
    std::string_view key;
    MM_RETURN_IF_ERROR(parse_name("the name of metadata key " + std::to_string(number), key));
    const std::string what = "metadata key " + quoted(key);
    uint32_t type = 0;
    if (!cursor_.read(type)) return cut_off(what, 4, cursor_.left());
    MetadataValue value;
    if (static_cast<ValueType>(type) == ValueType::array) {
      MM_RETURN_IF_ERROR(parse_array(what, value));
    } else {
      if (min_value_bytes(type) == 0) return unknown_type(what, type);
      MM_RETURN_IF_ERROR(parse_scalar(what, type, value));
    }
    range.end = cursor_.position();
    if (key == alignment_key) alignment_type_ = static_cast<ValueType>(type);
    out_.keys.names.push_back(key);
    out_.values.push_back(std::move(value));
    out_.pair_ranges.push_back(range);
    return {};
  }

  static Status unknown_type(const std::string& what, uint32_t type) {
    return model_format(what + " has value type " + std::to_string(type) + ", expected 0 to 12");
  }

  // Reads a T and widens it.
  template <class T, class Wide>
  Status parse_number(const std::string& what, Wide& wide) {
    T value = 0;
    if (!cursor_.read(value)) return cut_off(what, sizeof(T), cursor_.left());
    wide = static_cast<Wide>(value);
    return {};
  }

  Status parse_boolean(const std::string& what, uint64_t& value) {
    MM_RETURN_IF_ERROR(parse_number<uint8_t>(what, value));
    if (value > 1) return model_format(what + " holds the boolean " + std::to_string(value) + ", expected 0 or 1");
    return {};
  }

  Status parse_unsigned(const std::string& what, ValueType type, uint64_t& value) {
    if (type == ValueType::u8) return parse_number<uint8_t>(what, value);
    if (type == ValueType::u16) return parse_number<uint16_t>(what, value);
    if (type == ValueType::u32) return parse_number<uint32_t>(what, value);
    if (type == ValueType::boolean) return parse_boolean(what, value);
    return parse_number<uint64_t>(what, value);
  }

  Status parse_signed(const std::string& what, ValueType type, int64_t& value) {
    if (type == ValueType::i8) return parse_number<int8_t>(what, value);
    if (type == ValueType::i16) return parse_number<int16_t>(what, value);
    if (type == ValueType::i32) return parse_number<int32_t>(what, value);
    return parse_number<int64_t>(what, value);
  }

  Status parse_float(const std::string& what, ValueType type, double& value) {
    return type == ValueType::f32 ? parse_number<float>(what, value) : parse_number<double>(what, value);
  }

  Status parse_scalar(const std::string& what, uint32_t type_number, MetadataValue& value) {
    const ValueType type = static_cast<ValueType>(type_number);
    switch (type) {
      case ValueType::u8:
      case ValueType::u16:
      case ValueType::u32:
      case ValueType::u64:
        value.type = MetadataValue::Type::u64;
        return parse_unsigned(what, type, value.u64);
      case ValueType::i8:
      case ValueType::i16:
      case ValueType::i32:
      case ValueType::i64:
        value.type = MetadataValue::Type::i64;
        return parse_signed(what, type, value.i64);
      case ValueType::f32:
      case ValueType::f64:
        value.type = MetadataValue::Type::f64;
        return parse_float(what, type, value.f64);
      case ValueType::boolean: {
        value.type = MetadataValue::Type::boolean;
        uint64_t byte = 0;
        MM_RETURN_IF_ERROR(parse_boolean(what, byte));
        value.boolean = byte != 0;
        return {};
      }
      case ValueType::string:
        value.type = MetadataValue::Type::string;
        return parse_string(what, std::numeric_limits<uint64_t>::max(), value.string);
      case ValueType::array:
        break;
    }
    return unknown_type(what, type_number);
  }

  Status parse_array(const std::string& what, MetadataValue& value) {
    uint32_t type_number = 0;
    uint64_t count = 0;
    if (!cursor_.read(type_number) || !cursor_.read(count)) return cut_off(what, 12, cursor_.left());
    const ValueType type = static_cast<ValueType>(type_number);
    if (type == ValueType::array) return model_format(what + " is an array of arrays, expected scalars or strings");
    const uint64_t least_bytes = min_value_bytes(type_number);
    if (least_bytes == 0) return unknown_type(what, type_number);
    if (count > cursor_.left() / least_bytes) {
      return model_format(what + " announces " + std::to_string(count) + " elements, expected at most the " +
                              std::to_string(cursor_.left() / least_bytes) + " that fit into the file",
                          download_hint);
    }
    const size_t n = static_cast<size_t>(count);
    switch (type) {
      case ValueType::i8:
      case ValueType::i16:
      case ValueType::i32:
      case ValueType::i64:
        value.type = MetadataValue::Type::array_i64;
        value.array_i64.resize(n);
        for (int64_t& element : value.array_i64) MM_RETURN_IF_ERROR(parse_signed(what, type, element));
        return {};
      case ValueType::f32:
      case ValueType::f64:
        value.type = MetadataValue::Type::array_f64;
        value.array_f64.resize(n);
        for (double& element : value.array_f64) MM_RETURN_IF_ERROR(parse_float(what, type, element));
        return {};
      case ValueType::string:
        value.type = MetadataValue::Type::array_string;
        value.array_string.resize(n);
        for (std::string_view& element : value.array_string) {
          MM_RETURN_IF_ERROR(parse_string(what, std::numeric_limits<uint64_t>::max(), element));
        }
        return {};
      default:
        value.type = MetadataValue::Type::array_u64;
        value.array_u64.resize(n);
        for (uint64_t& element : value.array_u64) MM_RETURN_IF_ERROR(parse_unsigned(what, type, element));
        return {};
    }
  }

  // GGUF's default of 32 would let a 64-byte weight tile straddle two cache lines, so the key must be there.
  Status check_alignment() {
    const size_t place = out_.keys.find(alignment_key);
    const std::string what = "metadata key " + quoted(alignment_key);
    if (place == out_.values.size()) return model_format(what + " is missing, expected the u32 64");
    if (alignment_type_ != ValueType::u32) {
      return model_format(what + " has value type " + std::to_string(static_cast<uint32_t>(alignment_type_)) +
                          ", expected 4 (u32)");
    }
    alignment_ = out_.values[place].u64;
    if (alignment_ < 64 || alignment_ > 4096 || (alignment_ & (alignment_ - 1)) != 0) {
      return model_format(what + " is " + std::to_string(alignment_) + ", expected a power of two from 64 to 4096");
    }
    return {};
  }

  Status parse_tensor(uint64_t number) {
    TensorEntry entry;
    MM_RETURN_IF_ERROR(parse_name("the name of tensor " + std::to_string(number), entry.name));
    const std::string what = "tensor " + quoted(entry.name);
    uint32_t rank = 0, type = 0;
    if (!cursor_.read(rank)) return cut_off(what, 4, cursor_.left());
    if (rank < 1 || rank > static_cast<uint32_t>(max_rank)) {
      return model_format(what + " has " + std::to_string(rank) + " dimensions, expected 1 to " +
                          std::to_string(max_rank));
    }
    entry.shape.rank = static_cast<int>(rank);
    uint64_t elements = 1;
    for (uint32_t i = 0; i < rank; ++i) {
      uint64_t dim = 0;
      if (!cursor_.read(dim)) return cut_off(what, 8, cursor_.left());
      if (dim == 0) return model_format(what + " has dimension " + std::to_string(i) + " of 0, expected at least 1");
      if (dim > max_elements / elements) {  // elements >= 1, so no product here can overflow
        return model_format(what + " has dimension " + std::to_string(i) + " of " + std::to_string(dim) +
                            ", expected at most 2^48 elements in all");
      }
      elements *= dim;
      entry.shape.dims[rank - 1 - i] = static_cast<int64_t>(dim);  // GGUF lists the innermost first
    }
    if (!cursor_.read(type) || !cursor_.read(entry.offset)) return cut_off(what, 12, cursor_.left());
    switch (type) {
      case 0:
        entry.dtype = DType::f32;
        break;
      case 1:
        entry.dtype = DType::f16;
        break;
      case 24:
        entry.dtype = DType::i8;
        break;
      case 26:
        entry.dtype = DType::i32;
        break;
      default:
        return model_format(what + " has tensor type " + std::to_string(type) +
                            ", expected 0 (F32), 1 (F16), 24 (I8) or 26 (I32)");
    }
    entry.bytes = elements * element_bytes(entry.dtype);  // < 2^51
    entries_.push_back(entry);
    return {};
  }

  Status place_tensors() {
    const size_t size = out_.file->size();
    const size_t past = cursor_.position() % static_cast<size_t>(alignment_);
    const size_t padding = past == 0 ? 0 : static_cast<size_t>(alignment_) - past;
    if (!entries_.empty() && padding >= size - cursor_.position()) {
      return model_format("the data section would begin at byte " + std::to_string(cursor_.position() + padding) +
                              ", expected below the file's " + std::to_string(size) + " bytes",
                          download_hint);
    }
    const size_t data_begin = entries_.empty() ? size : cursor_.position() + padding;
    const uint64_t data_bytes = size - data_begin;

    for (const TensorEntry& entry : entries_) out_.tensor_names.names.push_back(entry.name);
    const std::string_view twice = out_.tensor_names.build();
    if (!twice.empty()) return model_format("tensor " + quoted(twice) + " occurs twice, expected once");

    out_.tensors.reserve(entries_.size());
    for (const TensorEntry& entry : entries_) {
      const std::string what = "tensor " + quoted(entry.name);
      if (entry.offset % alignment_ != 0) {
        return model_format(what + " begins at offset " + std::to_string(entry.offset) + ", expected a multiple of " +
                            std::to_string(alignment_));
      }
      if (entry.bytes > data_bytes || entry.offset > data_bytes - entry.bytes) {
        return model_format(what + " has " + std::to_string(entry.bytes) + " bytes at offset " +
                                std::to_string(entry.offset) + ", expected an end within the data section's " +
                                std::to_string(data_bytes) + " bytes",
                            download_hint);
      }
      TensorView view;
      view.data = const_cast<uint8_t*>(out_.file->data() + data_begin + static_cast<size_t>(entry.offset));
      view.dtype = entry.dtype;
      view.shape = entry.shape;
      if (entry.dtype == DType::f32 && ends_with(entry.name, ".scale")) MM_RETURN_IF_ERROR(check_scale(what, view));
      out_.tensors.push_back(view);
    }
    return check_overlaps();
  }

  // One scale a row, so this reads a hundredth of the file; a NaN here would spread through every later layer in
  // silence.
  static Status check_scale(const std::string& what, const TensorView& view) {
    const float* scales = view.as<float>();
    const int64_t n = view.shape.elements();
    for (int64_t i = 0; i < n; ++i) {
      if (!std::isfinite(scales[i]) || scales[i] < 0) {
        return model_format(what + " holds " + std::to_string(scales[i]) + " at place " + std::to_string(i) +
                            ", expected finite scales of at least 0");
      }
    }
    return {};
  }

  Status check_overlaps() const {
    std::vector<uint32_t> order(entries_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<uint32_t>(i);
    std::sort(order.begin(), order.end(),
              [&](uint32_t a, uint32_t b) { return entries_[a].offset < entries_[b].offset; });
    for (size_t i = 1; i < order.size(); ++i) {
      const TensorEntry& before = entries_[order[i - 1]];
      const TensorEntry& after = entries_[order[i]];
      if (after.offset - before.offset < before.bytes) {
        return model_format("tensor " + quoted(after.name) + " begins at offset " + std::to_string(after.offset) +
                            ", expected at least " + std::to_string(before.offset + before.bytes) + ", the end of " +
                            quoted(before.name));
      }
    }
    return {};
  }

  ParsedFile& out_;
  ByteCursor cursor_;
  uint64_t tensor_count_ = 0;
  uint64_t pair_count_ = 0;
  uint64_t alignment_ = 0;
  ValueType alignment_type_ = ValueType::u8;
  std::vector<TensorEntry> entries_;
};

}  // namespace

std::string_view NameIndex::build() {
  order_.resize(names.size());
  for (size_t i = 0; i < order_.size(); ++i) order_[i] = static_cast<uint32_t>(i);
  std::sort(order_.begin(), order_.end(), [&](uint32_t a, uint32_t b) { return names[a] < names[b]; });
  for (size_t i = 1; i < order_.size(); ++i) {
    if (names[order_[i]] == names[order_[i - 1]]) return names[order_[i]];
  }
  return {};
}

size_t NameIndex::find(std::string_view name) const {
  const auto at = std::lower_bound(order_.begin(), order_.end(), name,
                                   [&](uint32_t i, std::string_view wanted) { return names[i] < wanted; });
  return at != order_.end() && names[*at] == name ? *at : names.size();
}

std::string quoted(std::string_view name) {
  constexpr size_t longest = 96;
  std::string text = "`";
  for (size_t at = 0; at < name.size();) {
    const base::Utf8Step step = base::read_utf8(name, at);
    if (at + static_cast<size_t>(step.bytes) > longest) {
      text += "...";
      break;
    }
    const bool is_printable =
        step.is_valid && step.code_point >= 0x20 && (step.code_point < 0x7F || step.code_point > 0x9F);
    if (is_printable) {
      text += name.substr(at, static_cast<size_t>(step.bytes));
    } else {
      text += '?';
    }
    at += static_cast<size_t>(step.bytes);
  }
  return text + "`";
}

Status parse_gguf(ParsedFile& out) { return Parser(out).parse(); }

}  // namespace mm::tensor
