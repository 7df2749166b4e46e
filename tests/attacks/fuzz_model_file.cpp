// Feeds changed model files to the reader and walks all that it lets through; sanitizers and the checks decide.
// Usage: fuzz_model_file [runs [seed]]
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/utf8.h"
#include "check.h"
#include "gguf_writer.h"
#include "mutation.h"
#include "tensor/model_file.h"
#include "text/byte_pair_encoding.h"

namespace {

using mm::attacks::Random;
using mm::base::StatusCode;
using mm::tensor::MetadataValue;
using mm::tensor::ModelFile;

// small_model() and a tokenizer of a few pieces, so that changed vocabularies are read as well.
mm::test::GgufWriter seed_model(bool with_tokenizer) {
  if (!with_tokenizer) return mm::test::small_model();
  mm::test::GgufWriter model;
  model.u32("general.alignment", 64);
  model.string("tokenizer.ggml.model", "gpt2");
  model.strings("tokenizer.ggml.tokens", {"<|eos|>", "a", "b", "c", "ab", "abc", "\xC4\xA0",
                                          "\xC4\xA0"
                                          "a"});
  model.strings("tokenizer.ggml.merges", {"a b", "ab c", "\xC4\xA0 a"});
  model.array<int32_t>("tokenizer.ggml.token_type", 5, {3, 1, 1, 1, 1, 1, 1, 1});
  model.tensors.push_back({"text.x", {4}, 0, std::string(16, '\0')});
  model.seal({"text"});
  return model;
}

uint64_t sink = 0;  // keeps the reads alive

void walk_value(const MetadataValue& value) {
  sink += value.u64 + static_cast<uint64_t>(value.i64) + (value.boolean ? 1u : 0u);
  for (const uint64_t element : value.array_u64) sink += element;
  for (const int64_t element : value.array_i64) sink += static_cast<uint64_t>(element);
  for (const double element : value.array_f64) sink += element > 0 ? 1u : 0u;
  MM_CHECK(mm::base::is_valid_utf8(value.string));
  for (const std::string_view element : value.array_string) MM_CHECK(mm::base::is_valid_utf8(element));
}

void walk(const ModelFile& model, const std::string& bytes) {
  for (const std::string& key : model.metadata_keys()) {
    const MetadataValue* value = model.find(key);
    if (!MM_CHECK(value != nullptr)) return;
    walk_value(*value);
    // Exactly the look-ups of its type succeed; none crashes.
    const bool is_number = value->type == MetadataValue::Type::u64 || value->type == MetadataValue::Type::i64;
    MM_CHECK(model.string(key).is_ok() == (value->type == MetadataValue::Type::string));
    MM_CHECK(model.boolean(key).is_ok() == (value->type == MetadataValue::Type::boolean));
    MM_CHECK(model.strings(key).is_ok() == (value->type == MetadataValue::Type::array_string));
    MM_CHECK(is_number || !model.integer(key).is_ok());
    MM_CHECK(model.real(key).is_ok() || !is_number);
    sink += model.words(key).is_ok() ? 1u : 0u;
  }
  for (const std::string& name : model.tensor_names()) {
    const mm::tensor::TensorView* view = model.find_tensor(name);
    if (!MM_CHECK(view != nullptr && view->bytes() > 0 && view->bytes() <= bytes.size())) return;
    MM_CHECK(reinterpret_cast<uintptr_t>(view->data) % 64 == 0);
    MM_CHECK(view->shape.rank >= 1 && view->shape.rank <= 4 &&
             view->shape.rows() * view->shape.last() == view->shape.elements());
    const uint8_t* data = view->as<const uint8_t>();
    for (size_t i = 0; i < view->bytes(); ++i) sink += data[i];  // the whole range is readable
    sink += view->shape.text().size();
  }
  sink += model.verify().is_ok() ? 1u : 0u;

  const auto encoding = mm::text::BytePairEncoding::from_model(model);
  if (!encoding.is_ok()) {
    MM_CHECK(encoding.status().code() == StatusCode::model_format);
    return;
  }
  const auto ids = encoding.value()->encode("abc <|eos|> abab\xFF");
  MM_CHECK(ids.is_ok());
  for (const int32_t id : ids.value()) {
    MM_CHECK(id >= 0 && id < encoding.value()->vocabulary_size() && !encoding.value()->is_control(id));
  }
  MM_CHECK(mm::base::is_valid_utf8(encoding.value()->decode(ids.value().data(), ids.value().size(), false)));
}

// Returns whether the bytes were accepted.
bool try_bytes(const std::string& bytes) {
  const auto result = ModelFile::from_bytes(bytes.data(), bytes.size());
  if (result.is_ok()) {
    walk(*result.value(), bytes);
    return true;
  }
  MM_CHECK(result.status().code() == StatusCode::model_format || bytes.empty());
  MM_CHECK(!result.status().message().empty() && result.status().message().size() < 1000);
  MM_CHECK(mm::base::is_valid_utf8(result.status().message()));
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  const size_t runs = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 20000;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  size_t accepted = 0;
  for (const bool with_tokenizer : {false, true}) {
    const mm::test::GgufWriter model = seed_model(with_tokenizer);
    const std::string file = model.file();
    const size_t reach = model.header().size();
    MM_CHECK(try_bytes(file));
    for (size_t run = 0; run < runs / 2; ++run) {
      Random random(seed * 1000003 + run * 2 + (with_tokenizer ? 1 : 0));
      const int failures = mm::test::failures;
      const std::string bytes = mm::attacks::mutated(file, reach, random);
      accepted += try_bytes(bytes) ? 1u : 0u;
      if (mm::test::failures != failures)
        std::fprintf(stderr, "  in run %zu, tokenizer %d\n", run, with_tokenizer ? 1 : 0);
    }
    // Every boundary integer at every place of the header, as u32 and as u64.
    for (size_t at = 0; at + 8 <= reach; ++at) {
      for (const uint64_t number : {uint64_t{0}, uint64_t{1} << 31, uint64_t{1} << 62, ~uint64_t{0}, uint64_t{9}}) {
        for (const size_t width : {size_t{4}, size_t{8}}) {
          std::string bytes = file;
          std::memcpy(&bytes[at], &number, width);
          accepted += try_bytes(bytes) ? 1u : 0u;
        }
      }
    }
  }
  std::printf("fuzz_model_file: %zu changed files accepted, sink %llu\n", accepted,
              static_cast<unsigned long long>(sink));
  return mm::test::finish("fuzz_model_file");
}
