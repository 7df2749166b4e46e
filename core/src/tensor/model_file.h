// Reads a model file (GGUF v3) through a memory map; nothing in it is trusted before it is checked.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "base/status.h"
#include "tensor/tensor.h"

namespace mm::tensor {

// A metadata value. Arrays hold one scalar type or strings; nested arrays are refused.
struct MetadataValue {
  enum class Type { u64, i64, f64, boolean, string, array_u64, array_i64, array_f64, array_string };
  Type type = Type::u64;
  uint64_t u64 = 0;
  int64_t i64 = 0;
  double f64 = 0;
  bool boolean = false;
  std::string_view string;                     // points into the map
  std::vector<uint64_t> array_u64;             // u8, u16, u32, u64, bool arrays
  std::vector<int64_t> array_i64;              // i8 .. i64 arrays
  std::vector<double> array_f64;               // f32, f64 arrays
  std::vector<std::string_view> array_string;  // point into the map
};

class ModelFile {
 public:
  static base::Result<std::shared_ptr<const ModelFile>> open(const std::string& path);
  static base::Result<std::shared_ptr<const ModelFile>> from_bytes(const void* bytes, size_t size);

  size_t bytes() const;
  const std::vector<std::string>& tensor_names() const;        // file order
  const std::vector<std::string>& metadata_keys() const;       // file order
  const TensorView* find_tensor(std::string_view name) const;  // nullptr: absent. The data is read-only.
  const MetadataValue* find(std::string_view key) const;       // nullptr: absent

  // Typed look-ups: model_format error that names key, found type and expected type.
  base::Result<std::string_view> string(std::string_view key) const;
  base::Result<int64_t> integer(std::string_view key) const;  // any integer type that fits
  base::Result<double> real(std::string_view key) const;      // floating or integer
  base::Result<bool> boolean(std::string_view key) const;
  base::Result<std::vector<std::string_view>> strings(std::string_view key) const;
  base::Result<std::vector<uint32_t>> words(std::string_view key) const;  // u32 array (each value checked to fit)

  // Names of the sections in `mm.sections`, and the check of each against `mm.sha256.<section>`. A section is all
  // tensors whose name begins with "<section>.", hashed in file order as name bytes, one zero byte, data bytes. The
  // section "metadata" is every metadata pair but those whose key begins with "mm.sha256.", hashed in file order as its
  // raw bytes in the file.
  base::Status verify() const;

 private:
  ModelFile() = default;
  static base::Result<std::shared_ptr<const ModelFile>> from_file(std::shared_ptr<const base::MappedFile> file);
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

}  // namespace mm::tensor
