// Reads text lines: straighten, batch by width, run `recognize_text`, decode.
#pragma once

#include <functional>
#include <vector>

#include "tasks/session.h"
#include "text/ctc_decoder.h"
#include "vision/geometry.h"

namespace mm::tasks {

// A piece of a line, as the recognizer gets it: columns [begin, end) of a strip of whole_width.
struct LinePiece {
  size_t line = 0;
  int whole_width = 0;
  int begin = 0;
  int end = 0;
  int width() const { return end - begin; }
};

// The pieces of a line in reading direction. Its width follows its aspect; one wider than 3,200 columns (67 times its
// height) is cut into pieces that overlap, not squeezed.
std::vector<LinePiece> cut_line(const vision::Quad& line, size_t index);

// Batches of pieces of similar width, widest first; `columns` is what each piece of a batch is padded to.
struct LineBatch {
  std::vector<LinePiece> pieces;
  int columns = 0;
};
std::vector<LineBatch> batch_pieces(std::vector<LinePiece> pieces, int batch_lines, int columns_least);

// Called after each batch with the number of pieces read and of all; false cancels.
using ProgressCallback = std::function<bool(size_t done, size_t total)>;

// The text of each line, in their order. `batch_lines` is 1 to 64.
base::Result<std::vector<text::DecodedLine>> recognize_text(Session& session, const vision::PictureView& picture,
                                                            const std::vector<vision::Quad>& lines, int batch_lines,
                                                            const ProgressCallback& on_progress);

}  // namespace mm::tasks
