// Straightens a text line: a quadrilateral of a picture becomes a strip of fixed height.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "vision/geometry.h"
#include "vision/image_transform.h"

namespace mm::vision {

// The projective map of the unit square to a quadrilateral (Heckbert 1989, "Fundamentals of Texture Mapping and Image
// Warping", section 2.2.3): (0,0), (1,0), (1,1), (0,1) go to its corners.
class SquareToQuad {
 public:
  explicit SquareToQuad(const Quad& quad);
  Point operator()(double u, double v) const;

 private:
  double a_, b_, c_, d_, e_, f_, g_, h_;
};

double line_width(const Quad& quad);   // the longer of upper and lower side
double line_height(const Quad& quad);  // the longer of left and right side

// Corners in the order in which the line is read. A box 1.5 times as high as wide holds a line that runs downwards,
// turned by a quarter to the right (PaddleOCR's rule); its reading begins at the upper right corner.
Quad in_reading_direction(const Quad& quad);

// Columns [begin, end) of the strip `height` rows high and `whole_width` columns wide that the quadrilateral becomes.
// Writes [height, end - begin, 3] bytes at out, rows row_stride_bytes apart. Bilinear; where the picture is shrunk,
// the mean of up to 8 x 8 samples. Outside the picture its border goes on. The picture must be valid (check_picture).
struct Strip {
  int height = 0;
  int whole_width = 0;
  int begin = 0;
  int end = 0;
};
void crop_line(const PictureView& picture, const Quad& quad, const Strip& strip, uint8_t* out, size_t row_stride_bytes);

}  // namespace mm::vision
