// Turns the bytes of a GGUF v3 file into checked metadata and tensor views; ModelFile answers questions about them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "base/status.h"
#include "tensor/model_file.h"
#include "tensor/tensor.h"

namespace mm::tensor {

// Finds names by halving, so that no file can choose names that collide.
class NameIndex {
 public:
  std::vector<std::string_view> names;  // file order; point into the map

  // Call when all names are there. Returns the first one that occurs twice, or an empty one.
  std::string_view build();
  // The position in file order, or names.size().
  size_t find(std::string_view name) const;

 private:
  std::vector<uint32_t> order_;  // positions, sorted by name
};

struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
};

struct ParsedFile {
  std::shared_ptr<const base::MappedFile> file;
  NameIndex keys;
  NameIndex tensor_names;
  std::vector<MetadataValue> values;   // as keys
  std::vector<ByteRange> pair_ranges;  // as keys: from the key's length field to the value's end
  std::vector<TensorView> tensors;     // as tensor_names
};

// Fills all but `file`, which is given. model_format names what is wrong, what was found and what was expected.
base::Status parse_gguf(ParsedFile& out);

// A name from the file as it may stand in a message: short, and no control character that could forge a log line.
std::string quoted(std::string_view name);

}  // namespace mm::tensor
