// Holds SHA-256 to the published vectors and to itself over every way of cutting the input.
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "check.h"

namespace {

std::string digest_of(const std::string& text) {
  mm::base::Sha256 hash;
  hash.update(text.data(), text.size());
  return mm::base::to_hex(hash.finish());
}

}  // namespace

int main() {
  // NIST's examples (FIPS 180-4 appendix, CAVS long messages): empty, one block, two blocks, a million bytes.
  MM_CHECK(digest_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  MM_CHECK(digest_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  MM_CHECK(digest_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
           "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  MM_CHECK(digest_of(std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");

  // Lengths around the padding's corners (55, 56, 63, 64, 119, 120), cut at every place: the same digest.
  for (const size_t length : {size_t{1}, size_t{55}, size_t{56}, size_t{63}, size_t{64}, size_t{65}, size_t{119},
                              size_t{120}, size_t{128}, size_t{200}}) {
    std::string text(length, '\0');
    for (size_t i = 0; i < length; ++i) text[i] = static_cast<char>(i * 37 + 11);
    const std::string whole = digest_of(text);
    for (size_t cut = 0; cut <= length; ++cut) {
      mm::base::Sha256 hash;
      hash.update(text.data(), cut);
      hash.update(text.data() + cut, length - cut);
      MM_CHECK(mm::base::to_hex(hash.finish()) == whole);
    }
  }
  mm::base::Sha256 nothing;
  nothing.update(nullptr, 0);
  MM_CHECK(mm::base::to_hex(nothing.finish()) == digest_of(""));

  const std::vector<char> block(1 << 20, 'x');
  mm::base::Sha256 hash;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 16; ++i) hash.update(block.data(), block.size());
  const std::string digest = mm::base::to_hex(hash.finish());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  MM_CHECK(digest == "a06c26cbac8b80704f420222dae5658b88ff2da96702d12ef7a4223e9361f7c1");
  std::printf("sha256: %.0f MB/s\n", 16 * 1.048576 / seconds);
  return mm::test::finish("sha256");
}
