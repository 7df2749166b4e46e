// Runs batches of straightened lines and puts the pieces of long ones together.
#include "tasks/text_recognition.h"

#include <algorithm>
#include <cmath>

#include "tasks/picture_program.h"
#include "vision/line_crop.h"

namespace mm::tasks {

namespace {

constexpr int line_height = 48;
constexpr int step = 32;  // widths are rounded up to it, so that few shapes have to be planned
// Terminals and spreadsheets have lines 70 to 100 times as long as high; those of print stay below 60, in one piece.
constexpr int piece_width = 3200;
constexpr int piece_overlap = 192;  // four heights: more than any character is wide
constexpr int whole_width_most = 65536;
constexpr int batch_columns_most = 6400;  // two of the longest pieces: bounds the arena
// PP-OCR recognizers learned from pictures of level / 127.5 - 1, filled up with zeros; 128 is the nearest level
// (0.004).
constexpr uint8_t padding_level = 128;

int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

base::Status check_output(const tensor::TensorView& output, size_t pieces, size_t characters) {
  const int64_t classes = output.shape.last(), rows = output.shape.rows();
  if (output.shape.rank >= 2 && classes == static_cast<int64_t>(characters) + 1 && rows > 0 &&
      rows % static_cast<int64_t>(pieces) == 0)
    return {};
  return base::model_format("program `recognize_text` gives shape " + output.shape.text() + " for " +
                            std::to_string(pieces) + " lines, expected [lines, steps, " +
                            std::to_string(characters + 1) + "]: the blank and each of `mm.ocr.characters`");
}

struct ReadPiece {
  LinePiece piece;
  text::CtcSteps steps;
};

// The pieces' steps, one after the other; steps stand for equal numbers of columns.
text::CtcSteps whole_line(const std::vector<ReadPiece>& pieces) {
  text::CtcSteps whole = pieces[0].steps;
  for (size_t i = 1; i < pieces.size(); ++i) {
    const LinePiece& left = pieces[i - 1].piece;
    const LinePiece& right = pieces[i].piece;
    const text::CtcSteps& steps = pieces[i].steps;
    const int count = static_cast<int>(steps.classes.size());
    const int overlap =
        static_cast<int>(std::lround(static_cast<double>(left.end - right.begin) * count / right.width()));
    whole = text::joined(whole, steps, std::clamp(overlap, 0, std::min(count, static_cast<int>(whole.classes.size()))));
  }
  return whole;
}

}  // namespace

std::vector<LinePiece> cut_line(const vision::Quad& line, size_t index) {
  const double aspect = vision::line_width(line) / std::max(vision::line_height(line), 1e-9);
  const int width = static_cast<int>(std::clamp(std::ceil(line_height * aspect), 1.0, double{whole_width_most}));
  if (width <= piece_width) return {{index, width, 0, width}};
  const int whole = round_up(width, step), spread = whole - piece_width;
  const int cuts = (spread + piece_width - piece_overlap - 1) / (piece_width - piece_overlap);
  std::vector<LinePiece> pieces;
  for (int i = 0; i <= cuts; ++i) {
    // Whole steps of the recognizer, whose stride divides 32. Rounded down, an overlap shrinks by less than one step.
    const int begin = static_cast<int>(int64_t{spread} * i / cuts / step * step);
    pieces.push_back({index, whole, begin, begin + piece_width});
  }
  return pieces;
}

std::vector<LineBatch> batch_pieces(std::vector<LinePiece> pieces, int batch_lines, int columns_least) {
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const LinePiece& a, const LinePiece& b) { return a.width() > b.width(); });
  std::vector<LineBatch> batches;
  for (const LinePiece& piece : pieces) {
    const int columns = round_up(std::max(piece.width(), columns_least), step);
    // A quarter of padding at most: beyond it a batch of its own costs less.
    const bool fits = !batches.empty() && static_cast<int>(batches.back().pieces.size()) < batch_lines &&
                      columns * 4 >= batches.back().columns * 3 &&
                      static_cast<int>(batches.back().pieces.size() + 1) * batches.back().columns <= batch_columns_most;
    if (!fits) batches.push_back({{}, columns});
    batches.back().pieces.push_back(piece);
  }
  return batches;
}

base::Result<std::vector<text::DecodedLine>> recognize_text(Session& session, const vision::PictureView& picture,
                                                            const std::vector<vision::Quad>& lines, int batch_lines,
                                                            const ProgressCallback& on_progress) {
  MM_ASSIGN_OR_RETURN(PictureProgram program, PictureProgram::find(session, "recognize_text"));
  const std::vector<std::string_view>& characters = session.engine().characters();
  if (characters.empty()) return base::model_format("`mm.ocr.characters` is not in the model file, expected its table");
  std::vector<LinePiece> pieces;
  for (size_t i = 0; i < lines.size(); ++i)
    for (const LinePiece& piece : cut_line(lines[i], i)) pieces.push_back(piece);

  const size_t total = pieces.size();
  size_t done = 0;
  std::vector<std::vector<ReadPiece>> read(lines.size());
  std::vector<uint8_t> pixels;
  for (const LineBatch& batch : batch_pieces(std::move(pieces), batch_lines, session.engine().line_width())) {
    const size_t row_bytes = static_cast<size_t>(batch.columns) * 3, line_bytes = row_bytes * line_height;
    pixels.assign(batch.pieces.size() * line_bytes, padding_level);
    MM_RETURN_IF_ERROR(session.interpreter().check_limits());
    session.pool().parallel_for(batch.pieces.size(), 1, [&](size_t begin, size_t end, int) {
      for (size_t i = begin; i < end; ++i) {
        const LinePiece& piece = batch.pieces[i];
        vision::crop_line(picture, lines[piece.line], {line_height, piece.whole_width, piece.begin, piece.end},
                          pixels.data() + i * line_bytes, row_bytes);
      }
    });
    const size_t count = batch.pieces.size();
    MM_ASSIGN_OR_RETURN(const tensor::TensorView output,
                        program.run(pixels, tensor::Shape::of(count, line_height, batch.columns, 3)));
    MM_RETURN_IF_ERROR(check_output(output, count, characters.size()));
    const int steps = static_cast<int>(output.shape.rows() / static_cast<int64_t>(count));
    for (size_t i = 0; i < count; ++i) {
      ReadPiece piece = {batch.pieces[i], {}};
      text::append_best_steps(output.as<const float>() + static_cast<int64_t>(i) * steps * output.shape.last(), steps,
                              static_cast<int>(output.shape.last()), piece.steps);
      read[piece.piece.line].push_back(std::move(piece));
    }
    done += count;
    if (on_progress && !on_progress(done, total))
      return base::Status(base::StatusCode::cancelled, "the caller asked to stop");
  }
  std::vector<text::DecodedLine> decoded;
  // Pieces of one line are equally wide, so the stable sort has left them in their order.
  for (const std::vector<ReadPiece>& line : read)
    decoded.push_back(text::decode_best_path(whole_line(line), characters));
  return decoded;
}

}  // namespace mm::tasks
