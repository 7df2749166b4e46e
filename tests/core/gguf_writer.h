// Writes small GGUF v3 files for tests, right ones by default and wrong ones on request.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/sha256.h"

namespace mm::test {

template <class T>
void append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));  // little-endian, as the machine
}

inline std::string gguf_string(const std::string& text) {
  std::string bytes;
  append<uint64_t>(bytes, text.size());
  return bytes + text;
}

struct GgufTensor {
  std::string name;
  std::vector<uint64_t> dims;  // innermost first, as in the file
  uint32_t type = 0;
  std::string data;
  uint64_t offset = ~uint64_t{0};  // given, or the next aligned one
};

class GgufWriter {
 public:
  uint32_t magic = 0x46554747u;
  uint32_t version = 3;
  uint64_t pair_count = ~uint64_t{0};    // given, or the true one
  uint64_t tensor_count = ~uint64_t{0};  // given, or the true one
  uint64_t alignment = 64;               // of what is written; the key is a pair like any other
  std::vector<GgufTensor> tensors;

  // The pair's bytes after the key: a value type and a value.
  void pair(const std::string& key, const std::string& type_and_value) {
    pairs.push_back({key, gguf_string(key) + type_and_value});
  }
  template <class T>
  void scalar(const std::string& key, uint32_t type, T value) {
    std::string bytes;
    append<uint32_t>(bytes, type);
    append(bytes, value);
    pair(key, bytes);
  }
  void u32(const std::string& key, uint32_t value) { scalar(key, 4, value); }
  void string(const std::string& key, const std::string& text) {
    std::string bytes;
    append<uint32_t>(bytes, 8);
    pair(key, bytes + gguf_string(text));
  }
  template <class T>
  void array(const std::string& key, uint32_t type, const std::vector<T>& values) {
    std::string bytes = array_head(type, values.size());
    for (const T& value : values) append(bytes, value);
    pair(key, bytes);
  }
  void strings(const std::string& key, const std::vector<std::string>& values) {
    std::string bytes = array_head(8, values.size());
    for (const std::string& value : values) bytes += gguf_string(value);
    pair(key, bytes);
  }
  static std::string array_head(uint32_t type, uint64_t count) {
    std::string bytes;
    append<uint32_t>(bytes, 9);
    append<uint32_t>(bytes, type);
    append<uint64_t>(bytes, count);
    return bytes;
  }

  // Adds mm.sections and the digest of each section and of the metadata, as docs/model-format.md says.
  void seal(const std::vector<std::string>& sections) {
    strings("mm.sections", sections);
    for (const std::string& section : sections) {
      base::Sha256 hash;
      for (const GgufTensor& tensor : tensors) {
        if (tensor.name.rfind(section + ".", 0) != 0) continue;
        hash.update(tensor.name.c_str(), tensor.name.size() + 1);
        hash.update(tensor.data.data(), tensor.data.size());
      }
      string("mm.sha256." + section, base::to_hex(hash.finish()));
    }
    base::Sha256 hash;
    for (const auto& [key, bytes] : pairs) {
      if (key.rfind("mm.sha256.", 0) != 0) hash.update(bytes.data(), bytes.size());
    }
    string("mm.sha256.metadata", base::to_hex(hash.finish()));
  }

  // Everything in front of the data section, without padding.
  std::string header() const {
    std::string bytes;
    append(bytes, magic);
    append(bytes, version);
    append<uint64_t>(bytes, tensor_count == ~uint64_t{0} ? tensors.size() : tensor_count);
    append<uint64_t>(bytes, pair_count == ~uint64_t{0} ? pairs.size() : pair_count);
    for (const auto& entry : pairs) bytes += entry.second;
    uint64_t next = 0;
    for (const GgufTensor& tensor : tensors) {
      bytes += gguf_string(tensor.name);
      append<uint32_t>(bytes, static_cast<uint32_t>(tensor.dims.size()));
      for (const uint64_t dim : tensor.dims) append(bytes, dim);
      append(bytes, tensor.type);
      append(bytes, tensor.offset == ~uint64_t{0} ? next : tensor.offset);
      next += padded(tensor.data.size());
    }
    return bytes;
  }

  std::string file() const {
    std::string bytes = header();
    if (!tensors.empty()) bytes.resize(padded(bytes.size()), '\0');
    for (const GgufTensor& tensor : tensors) {
      bytes += tensor.data;
      bytes.resize(padded(bytes.size()), '\0');
    }
    return bytes;
  }

 private:
  size_t padded(size_t size) const { return (size + alignment - 1) / alignment * alignment; }
  std::vector<std::pair<std::string, std::string>> pairs;  // key, all bytes of the pair
};

template <class T>
std::string raw_bytes(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

// A right file with every kind of value and tensor: two sections, a scale, a tokenizer of 2 pieces.
inline GgufWriter small_model() {
  GgufWriter model;
  model.string("general.architecture", "mobile-mm");
  model.u32("general.alignment", 64);
  model.u32("mm.format_version", 1);
  model.scalar<float>("mm.caption.length_penalty", 6, 0.75f);
  model.scalar<uint8_t>("test.flag", 7, 1);
  model.scalar<int64_t>("test.negative", 11, -5);
  model.scalar<uint64_t>("test.huge", 10, ~uint64_t{0});
  model.array<uint32_t>("test.words", 4, {0, 7, 0xFFFFFFFFu});
  model.array<int32_t>("test.signed_words", 5, {1, 3, 3});
  model.array<float>("test.floats", 6, {0.5f, -1.0f});
  model.array<uint8_t>("test.flags", 7, {0, 1, 1});
  model.strings("test.names", {"left", "", "r\xC3\xA9sum\xC3\xA9"});
  model.tensors.push_back({"encoder.stem", {4, 3, 2}, 0, raw_bytes(std::vector<float>(24, 0.25f))});
  model.tensors.push_back({"decoder.up.w2", {64, 1, 2}, 24, std::string(128, '\x1B')});
  model.tensors.push_back({"decoder.up.scale", {32}, 0, raw_bytes(std::vector<float>(32, 0.01f))});
  model.tensors.push_back({"decoder.half", {5}, 1, std::string(10, '\0')});
  model.tensors.push_back({"decoder.ids", {2, 2}, 26, raw_bytes(std::vector<int32_t>{1, -2, 3, -4})});
  model.seal({"encoder", "decoder"});
  return model;
}

}  // namespace mm::test
