// Answers for a parsed model file: typed look-ups, tensors by name, and the check of its hashes.
#include "tensor/model_file.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "base/sha256.h"
#include "tensor/gguf_parser.h"

namespace mm::tensor {

using base::model_format;
using base::Status;
using base::StatusCode;

struct ModelFile::Impl {
  ParsedFile parsed;
  std::vector<std::string> keys;
  std::vector<std::string> tensor_names;
};

namespace {

constexpr size_t max_sections = 64;

const char* type_name(MetadataValue::Type type) {
  constexpr const char* names[] = {"unsigned integer", "integer",       "float",       "boolean",     "string",
                                   "unsigned array",   "integer array", "float array", "string array"};
  return names[static_cast<size_t>(type)];
}

bool begins_with(std::string_view text, std::string_view begin) { return text.substr(0, begin.size()) == begin; }

Status wrong_type(std::string_view key, const MetadataValue* value, const char* expected) {
  if (value == nullptr) return model_format("metadata key " + quoted(key) + " is missing, expected " + expected);
  return model_format("metadata key " + quoted(key) + " is of type " + type_name(value->type) + ", expected " +
                      expected);
}

}  // namespace

base::Result<std::shared_ptr<const ModelFile>> ModelFile::open(const std::string& path) {
  MM_ASSIGN_OR_RETURN(auto file, base::MappedFile::open(path));
  return from_file(std::move(file));
}

base::Result<std::shared_ptr<const ModelFile>> ModelFile::from_bytes(const void* bytes, size_t size) {
  MM_ASSIGN_OR_RETURN(auto file, base::MappedFile::from_bytes(bytes, size));
  return from_file(std::move(file));
}

base::Result<std::shared_ptr<const ModelFile>> ModelFile::from_file(std::shared_ptr<const base::MappedFile> file) {
  try {
    auto impl = std::make_shared<Impl>();
    impl->parsed.file = std::move(file);
    MM_RETURN_IF_ERROR(parse_gguf(impl->parsed));
    for (const std::string_view key : impl->parsed.keys.names) impl->keys.emplace_back(key);
    for (const std::string_view name : impl->parsed.tensor_names.names) impl->tensor_names.emplace_back(name);
    std::shared_ptr<ModelFile> model(new ModelFile());
    model->impl_ = std::move(impl);
    return std::shared_ptr<const ModelFile>(std::move(model));
  } catch (const std::bad_alloc&) {
    // The parser's bounds keep an opened file under 256 MB: only a machine without memory comes here.
    return Status(StatusCode::out_of_memory, "no memory left to read the model file's metadata");
  }
}

size_t ModelFile::bytes() const { return impl_->parsed.file->size(); }
const std::vector<std::string>& ModelFile::tensor_names() const { return impl_->tensor_names; }
const std::vector<std::string>& ModelFile::metadata_keys() const { return impl_->keys; }

const TensorView* ModelFile::find_tensor(std::string_view name) const {
  const size_t i = impl_->parsed.tensor_names.find(name);
  return i < impl_->parsed.tensors.size() ? &impl_->parsed.tensors[i] : nullptr;
}

const MetadataValue* ModelFile::find(std::string_view key) const {
  const size_t i = impl_->parsed.keys.find(key);
  return i < impl_->parsed.values.size() ? &impl_->parsed.values[i] : nullptr;
}

base::Result<std::string_view> ModelFile::string(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (value == nullptr || value->type != MetadataValue::Type::string) return wrong_type(key, value, "a string");
  return value->string;
}

base::Result<int64_t> ModelFile::integer(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (value != nullptr && value->type == MetadataValue::Type::i64) return value->i64;
  if (value == nullptr || value->type != MetadataValue::Type::u64) return wrong_type(key, value, "an integer");
  if (value->u64 > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return model_format("metadata key " + quoted(key) + " is " + std::to_string(value->u64) + ", expected below 2^63");
  }
  return static_cast<int64_t>(value->u64);
}

base::Result<double> ModelFile::real(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (value != nullptr && value->type == MetadataValue::Type::i64) return static_cast<double>(value->i64);
  if (value != nullptr && value->type == MetadataValue::Type::u64) return static_cast<double>(value->u64);
  if (value == nullptr || value->type != MetadataValue::Type::f64) return wrong_type(key, value, "a number");
  if (!std::isfinite(value->f64)) {
    return model_format("metadata key " + quoted(key) + " is " + std::to_string(value->f64) +
                        ", expected a finite number");
  }
  return value->f64;
}

base::Result<bool> ModelFile::boolean(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (value == nullptr || value->type != MetadataValue::Type::boolean) return wrong_type(key, value, "a boolean");
  return value->boolean;
}

base::Result<std::vector<std::string_view>> ModelFile::strings(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (value == nullptr || value->type != MetadataValue::Type::array_string) {
    return wrong_type(key, value, "an array of strings");
  }
  return value->array_string;
}

base::Result<std::vector<uint32_t>> ModelFile::words(std::string_view key) const {
  const MetadataValue* value = find(key);
  const bool is_signed = value != nullptr && value->type == MetadataValue::Type::array_i64;
  if (!is_signed && (value == nullptr || value->type != MetadataValue::Type::array_u64)) {
    return wrong_type(key, value, "an array of u32");
  }
  std::vector<uint32_t> words;
  const size_t n = is_signed ? value->array_i64.size() : value->array_u64.size();
  words.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    // A negative number wraps to at least 2^63: one comparison covers both types.
    const uint64_t word = is_signed ? static_cast<uint64_t>(value->array_i64[i]) : value->array_u64[i];
    if (word > std::numeric_limits<uint32_t>::max()) {
      const std::string found = is_signed ? std::to_string(value->array_i64[i]) : std::to_string(word);
      return model_format("metadata key " + quoted(key) + " holds " + found + " at place " + std::to_string(i) +
                          ", expected 0 to 4294967295");
    }
    words.push_back(static_cast<uint32_t>(word));
  }
  return words;
}

base::Status ModelFile::verify() const {
  constexpr std::string_view digest_prefix = "mm.sha256.";
  const auto check = [&](std::string_view section, base::Sha256& hash) -> Status {
    MM_ASSIGN_OR_RETURN(const std::string_view expected, string(std::string(digest_prefix) + std::string(section)));
    const std::string found = base::to_hex(hash.finish());
    if (found == expected) return {};
    return model_format("section " + quoted(section) + " has SHA-256 " + found + ", expected " + quoted(expected),
                        "the file is damaged or was changed: download or build it again");
  };

  MM_ASSIGN_OR_RETURN(const std::vector<std::string_view> sections, strings("mm.sections"));
  // Sections may nest, so each costs at most one pass over the file.
  if (sections.size() > max_sections) {
    return model_format("metadata key `mm.sections` lists " + std::to_string(sections.size()) +
                        " sections, expected at most " + std::to_string(max_sections));
  }
  std::vector<bool> is_covered(impl_->parsed.tensors.size(), false);
  for (size_t s = 0; s < sections.size(); ++s) {
    if (std::find(sections.begin(), sections.begin() + static_cast<std::ptrdiff_t>(s), sections[s]) !=
        sections.begin() + static_cast<std::ptrdiff_t>(s)) {
      return model_format("metadata key `mm.sections` lists " + quoted(sections[s]) + " twice, expected once");
    }
    if (sections[s] == "metadata") continue;  // checked below, always
    const std::string prefix = std::string(sections[s]) + ".";
    base::Sha256 hash;
    size_t tensors = 0;
    for (size_t i = 0; i < impl_->parsed.tensors.size(); ++i) {
      const std::string& name = impl_->tensor_names[i];
      if (!begins_with(name, prefix)) continue;
      hash.update(name.c_str(), name.size() + 1);  // with the zero byte
      hash.update(impl_->parsed.tensors[i].data, impl_->parsed.tensors[i].bytes());
      is_covered[i] = true;
      ++tensors;
    }
    if (tensors == 0) return model_format("section " + quoted(sections[s]) + " has no tensor, expected at least 1");
    MM_RETURN_IF_ERROR(check(sections[s], hash));
  }
  for (size_t i = 0; i < is_covered.size(); ++i) {
    if (!is_covered[i]) {
      return model_format("tensor " + quoted(impl_->tensor_names[i]) +
                          " belongs to no section of `mm.sections`, expected one");
    }
  }

  base::Sha256 hash;
  for (size_t i = 0; i < impl_->parsed.values.size(); ++i) {
    if (begins_with(impl_->keys[i], digest_prefix)) continue;
    const ByteRange range = impl_->parsed.pair_ranges[i];
    hash.update(impl_->parsed.file->data() + range.begin, range.end - range.begin);
  }
  return check("metadata", hash);
}

}  // namespace mm::tensor
