// Holds the model file reader to docs/model-format.md: what is right is read as written, what is wrong is named and
// refused.
#include "tensor/model_file.h"

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <string>

#include "base/utf8.h"
#include "check.h"
#include "gguf_writer.h"

namespace {

using mm::base::StatusCode;
using mm::tensor::DType;
using mm::tensor::ModelFile;
using mm::tensor::Shape;
using mm::test::append;
using mm::test::GgufWriter;
using mm::test::small_model;

mm::base::Result<std::shared_ptr<const ModelFile>> load(const std::string& bytes) {
  return ModelFile::from_bytes(bytes.data(), bytes.size());
}

// The bytes must be refused as a format failure whose message holds every one of `words`.
void check_refused(const std::string& bytes, const std::vector<std::string>& words) {
  const auto result = load(bytes);
  if (!MM_CHECK(!result.is_ok())) {
    std::fprintf(stderr, "  accepted, expected a message with `%s`\n", words.front().c_str());
    return;
  }
  MM_CHECK(result.status().code() == StatusCode::model_format);
  MM_CHECK(!result.status().hint().empty());
  for (const std::string& word : words) {
    if (!MM_CHECK(result.status().message().find(word) != std::string::npos)) {
      std::fprintf(stderr, "  `%s` is not in: %s\n", word.c_str(), result.status().message().c_str());
    }
  }
}

void check_wrong(const std::function<void(GgufWriter&)>& change, const std::vector<std::string>& words) {
  GgufWriter model = small_model();
  change(model);
  check_refused(model.file(), words);
}

void check_right_file() {
  const auto result = load(small_model().file());
  if (!MM_CHECK(result.is_ok())) {
    std::fprintf(stderr, "  %s\n", result.status().message().c_str());
    return;
  }
  const ModelFile& model = *result.value();
  MM_CHECK(model.bytes() == small_model().file().size());
  MM_CHECK(model.string("general.architecture").value() == "mobile-mm");
  MM_CHECK(model.integer("general.alignment").value() == 64);
  MM_CHECK(model.integer("test.negative").value() == -5);
  MM_CHECK(!model.integer("test.huge").is_ok());
  MM_CHECK(model.real("mm.caption.length_penalty").value() == 0.75);
  MM_CHECK(model.real("test.negative").value() == -5);
  MM_CHECK(model.boolean("test.flag").value());
  MM_CHECK((model.words("test.words").value() == std::vector<uint32_t>{0, 7, 0xFFFFFFFFu}));
  MM_CHECK((model.words("test.signed_words").value() == std::vector<uint32_t>{1, 3, 3}));
  MM_CHECK((model.words("test.flags").value() == std::vector<uint32_t>{0, 1, 1}));
  MM_CHECK((model.strings("test.names").value() == std::vector<std::string_view>{"left", "", "r\xC3\xA9sum\xC3\xA9"}));
  MM_CHECK((model.find("test.floats")->array_f64 == std::vector<double>{0.5, -1.0}));
  MM_CHECK(model.find("test.nothing") == nullptr);
  MM_CHECK(model.metadata_keys().size() == 16 && model.metadata_keys()[1] == "general.alignment");

  const mm::base::Status missing = model.string("test.nothing").status();
  MM_CHECK(missing.code() == StatusCode::model_format && missing.message().find("`test.nothing`") != std::string::npos);
  const std::string mismatch = model.string("test.flag").status().message();
  MM_CHECK(mismatch.find("boolean") != std::string::npos && mismatch.find("a string") != std::string::npos);
  MM_CHECK(!model.words("test.floats").is_ok() && !model.strings("test.words").is_ok());
  MM_CHECK(!model.boolean("general.alignment").is_ok() && !model.real("test.names").is_ok());

  MM_CHECK((model.tensor_names() == std::vector<std::string>{"encoder.stem", "decoder.up.w2", "decoder.up.scale",
                                                             "decoder.half", "decoder.ids"}));
  const mm::tensor::TensorView* stem = model.find_tensor("encoder.stem");
  MM_CHECK(stem->shape == Shape::of(2, 3, 4) && stem->dtype == DType::f32 && stem->bytes() == 96);
  MM_CHECK(stem->shape.text() == "2x3x4" && std::string(mm::tensor::dtype_name(stem->dtype)) == "f32");
  MM_CHECK(stem->as<const float>()[23] == 0.25f);
  MM_CHECK(model.find_tensor("decoder.up.w2")->dtype == DType::i8);
  MM_CHECK(model.find_tensor("decoder.half")->dtype == DType::f16);
  MM_CHECK(model.find_tensor("decoder.ids")->as<const int32_t>()[3] == -4);
  for (const std::string& name : model.tensor_names()) {
    MM_CHECK(reinterpret_cast<uintptr_t>(model.find_tensor(name)->data) % 64 == 0);
  }
  MM_CHECK(model.find_tensor("decoder") == nullptr && model.find_tensor("") == nullptr);
  MM_CHECK(model.verify().is_ok());
}

void check_header_and_pairs() {
  check_wrong([](GgufWriter& m) { m.magic = 0x47475546u; }, {"46554747", "expected 47475546"});
  for (const uint32_t version : {0u, 1u, 2u, 4u, 0x03000000u}) {
    check_wrong([&](GgufWriter& m) { m.version = version; }, {"version " + std::to_string(version), "expected 3"});
  }
  check_wrong([](GgufWriter& m) { m.pair_count = 65537; }, {"65537 metadata pairs", "at most 65536"});
  check_wrong([](GgufWriter& m) { m.tensor_count = ~uint64_t{0} - 1; }, {"tensors", "at most 65536"});
  check_wrong([](GgufWriter& m) { m.pair_count = 60000; }, {"60000 metadata pairs", "that fit"});
  check_wrong([](GgufWriter& m) { m.tensor_count = 60000; }, {"60000 tensors", "that fit"});

  check_wrong([](GgufWriter& m) { m.u32("", 1); }, {"metadata key 16 is empty"});
  check_wrong([](GgufWriter& m) { m.u32(std::string(65537, 'k'), 1); }, {"65537 bytes", "at most 65536"});
  check_wrong([](GgufWriter& m) { m.u32("bad\xFF", 1); }, {"not UTF-8"});
  check_wrong([](GgufWriter& m) { m.u32(std::string("a\0b", 3), 1); }, {"zero byte"});
  check_wrong([](GgufWriter& m) { m.u32("mm.format_version", 2); }, {"`mm.format_version`", "twice"});
  check_wrong([](GgufWriter& m) { m.scalar<uint32_t>("test.odd", 13, 0); }, {"`test.odd`", "value type 13"});
  check_wrong([](GgufWriter& m) { m.scalar<uint32_t>("test.odd", ~0u, 0); }, {"value type 4294967295"});
  check_wrong([](GgufWriter& m) { m.scalar<uint8_t>("test.odd", 7, 2); }, {"`test.odd`", "boolean 2", "0 or 1"});
  check_wrong([](GgufWriter& m) { m.array<uint8_t>("test.odd", 7, {1, 9}); }, {"boolean 9"});
  check_wrong([](GgufWriter& m) { m.string("test.odd", "\xC0\x80"); }, {"`test.odd`", "not UTF-8"});
  check_wrong([](GgufWriter& m) { m.array<uint64_t>("test.odd", 9, {0}); }, {"array of arrays"});
  check_wrong([](GgufWriter& m) { m.array<uint64_t>("test.odd", 14, {0}); }, {"value type 14"});
  for (const uint64_t count : {uint64_t{1} << 20, uint64_t{1} << 61, (uint64_t{1} << 61) + 1, ~uint64_t{0}}) {
    for (const uint32_t type : {0u, 6u, 7u, 8u, 10u}) {
      check_wrong([&](GgufWriter& m) { m.pair("test.odd", GgufWriter::array_head(type, count)); },
                  {"`test.odd`", std::to_string(count) + " elements"});
    }
    check_wrong(
        [&](GgufWriter& m) {
          std::string value;
          append<uint32_t>(value, 8);
          append<uint64_t>(value, count);
          m.pair("test.odd", value);
        },
        {"`test.odd`", "needs " + std::to_string(count) + " bytes"});
  }
  // A control character of a name must not reach a message, and a long name must be cut.
  check_wrong([](GgufWriter& m) { m.scalar<uint8_t>("a\x1B[31m\nb", 7, 2); }, {"`a?[31m?b`"});
  check_wrong([](GgufWriter& m) { m.scalar<uint8_t>(std::string(1000, 'x'), 7, 2); }, {std::string(96, 'x') + "...`"});

  for (const uint32_t alignment : {0u, 1u, 32u, 63u, 65u, 96u, 8192u, 0x80000000u}) {
    GgufWriter model;
    model.u32("general.alignment", alignment);
    check_refused(model.file(), {"`general.alignment`", "is " + std::to_string(alignment) + ", expected"});
  }
  GgufWriter no_alignment;
  no_alignment.u32("mm.format_version", 1);
  check_refused(no_alignment.file(), {"`general.alignment` is missing"});
  GgufWriter signed_alignment;
  signed_alignment.scalar<int32_t>("general.alignment", 5, 64);
  check_refused(signed_alignment.file(), {"`general.alignment`", "value type 5", "expected 4"});
  GgufWriter array_alignment;
  array_alignment.array<uint32_t>("general.alignment", 4, {64});
  check_refused(array_alignment.file(), {"`general.alignment`", "value type 9"});
}

void check_tensors() {
  const std::string bytes(64, '\0');
  const auto check_tensor = [&](std::vector<uint64_t> dims, uint32_t type, const std::vector<std::string>& words) {
    check_wrong([&](GgufWriter& m) { m.tensors.push_back({"decoder.odd", dims, type, bytes}); }, words);
  };
  check_tensor({}, 0, {"`decoder.odd`", "0 dimensions", "1 to 4"});
  check_tensor({1, 1, 1, 1, 1}, 0, {"5 dimensions"});
  check_tensor({0}, 0, {"dimension 0 of 0"});
  check_tensor({4, 0}, 0, {"dimension 1 of 0"});
  check_tensor({4, (uint64_t{1} << 62) + 1}, 0, {"2^48"});
  check_tensor({uint64_t{1} << 24, uint64_t{1} << 24, uint64_t{1} << 16}, 24, {"2^48"});
  check_tensor({uint64_t{1} << 32, uint64_t{1} << 32}, 24, {"2^48"});
  check_tensor({~uint64_t{0}, 2}, 24, {"2^48"});
  check_tensor({uint64_t{1} << 63, 2}, 24, {"2^48"});
  check_tensor({uint64_t{1} << 48}, 0, {"1125899906842624 bytes"});
  check_tensor({17}, 0, {"68 bytes", "expected an end within"});
  for (const uint32_t type : {2u, 8u, 14u, 25u, 27u, 28u, 30u, 39u, 1000u, ~0u}) {
    check_tensor({64}, type, {"tensor type " + std::to_string(type)});
  }
  for (const uint64_t offset : {uint64_t{1}, uint64_t{32}, uint64_t{65}, ~uint64_t{0} - 1}) {
    check_wrong([&](GgufWriter& m) { m.tensors.push_back({"decoder.odd", {16}, 0, bytes, offset}); },
                {"`decoder.odd`", "offset " + std::to_string(offset), "multiple of 64"});
  }
  for (const uint64_t offset : {uint64_t{1} << 20, uint64_t{1} << 63, ~uint64_t{0} - 63}) {
    check_wrong([&](GgufWriter& m) { m.tensors.push_back({"decoder.odd", {16}, 0, bytes, offset}); },
                {"`decoder.odd`", "expected an end within"});
  }
  check_wrong([](GgufWriter& m) { m.tensors[1].offset = 0; }, {"expected at least", "the end of"});
  check_wrong([](GgufWriter& m) { m.tensors[4].offset = 64; }, {"`decoder.ids`", "expected at least 96"});
  check_wrong([](GgufWriter& m) { m.tensors[0].name = "decoder.ids"; }, {"tensor `decoder.ids` occurs twice"});
  check_wrong([](GgufWriter& m) { m.tensors[0].name = ""; }, {"tensor 0 is empty"});
  check_wrong([](GgufWriter& m) { m.tensors[0].name = "\xED\xA0\x80"; }, {"not UTF-8"});

  for (const float scale : {NAN, INFINITY, -1.0f}) {
    check_wrong(
        [&](GgufWriter& m) {
          std::vector<float> scales(32, 1.0f);
          scales[31] = scale;
          m.tensors[2].data = mm::test::raw_bytes(scales);
        },
        {"`decoder.up.scale`", "at place 31"});
  }
}

void check_every_cut_and_flip() {
  const GgufWriter model = small_model();
  const std::string file = model.file();
  const size_t last_tensor_end = file.size() - 64 + 16;
  for (size_t length = 1; length < file.size(); ++length) {
    const auto result = load(file.substr(0, length));
    MM_CHECK(result.is_ok() == (length >= last_tensor_end));  // the last tensor's padding may be missing
  }
  const size_t header_bytes = model.header().size();
  size_t accepted = 0;
  for (size_t at = 0; at < header_bytes; ++at) {
    for (const int mask : {0x01, 0x80, 0xFF}) {
      std::string changed = file;
      changed[at] = static_cast<char>(changed[at] ^ mask);
      const auto result = load(changed);
      if (!result.is_ok()) {
        MM_CHECK(result.status().code() == StatusCode::model_format && !result.status().message().empty());
        continue;
      }
      ++accepted;
      MM_CHECK(!result.value()->verify().is_ok() || at >= 24);  // may fail, must not crash
    }
  }
  std::printf("model_file: %zu of %zu changed headers still parse\n", accepted, header_bytes * 3);
}

void check_verify() {
  // Every change of a tensor's data, and every change of the metadata that still parses, is found.
  const GgufWriter model = small_model();
  const std::string file = model.file();
  const size_t table = file.find("encoder.stem", 0) - 8;
  for (size_t at = 24; at < table; at += 1) {
    std::string changed = file;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    const auto result = load(changed);
    if (result.is_ok()) MM_CHECK(!result.value()->verify().is_ok());
  }
  for (size_t t = 0; t < model.tensors.size(); ++t) {
    GgufWriter changed = small_model();
    changed.tensors[t].data[0] = static_cast<char>(changed.tensors[t].data[0] ^ 1);
    const auto result = load(changed.file());
    MM_CHECK(result.is_ok());
    const mm::base::Status status = result.value()->verify();
    MM_CHECK(status.code() == StatusCode::model_format);
    MM_CHECK(status.message().find(t == 0 ? "`encoder`" : "`decoder`") != std::string::npos);
  }
  const auto verdict = [](const std::function<void(GgufWriter&)>& change, const std::vector<std::string>& sections) {
    GgufWriter model;
    model.u32("general.alignment", 64);
    model.tensors.push_back({"encoder.a", {16}, 0, std::string(64, '\0')});
    change(model);
    model.seal(sections);
    return load(model.file()).value()->verify().message();
  };
  const auto nothing = [](GgufWriter&) {};
  MM_CHECK(verdict(nothing, {"encoder"}).empty());
  MM_CHECK(verdict(nothing, {"encoder", "text"}).find("`text` has no tensor") != std::string::npos);
  MM_CHECK(verdict([](GgufWriter& m) { m.tensors.push_back({"loose", {16}, 0, std::string(64, '\0')}); }, {"encoder"})
               .find("`loose` belongs to no section") != std::string::npos);
  GgufWriter unsealed;
  unsealed.u32("general.alignment", 64);
  MM_CHECK(!load(unsealed.file()).value()->verify().is_ok());
}

void check_files() {
  const std::string path = "/tmp/mm_test_model_file_" + std::to_string(::getpid());
  const auto code_of = [](const std::string& p) { return ModelFile::open(p).status().code(); };
  MM_CHECK(code_of(path) == StatusCode::not_found);
  MM_CHECK(ModelFile::open(path).status().message().find(path) != std::string::npos);
  MM_CHECK(code_of("/tmp") == StatusCode::not_found);
  MM_CHECK(code_of("/dev/null") == StatusCode::not_found);
  MM_CHECK(code_of("") == StatusCode::not_found);
  MM_CHECK(load("").status().code() == StatusCode::invalid_input);

  std::FILE* file = std::fopen(path.c_str(), "wb");
  std::fclose(file);
  MM_CHECK(code_of(path) == StatusCode::invalid_input);

  // The size of the shipped model: 15 MB, 300 tensors, two lists of 8,192 strings.
  GgufWriter model;
  model.u32("general.alignment", 64);
  std::vector<std::string> pieces;
  for (int i = 0; i < 8192; ++i) pieces.push_back("piece" + std::to_string(i));
  model.strings("tokenizer.ggml.tokens", pieces);
  model.strings("tokenizer.ggml.merges", pieces);
  for (int i = 0; i < 300; ++i) {
    model.tensors.push_back({"decoder.layer" + std::to_string(i) + ".w2", {64, 800}, 24, std::string(51200, '\x55')});
  }
  model.seal({"decoder"});
  const std::string bytes = model.file();
  file = std::fopen(path.c_str(), "wb");
  MM_CHECK(std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size());
  std::fclose(file);
  double best_ms = 1e9;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const auto result = ModelFile::open(path);
    const auto end = std::chrono::steady_clock::now();
    MM_CHECK(result.is_ok());
    best_ms = std::min(best_ms, std::chrono::duration<double, std::milli>(end - start).count());
  }
  const auto result = ModelFile::open(path);
  const auto start = std::chrono::steady_clock::now();
  MM_CHECK(result.value()->verify().is_ok());
  const double verify_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  std::printf("model_file: open %.2f ms, verify %.1f ms for %.1f MB\n", best_ms, verify_ms,
              static_cast<double>(bytes.size()) / 1e6);
  ::unlink(path.c_str());
  MM_CHECK(result.value()->verify().is_ok());  // the map outlives the name
}

void check_utf8() {
  using mm::base::is_valid_utf8;
  MM_CHECK(is_valid_utf8("") && is_valid_utf8("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80") &&
           is_valid_utf8("\xF4\x8F\xBF\xBF"));
  for (const char* wrong :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\xFF", "\xC3", "\xE2\x82", "\xF0\x9F\x98", "\xC3("}) {
    MM_CHECK(!is_valid_utf8(wrong));
  }
}

}  // namespace

int main() {
  check_utf8();
  check_right_file();
  check_header_and_pairs();
  check_tensors();
  check_every_cut_and_flip();
  check_verify();
  check_files();
  return mm::test::finish("model_file");
}
