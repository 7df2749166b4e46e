// Turns statuses into exceptions, and arrays into views and back.
#include "crossing.h"

#include <nanobind/stl/string.h>

#include <cstring>

using mm::base::Status;
using mm::tensor::DType;
using mm::tensor::TensorView;

nb::object exception_of(const Status& status) {
  return nb::module_::import_("mobile_multimodal.errors")
      .attr("error_from_status")(static_cast<int>(status.code()), status.message(), status.hint());
}

void raise(const Status& status) {
  nb::object error = exception_of(status);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
  throw nb::python_error();
}

mm::vision::PictureView picture_from(const PixelArray& pixels) {
  if (pixels.ndim() != 2 && pixels.ndim() != 3)
    raise(mm::base::invalid_input("a picture of " + std::to_string(pixels.ndim()) +
                                  " dimensions, expected [height, width] or [height, width, channels]"));
  for (size_t i = 0; i < pixels.ndim(); ++i)
    if (pixels.shape(i) > 1u << 20)
      raise(mm::base::invalid_input("a picture with a side of " + std::to_string(pixels.shape(i)) +
                                    ", expected at most 65535"));
  mm::vision::PictureView picture;
  picture.pixels = pixels.data();
  picture.height = static_cast<int>(pixels.shape(0));
  picture.width = static_cast<int>(pixels.shape(1));
  picture.channels = pixels.ndim() == 3 ? static_cast<int>(pixels.shape(2)) : 1;
  return picture;
}

TensorView view_from(const AnyArray& array, const std::string& name) {
  TensorView view;
  if (array.dtype() == nb::dtype<float>())
    view.dtype = DType::f32;
  else if (array.dtype() == nb::dtype<int32_t>())
    view.dtype = DType::i32;
  else if (array.dtype() == nb::dtype<uint8_t>())
    view.dtype = DType::u8;
  else
    raise(mm::base::invalid_input("input `" + name + "` is of an unknown type, expected float32, int32 or uint8"));
  if (array.ndim() > mm::tensor::max_rank)
    raise(mm::base::invalid_input("input `" + name + "` has " + std::to_string(array.ndim()) +
                                  " dimensions, expected at most 4"));
  view.shape.rank = static_cast<int>(array.ndim());
  for (size_t i = 0; i < array.ndim(); ++i) view.shape.dims[i] = static_cast<int64_t>(array.shape(i));
  view.data = const_cast<void*>(array.data());  // the core only reads its inputs
  return view;
}

namespace {

// Copies out of the arena, which the next run overwrites.
template <class T>
nb::object numpy_copy(const TensorView& view) {
  const size_t count = static_cast<size_t>(view.shape.elements());
  T* copy = new T[count];
  std::memcpy(copy, view.data, count * sizeof(T));
  nb::capsule owner(copy, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  size_t shape[mm::tensor::max_rank];
  for (int i = 0; i < view.shape.rank; ++i) shape[i] = static_cast<size_t>(view.shape[i]);
  return nb::cast(nb::ndarray<nb::numpy, T>(copy, static_cast<size_t>(view.shape.rank), shape, owner));
}

}  // namespace

nb::object to_numpy(const TensorView& view) {
  switch (view.dtype) {
    case DType::f32:
      return numpy_copy<float>(view);
    case DType::i32:
      return numpy_copy<int32_t>(view);
    case DType::u8:
      return numpy_copy<uint8_t>(view);
    case DType::i8:
      return numpy_copy<int8_t>(view);
    case DType::f16:
      break;
  }
  raise({mm::base::StatusCode::unsupported, "a float16 output cannot cross to Python"});
}
