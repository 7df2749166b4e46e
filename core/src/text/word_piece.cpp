// Folds text code point by code point, splits it into words and each word into its longest pieces.
#include "text/word_piece.h"

#include <algorithm>
#include <new>

#include "base/utf8.h"
#include "text/unicode_categories.h"
#include "text/unicode_folding.h"

namespace mm::text {

using base::model_format;
using base::Result;
using base::Status;

namespace {

constexpr size_t max_text_bytes = size_t{1} << 16;  // a thousand times what a model of 64 tokens reads
constexpr size_t max_tokens = size_t{1} << 20;
constexpr size_t max_word = 100;  // code points; a longer word is unknown, as in BERT's own tokenizer
constexpr std::string_view continuation = "##";

// The blocks that BERT takes for ideographs, each a word of its own.
bool is_ideograph(uint32_t code_point) {
  constexpr uint32_t blocks[][2] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},   {0x20000, 0x2A6DF},
                                    {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F}};
  for (const auto& block : blocks)
    if (code_point >= block[0] && code_point <= block[1]) return true;
  return false;
}

bool is_space(uint32_t code_point) { return category_of(code_point) == Category::space; }

void append_utf8(uint32_t code_point, std::string& bytes) {
  const auto put = [&](uint32_t byte) { bytes += static_cast<char>(byte); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

// Collects folded code points; marks that combine wait until their run ends and are put in canonical order.
class FoldedText {
 public:
  void add(uint32_t code_point) {
    const Folded folded = fold(code_point);
    if (folded.count == 0 && is_starter_mark(code_point)) end_run();
    for (int i = 0; i < folded.count; ++i) put(folded.code_points[i]);
  }
  void add_space() { put(' '); }
  std::vector<uint32_t> finish() {
    end_run();
    return std::move(code_points_);
  }

 private:
  struct Mark {
    uint32_t code_point;
    int combining_class;
  };
  void put(uint32_t code_point) {
    const int order = combining_class(code_point);
    if (order != 0) {
      run_.push_back({code_point, order});
    } else {
      end_run();
      code_points_.push_back(code_point);
    }
  }
  void end_run() {
    std::stable_sort(run_.begin(), run_.end(),
                     [](const Mark& a, const Mark& b) { return a.combining_class < b.combining_class; });
    for (const Mark& mark : run_) code_points_.push_back(mark.code_point);
    run_.clear();
  }

  std::vector<uint32_t> code_points_;
  std::vector<Mark> run_;
};

Result<std::vector<uint32_t>> fold_text(std::string_view utf8) {
  FoldedText text;
  for (size_t at = 0; at < utf8.size();) {
    const base::Utf8Step step = base::read_utf8(utf8, at);
    if (!step.is_valid)
      return base::invalid_input("the text is not UTF-8 at byte " + std::to_string(at), "encode it as UTF-8");
    at += static_cast<size_t>(step.bytes);
    if (is_removed(step.code_point)) continue;
    const bool is_word = is_ideograph(step.code_point);
    if (is_word) text.add_space();
    if (is_space(step.code_point)) {
      text.add_space();
    } else {
      text.add(step.code_point);
    }
    if (is_word) text.add_space();
  }
  return text.finish();
}

}  // namespace

Result<std::shared_ptr<const WordPiece>> WordPiece::from_model(const tensor::ModelFile& model) {
  try {
    std::shared_ptr<WordPiece> pieces(new WordPiece());
    MM_RETURN_IF_ERROR(pieces->load(model));
    return std::shared_ptr<const WordPiece>(std::move(pieces));
  } catch (const std::bad_alloc&) {
    return Status(base::StatusCode::out_of_memory, "no memory left to read the word pieces");
  }
}

Status WordPiece::load(const tensor::ModelFile& model) {
  MM_ASSIGN_OR_RETURN(const std::vector<std::string_view> tokens, model.strings("mm.wordpiece.tokens"));
  if (tokens.empty() || tokens.size() > max_tokens)
    return model_format("`mm.wordpiece.tokens` has " + std::to_string(tokens.size()) + " tokens, expected 1 to " +
                        std::to_string(max_tokens));
  offsets_.push_back(0);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].empty())
      return model_format("`mm.wordpiece.tokens` at place " + std::to_string(i) + " is empty, expected a piece");
    bytes_ += tokens[i];
    offsets_.push_back(static_cast<uint32_t>(bytes_.size()));  // at most 32 MiB: the model file's own bound
    order_.push_back(static_cast<int32_t>(i));
    longest_ = std::max(longest_, tokens[i].size());
  }
  // Sorted names instead of a hash table: no file can choose names that collide.
  std::sort(order_.begin(), order_.end(), [&](int32_t a, int32_t b) { return name(a) < name(b); });
  for (size_t i = 1; i < order_.size(); ++i)
    if (name(order_[i]) == name(order_[i - 1]))
      return model_format("`mm.wordpiece.tokens` at place " + std::to_string(std::max(order_[i], order_[i - 1])) +
                          " repeats the token at place " + std::to_string(std::min(order_[i], order_[i - 1])));
  int32_t padding = -1;
  const struct {
    const char* name;
    int32_t* id;
  } controls[] = {{"[PAD]", &padding}, {"[UNK]", &unknown_}, {"[CLS]", &begin_}, {"[SEP]", &separator_}};
  for (const auto& control : controls) {
    *control.id = find(control.name);
    if (*control.id < 0)
      return model_format(std::string("`mm.wordpiece.tokens` lacks `") + control.name + "`, expected it in the list");
  }
  return {};
}

std::string_view WordPiece::name(int32_t id) const {
  const uint32_t first = offsets_[static_cast<size_t>(id)];
  return std::string_view(bytes_).substr(first, offsets_[static_cast<size_t>(id) + 1] - first);
}

int32_t WordPiece::find(std::string_view piece) const {
  const auto at = std::lower_bound(order_.begin(), order_.end(), piece,
                                   [&](int32_t id, std::string_view wanted) { return name(id) < wanted; });
  return at != order_.end() && name(*at) == piece ? *at : -1;
}

// At most 100 x 100 / 2 look-ups a word.
void WordPiece::encode_word(const std::vector<uint32_t>& word, std::vector<int32_t>& ids) const {
  const size_t first_id = ids.size();
  std::string text(continuation);  // the "##" in front serves every piece but the first
  std::vector<size_t> ends;        // byte offsets behind each code point
  for (const uint32_t code_point : word) {
    append_utf8(code_point, text);
    ends.push_back(text.size());
  }
  for (size_t begin = 0; begin < word.size() && word.size() <= max_word;) {
    const size_t from = begin == 0 ? continuation.size() : ends[begin - 1];
    size_t end = word.size();
    int32_t id = -1;
    for (; end > begin; --end) {
      const size_t bytes = ends[end - 1] - from;
      if (bytes > longest_) continue;
      const std::string_view piece(text.data() + from, bytes);
      id = begin == 0 ? find(piece) : find(std::string(continuation).append(piece));
      if (id >= 0) break;
    }
    if (id < 0) break;
    ids.push_back(id);
    begin = end;
    if (begin == word.size()) return;
  }
  ids.resize(first_id);
  ids.push_back(unknown_);
}

Result<std::vector<int32_t>> WordPiece::encode(std::string_view utf8) const {
  if (utf8.size() > max_text_bytes)
    return base::invalid_input(
        "the text has " + std::to_string(utf8.size()) + " bytes, expected at most " + std::to_string(max_text_bytes),
        "pass a shorter text");
  try {
    MM_ASSIGN_OR_RETURN(const std::vector<uint32_t> code_points, fold_text(utf8));
    std::vector<int32_t> ids;
    std::vector<uint32_t> word;
    const auto end_word = [&] {
      if (!word.empty()) encode_word(word, ids);
      word.clear();
    };
    for (const uint32_t code_point : code_points) {
      const bool is_mark = is_punctuation(code_point);
      if (is_mark || is_space(code_point)) end_word();
      if (is_space(code_point)) continue;
      word.push_back(code_point);
      if (is_mark) end_word();
    }
    end_word();
    return ids;
  } catch (const std::bad_alloc&) {
    return Status(base::StatusCode::out_of_memory, "no memory left to split the text into words");
  }
}

}  // namespace mm::text
