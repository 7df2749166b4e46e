// Splits text into words by GPT-2's rule and merges each word's bytes, best merge first.
#include "text/byte_pair_encoding.h"

#include <algorithm>
#include <functional>
#include <new>
#include <queue>

#include "base/utf8.h"
#include "text/unicode_categories.h"

namespace mm::text {

using base::model_format;
using base::Result;
using base::Status;

namespace {

constexpr size_t max_text_bytes = size_t{1} << 20;
constexpr size_t max_tokens = size_t{1} << 20;  // the largest vocabularies in use have about 262,000
constexpr size_t max_merges = size_t{1} << 20;
constexpr uint32_t normal_token = 1;
constexpr uint32_t control_token_type = 3;
constexpr const char* replacement = "\xEF\xBF\xBD";  // U+FFFD

// GPT-2's alphabet: a printable byte (U+0021..7E, A1..AC, AE..FF) stands for itself, the other 68 follow from U+0100
// on.
constexpr bool is_own_letter(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

// Code point (below 256 + 68) to byte; -1: not in the alphabet.
constexpr std::array<int16_t, 324> make_alphabet() {
  std::array<int16_t, 324> bytes = {};
  for (int16_t& byte : bytes) byte = -1;
  size_t next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    bytes[is_own_letter(byte) ? static_cast<size_t>(byte) : next++] = static_cast<int16_t>(byte);
  }
  return bytes;
}
constexpr std::array<int16_t, 324> alphabet = make_alphabet();

// Appends the bytes that a piece's letters stand for; false: it has a letter outside the alphabet.
bool append_bytes(std::string_view piece, std::string& bytes) {
  for (size_t at = 0; at < piece.size();) {
    const base::Utf8Step step = base::read_utf8(piece, at);
    if (!step.is_valid || step.code_point >= alphabet.size() || alphabet[step.code_point] < 0) return false;
    bytes += static_cast<char>(alphabet[step.code_point]);
    at += static_cast<size_t>(step.bytes);
  }
  return true;
}

std::string place(const char* list, size_t i) {
  return std::string("`tokenizer.ggml.") + list + "` at place " + std::to_string(i);
}

// One code point with its category; a byte that is not UTF-8 counts as `other`, as a replacement character would.
struct Letter {
  Category category;
  size_t bytes;
};

Letter letter_at(std::string_view text, size_t at) {
  const base::Utf8Step step = base::read_utf8(text, at);
  if (!step.is_valid) return {Category::other, 1};
  return {category_of(step.code_point), static_cast<size_t>(step.bytes)};
}

// The end of the run of one category that begins at `at`.
size_t run_end(std::string_view text, size_t at, Category category) {
  while (at < text.size()) {
    const Letter letter = letter_at(text, at);
    if (letter.category != category) break;
    at += letter.bytes;
  }
  return at;
}

// The end of the digit at `at`, or of what stands there before the next digit.
size_t stretch_end(std::string_view text, size_t at) {
  const size_t begin = at;
  while (at < text.size()) {
    const Letter letter = letter_at(text, at);
    if (letter.category == Category::number) return at == begin ? at + letter.bytes : at;
    at += letter.bytes;
  }
  return at;
}

// The end of the word at `at` by 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
size_t word_end(std::string_view text, size_t at) {
  if (text[at] == '\'') {
    for (const std::string_view ending : {"s", "t", "re", "ve", "m", "ll", "d"}) {
      if (text.substr(at + 1, ending.size()) == ending) return at + 1 + ending.size();
    }
  }
  const size_t body = text[at] == ' ' && at + 1 < text.size() ? at + 1 : at;
  const Category category = letter_at(text, body).category;
  if (category != Category::space) return run_end(text, body, category);
  // Spaces: all but the last, which belongs to the word behind it, unless nothing follows or it stands alone.
  size_t last = at;
  size_t end = at;
  while (end < text.size()) {
    const Letter letter = letter_at(text, end);
    if (letter.category != Category::space) break;
    last = end;
    end += letter.bytes;
  }
  return end == text.size() || last == at ? end : last;
}

}  // namespace

// What encode_word needs, kept between words so that a text costs a few allocations and not a few per word.
struct BytePairEncoding::Workspace {
  struct Symbol {
    int32_t id;
    int32_t previous;  // -1: none
    int32_t next;      // -1: none
  };
  // A possible merge of symbol `at` with its next; out of date once either id has changed.
  struct Candidate {
    int32_t rank;
    int32_t at;
    int32_t left;
    int32_t right;
    bool operator>(const Candidate& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
  };
  std::vector<Symbol> symbols;
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<Candidate>> candidates;
};

Result<std::shared_ptr<const BytePairEncoding>> BytePairEncoding::from_model(const tensor::ModelFile& model) {
  try {
    std::shared_ptr<BytePairEncoding> encoding(new BytePairEncoding());
    MM_RETURN_IF_ERROR(encoding->load(model));
    return std::shared_ptr<const BytePairEncoding>(std::move(encoding));
  } catch (const std::bad_alloc&) {
    return Status(base::StatusCode::out_of_memory, "no memory left to read the tokenizer");
  }
}

Status BytePairEncoding::load(const tensor::ModelFile& model) {
  MM_ASSIGN_OR_RETURN(const std::string_view kind, model.string("tokenizer.ggml.model"));
  if (kind != "gpt2") {
    return model_format("metadata key `tokenizer.ggml.model` is another kind, expected `gpt2` (byte-level BPE)");
  }
  MM_ASSIGN_OR_RETURN(const std::vector<std::string_view> tokens, model.strings("tokenizer.ggml.tokens"));
  MM_ASSIGN_OR_RETURN(const std::vector<std::string_view> merges, model.strings("tokenizer.ggml.merges"));
  MM_ASSIGN_OR_RETURN(const std::vector<uint32_t> types, model.words("tokenizer.ggml.token_type"));
  if (model.find("tokenizer.ggml.add_space_prefix") != nullptr) {
    MM_ASSIGN_OR_RETURN(add_space_prefix_, model.boolean("tokenizer.ggml.add_space_prefix"));
  }
  if (model.find("tokenizer.ggml.pre") != nullptr) {
    MM_ASSIGN_OR_RETURN(const std::string_view rule, model.string("tokenizer.ggml.pre"));
    if (rule != "gpt-2" && rule != "smollm")
      return model_format("metadata key `tokenizer.ggml.pre` is another word rule, expected `gpt-2` or `smollm`");
    splits_digits_ = rule == "smollm";
  }
  MM_RETURN_IF_ERROR(load_tokens(tokens, types));
  return load_merges(tokens, merges);
}

Status BytePairEncoding::load_tokens(const std::vector<std::string_view>& tokens, const std::vector<uint32_t>& types) {
  if (tokens.empty() || tokens.size() > max_tokens) {
    return model_format("`tokenizer.ggml.tokens` has " + std::to_string(tokens.size()) + " tokens, expected 1 to " +
                        std::to_string(max_tokens));
  }
  if (types.size() != tokens.size()) {
    return model_format("`tokenizer.ggml.token_type` has " + std::to_string(types.size()) + " entries, expected the " +
                        std::to_string(tokens.size()) + " of `tokenizer.ggml.tokens`");
  }
  byte_ids_.fill(-1);
  offsets_.push_back(0);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].empty()) return model_format(place("tokens", i) + " is empty, expected at least 1 byte");
    if (types[i] == control_token_type) {
      control_ids_.push_back(static_cast<int32_t>(i));
      bytes_ += tokens[i];
    } else if (types[i] != normal_token) {
      return model_format(place("token_type", i) + " is " + std::to_string(types[i]) +
                          ", expected 1 (normal) or 3 (control)");
    } else if (!append_bytes(tokens[i], bytes_)) {
      return model_format(place("tokens", i) + " has a letter outside GPT-2's byte alphabet");
    } else if (bytes_.size() - offsets_.back() == 1) {
      byte_ids_[static_cast<uint8_t>(bytes_.back())] = static_cast<int32_t>(i);
    }
    is_control_.push_back(types[i] == control_token_type);
    offsets_.push_back(static_cast<uint32_t>(bytes_.size()));  // at most 32 MiB: the model file's own bound
  }
  return {};
}

Status BytePairEncoding::load_merges(const std::vector<std::string_view>& tokens,
                                     const std::vector<std::string_view>& merges) {
  // Sorted names instead of a hash table: no file can choose names that collide.
  std::vector<int32_t> order(tokens.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  const auto name = [&](int32_t id) { return tokens[static_cast<size_t>(id)]; };
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return name(a) < name(b); });
  for (size_t i = 1; i < order.size(); ++i) {
    if (name(order[i]) == name(order[i - 1])) {
      return model_format(place("tokens", static_cast<size_t>(std::max(order[i], order[i - 1]))) +
                          " repeats the token at place " + std::to_string(std::min(order[i], order[i - 1])));
    }
  }
  const auto normal_id = [&](std::string_view piece) {
    const auto at = std::lower_bound(order.begin(), order.end(), piece,
                                     [&](int32_t id, std::string_view wanted) { return name(id) < wanted; });
    return at != order.end() && name(*at) == piece && !is_control(*at) ? *at : -1;
  };

  if (merges.size() > max_merges) {
    return model_format("`tokenizer.ggml.merges` has " + std::to_string(merges.size()) + " merges, expected at most " +
                        std::to_string(max_merges));
  }
  struct LeftMerge {
    int32_t left;
    Merge merge;
  };
  std::vector<LeftMerge> found;
  found.reserve(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    const size_t space = merges[i].find(' ');
    if (space == std::string_view::npos || merges[i].find(' ', space + 1) != std::string_view::npos) {
      return model_format(place("merges", i) + " is not two pieces with one space between them");
    }
    const std::string_view left = merges[i].substr(0, space);
    const std::string_view right = merges[i].substr(space + 1);
    const Merge merge = {normal_id(right), static_cast<int32_t>(i), normal_id(std::string(left) + std::string(right))};
    const int32_t left_id = normal_id(left);
    if (left_id < 0 || merge.right < 0 || merge.result < 0) {
      return model_format(place("merges", i) + " names a piece or yields one that is no normal token");
    }
    found.push_back({left_id, merge});
  }
  std::sort(found.begin(), found.end(), [](const LeftMerge& a, const LeftMerge& b) {
    return a.left != b.left ? a.left < b.left : a.merge.right < b.merge.right;
  });
  first_merge_.assign(tokens.size() + 1, 0);
  for (size_t i = 0; i < found.size(); ++i) {
    if (i > 0 && found[i].left == found[i - 1].left && found[i].merge.right == found[i - 1].merge.right) {
      return model_format(place("merges", static_cast<size_t>(std::max(found[i].merge.rank, found[i - 1].merge.rank))) +
                          " occurs twice, expected once");
    }
    ++first_merge_[static_cast<size_t>(found[i].left) + 1];
    merges_.push_back(found[i].merge);
  }
  for (size_t i = 1; i < first_merge_.size(); ++i) first_merge_[i] += first_merge_[i - 1];
  return {};
}

const BytePairEncoding::Merge* BytePairEncoding::find_merge(int32_t left, int32_t right) const {
  const Merge* begin = merges_.data() + first_merge_[static_cast<size_t>(left)];
  const Merge* end = merges_.data() + first_merge_[static_cast<size_t>(left) + 1];
  const Merge* at =
      std::lower_bound(begin, end, right, [](const Merge& merge, int32_t wanted) { return merge.right < wanted; });
  return at != end && at->right == right ? at : nullptr;
}

// O(n log n): each of the at most n - 1 merges puts at most two new candidates into the queue.
void BytePairEncoding::encode_word(std::string_view word, Workspace& space, std::vector<int32_t>& ids) const {
  std::vector<Workspace::Symbol>& symbols = space.symbols;
  symbols.clear();
  for (const char byte : word) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
    const int32_t at = static_cast<int32_t>(symbols.size());
    if (id >= 0) symbols.push_back({id, at - 1, at + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;

  const auto symbol = [&](int32_t at) -> Workspace::Symbol& { return symbols[static_cast<size_t>(at)]; };
  const auto consider = [&](int32_t at) {
    if (at < 0 || symbol(at).next < 0) return;
    const int32_t left = symbol(at).id;
    const int32_t right = symbol(symbol(at).next).id;
    const Merge* merge = find_merge(left, right);
    if (merge != nullptr) space.candidates.push({merge->rank, at, left, right});
  };
  for (size_t i = 0; i + 1 < symbols.size(); ++i) consider(static_cast<int32_t>(i));
  while (!space.candidates.empty()) {
    const Workspace::Candidate best = space.candidates.top();
    space.candidates.pop();
    Workspace::Symbol& left = symbol(best.at);
    // A symbol that was merged away has id -1, so its old candidates fail here too.
    if (left.id != best.left || left.next < 0 || symbol(left.next).id != best.right) continue;
    left.id = find_merge(best.left, best.right)->result;
    Workspace::Symbol& right = symbol(left.next);
    right.id = -1;
    left.next = right.next;
    if (left.next >= 0) symbol(left.next).previous = best.at;
    consider(left.previous);
    consider(best.at);
  }
  for (int32_t at = 0; at >= 0; at = symbol(at).next) ids.push_back(symbol(at).id);
}

Result<std::vector<int32_t>> BytePairEncoding::encode(std::string_view utf8) const {
  if (utf8.size() > max_text_bytes) {
    return base::invalid_input(
        "the text has " + std::to_string(utf8.size()) + " bytes, expected at most " + std::to_string(max_text_bytes),
        "split it and encode the parts");
  }
  std::string prefixed;
  if (add_space_prefix_ && !utf8.empty() && utf8.front() != ' ') {
    prefixed.reserve(utf8.size() + 1);
    prefixed += ' ';
    prefixed += utf8;
    utf8 = prefixed;
  }
  std::vector<int32_t> ids;
  Workspace space;
  for (size_t begin = 0; begin < utf8.size();) {
    // The word rule sees what lies between two digits as a text of its own: it does not look past its end.
    const size_t end = splits_digits_ ? stretch_end(utf8, begin) : utf8.size();
    const std::string_view stretch = utf8.substr(begin, end - begin);
    for (size_t at = 0; at < stretch.size();) {
      const size_t next = word_end(stretch, at);
      encode_word(stretch.substr(at, next - at), space, ids);
      at = next;
    }
    begin = end;
  }
  return ids;
}

std::string_view BytePairEncoding::text_of(int32_t id) const {
  const size_t i = static_cast<size_t>(id);
  return std::string_view(bytes_).substr(offsets_[i], offsets_[i + 1] - offsets_[i]);
}

std::string_view BytePairEncoding::piece(int32_t id) const {
  return contains(id) && !is_control(id) ? text_of(id) : std::string_view();
}

std::string BytePairEncoding::decode(const int32_t* ids, size_t n, bool skip_control) const {
  Utf8Stream stream;
  std::string text;
  for (size_t i = 0; i < n; ++i) {
    if (contains(ids[i]) && !(skip_control && is_control(ids[i]))) text += stream.push(text_of(ids[i]));
  }
  return text + stream.finish();
}

std::optional<int32_t> BytePairEncoding::control_token(std::string_view name) const {
  for (const int32_t id : control_ids_) {
    if (text_of(id) == name) return id;
  }
  return std::nullopt;
}

ControlName BytePairEncoding::control_name_at(std::string_view text, size_t at) const {
  ControlName found;
  for (const int32_t id : control_ids_) {
    const std::string_view name = text_of(id);
    if (name.size() > found.bytes && text.substr(at, name.size()) == name) found = {id, name.size()};
  }
  return found;
}

std::string Utf8Stream::push(std::string_view bytes) {
  std::string joined;
  if (!held_back_.empty()) {
    joined = held_back_;
    joined += bytes;
    held_back_.clear();
    bytes = joined;
  }
  std::string text;
  text.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    const base::Utf8Step step = base::read_utf8(bytes, at);
    if (step.is_cut_off) {
      held_back_ = bytes.substr(at);
      break;
    }
    if (step.is_valid) {
      text += bytes.substr(at, static_cast<size_t>(step.bytes));
    } else {
      text += replacement;
    }
    at += static_cast<size_t>(step.bytes);
  }
  return text;
}

std::string Utf8Stream::finish() {
  const bool is_empty = held_back_.empty();
  held_back_.clear();
  return is_empty ? std::string() : replacement;
}

}  // namespace mm::text
