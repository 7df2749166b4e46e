// Reads a tensor as pictures, channels last: one [height, width, channels], or a stack [count, height, width,
// channels].
#pragma once

#include <string>

#include "ops/op.h"

namespace mm::ops {

struct Pictures {
  int64_t count;
  int height, width, channels;

  int64_t pixels() const { return static_cast<int64_t>(height) * width; }
  int64_t elements() const { return pixels() * channels; }  // of one picture
};

inline base::Result<Pictures> pictures_of(const tensor::TensorView& x, const std::string& what) {
  const tensor::Shape& shape = x.shape;
  const int first = shape.rank - 3;
  if (shape.rank < 3)
    return base::invalid_input(what + " has shape " + shape.text() + ", expected [height, width, channels]");
  for (int i = 0; i < shape.rank; ++i)
    if (shape[i] < 1 || shape[i] > (1 << 20))
      return base::invalid_input(what + " has shape " + shape.text() + ", expected sides of 1 to 1048576");
  return Pictures{first == 1 ? shape[0] : 1, static_cast<int>(shape[first]), static_cast<int>(shape[first + 1]),
                  static_cast<int>(shape[first + 2])};
}

// The shape of as many pictures of another size as `like` holds.
inline tensor::Shape picture_shape(const tensor::Shape& like, int64_t height, int64_t width, int64_t channels) {
  return like.rank == 4 ? tensor::Shape::of(like[0], height, width, channels)
                        : tensor::Shape::of(height, width, channels);
}

// Calls body(picture, row_begin, row_end) for the parts of [begin, end), rows of pictures counted through the stack.
template <class F>
void each_picture(size_t begin, size_t end, int rows, F&& body) {
  const int64_t last = static_cast<int64_t>(end);
  for (int64_t at = static_cast<int64_t>(begin); at < last;) {
    const int64_t picture = at / rows, row = at % rows;
    const int64_t stop = last - at < rows - row ? row + last - at : rows;
    body(picture, static_cast<int>(row), static_cast<int>(stop));
    at += stop - row;
  }
}

}  // namespace mm::ops
