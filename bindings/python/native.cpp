// The Python door: engines, sessions and captions as nanobind classes; the GIL is released while the core works.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include "tasks/captioning.h"
#include "tasks/text_reading.h"
#include "vision/image_transform.h"
#include "vision/line_crop.h"

namespace nb = nanobind;
using namespace nb::literals;

void add_vector_table(nb::module_& module);  // vector_table.cpp

namespace {

using mm::base::Result;
using mm::base::Status;
using mm::tensor::DType;
using mm::tensor::Shape;
using mm::tensor::TensorView;

// Raises the exception that mobile_multimodal.errors assigns to the status.
[[noreturn]] void raise(const Status& status) {
  nb::object error = nb::module_::import_("mobile_multimodal.errors")
                         .attr("error_from_status")(static_cast<int>(status.code()), status.message(), status.hint());
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
  throw nb::python_error();
}

void check(const Status& status) {
  if (!status.is_ok()) raise(status);
}

template <class T>
T take(Result<T> result) {
  if (!result.is_ok()) raise(result.status());
  return std::move(result.value());
}

using AnyArray = nb::ndarray<nb::c_contig, nb::device::cpu, nb::ro>;
using PixelArray = nb::ndarray<const uint8_t, nb::c_contig, nb::device::cpu>;

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

struct PyEngine {
  explicit PyEngine(const std::string& file_path) : path(file_path) {
    nb::gil_scoped_release release;
    auto opened = mm::tasks::Engine::open(path);
    nb::gil_scoped_acquire acquire;
    engine = take(std::move(opened));
  }
  std::string path;
  std::shared_ptr<const mm::tasks::Engine> engine;
};

nb::object to_python(const mm::tensor::MetadataValue& value) {
  using Type = mm::tensor::MetadataValue::Type;
  const auto list = [](const auto& items) {
    nb::list made;
    for (const auto& item : items) {
      if constexpr (std::is_same_v<std::decay_t<decltype(item)>, std::string_view>)
        made.append(nb::str(item.data(), item.size()));
      else
        made.append(item);
    }
    return nb::object(made);
  };
  switch (value.type) {
    case Type::u64:
      return nb::cast(value.u64);
    case Type::i64:
      return nb::cast(value.i64);
    case Type::f64:
      return nb::cast(value.f64);
    case Type::boolean:
      return nb::cast(value.boolean);
    case Type::string:
      return nb::str(value.string.data(), value.string.size());
    case Type::array_u64:
      return list(value.array_u64);
    case Type::array_i64:
      return list(value.array_i64);
    case Type::array_f64:
      return list(value.array_f64);
    case Type::array_string:
      return list(value.array_string);
  }
  return nb::none();
}

nb::dict metadata_of(const PyEngine& self) {
  nb::dict made;
  const mm::tensor::ModelFile& file = self.engine->file();
  for (const std::string& key : file.metadata_keys()) made[key.c_str()] = to_python(*file.find(key));
  return made;
}

nb::list tensors_of(const PyEngine& self) {
  nb::list made;
  const mm::tensor::ModelFile& file = self.engine->file();
  for (const std::string& name : file.tensor_names()) {
    const TensorView& view = *file.find_tensor(name);
    nb::list dims;
    for (int i = 0; i < view.shape.rank; ++i) dims.append(view.shape[i]);
    made.append(nb::make_tuple(name, mm::tensor::dtype_name(view.dtype), nb::tuple(dims), view.bytes()));
  }
  return made;
}

struct PySession {
  PySession(const PyEngine& engine, int threads) : session(take(mm::tasks::Session::create(engine.engine, threads))) {}
  std::unique_ptr<mm::tasks::Session> session;
};

nb::dict run(PySession& self, const std::string& program, const nb::dict& inputs) {
  std::vector<std::string> names;
  std::vector<AnyArray> arrays;
  for (auto [key, value] : inputs) {
    names.push_back(nb::cast<std::string>(key));
    arrays.push_back(nb::cast<AnyArray>(value));
  }
  std::vector<mm::program::NamedTensor> bound;
  for (size_t i = 0; i < names.size(); ++i) bound.push_back({names[i], view_from(arrays[i], names[i])});
  Result<std::vector<mm::program::NamedTensor>> outputs = [&] {
    nb::gil_scoped_release release;
    return self.session->interpreter().run(program, bound);
  }();
  nb::dict made;
  for (const mm::program::NamedTensor& output : take(std::move(outputs)))
    made[nb::str(output.name.data(), output.name.size())] = to_numpy(output.view);
  return made;
}

nb::dict caption(PySession& self, const PixelArray& pixels, nb::object num_beams, nb::object max_new_tokens,
                 nb::object length_penalty, float temperature, float top_p, uint64_t seed,
                 const std::vector<std::string>& stop, double deadline_seconds, nb::object on_token) {
  mm::tasks::CaptionSettings settings;
  settings.generation = self.session->engine().caption_defaults();
  if (!num_beams.is_none()) settings.generation.num_beams = nb::cast<int>(num_beams);
  if (!max_new_tokens.is_none()) settings.generation.max_new_tokens = nb::cast<int>(max_new_tokens);
  if (!length_penalty.is_none()) settings.generation.length_penalty = nb::cast<float>(length_penalty);
  settings.generation.temperature = temperature;
  settings.generation.top_p = top_p;
  settings.generation.seed = seed;
  settings.stop = stop;
  settings.deadline_seconds = deadline_seconds;
  const mm::vision::PictureView picture = picture_from(pixels);

  std::unique_ptr<nb::python_error>
      raised;  // an exception of the callback ends the work and is raised again afterwards
  mm::tasks::PieceCallback on_piece;
  if (!on_token.is_none())
    on_piece = [&](int32_t token, std::string_view piece, float probability) {
      nb::gil_scoped_acquire acquire;
      try {
        return nb::cast<bool>(on_token(token, nb::str(piece.data(), piece.size()), probability));
      } catch (nb::python_error& error) {
        raised = std::make_unique<nb::python_error>(std::move(error));
        return false;
      }
    };
  Result<mm::tasks::Caption> result = [&] {
    nb::gil_scoped_release release;
    return mm::tasks::caption(*self.session, picture, settings, on_piece);
  }();
  if (raised) throw nb::python_error(std::move(*raised));
  const mm::tasks::Caption made = take(std::move(result));
  nb::dict timings;
  timings["resize"] = made.timings.resize;
  timings["encode"] = made.timings.encode;
  timings["prefill"] = made.timings.prefill;
  timings["first_token"] = made.timings.first_token;
  timings["decode"] = made.timings.decode;
  timings["total"] = made.timings.total;
  nb::dict out;
  out["text"] = made.text;
  out["tokens"] = made.generated.tokens;
  out["token_probabilities"] = made.generated.probabilities;
  out["log_probability"] = made.generated.log_probability;
  out["finish_reason"] = mm::tasks::finish_reason_name(made.generated.finish_reason);
  out["timings"] = timings;
  return out;
}

nb::dict read_text(PySession& self, const PixelArray& pixels, int max_side, float threshold, float box_threshold,
                   float unclip_ratio, int max_boxes, float min_confidence, int batch_lines, double deadline_seconds,
                   nb::object on_progress) {
  mm::tasks::TextSettings settings;
  settings.max_side = max_side;
  settings.boxes = {threshold, box_threshold, unclip_ratio, max_boxes};
  settings.min_confidence = min_confidence;
  settings.batch_lines = batch_lines;
  settings.deadline_seconds = deadline_seconds;
  const mm::vision::PictureView picture = picture_from(pixels);

  std::unique_ptr<nb::python_error> raised;
  mm::tasks::ProgressCallback callback;
  if (!on_progress.is_none())
    callback = [&](size_t done, size_t total) {
      nb::gil_scoped_acquire acquire;
      try {
        return nb::cast<bool>(on_progress(done, total));
      } catch (nb::python_error& error) {
        raised = std::make_unique<nb::python_error>(std::move(error));
        return false;
      }
    };
  Result<mm::tasks::ReadText> result = [&] {
    nb::gil_scoped_release release;
    return mm::tasks::read_text(*self.session, picture, settings, callback);
  }();
  if (raised) throw nb::python_error(std::move(*raised));
  const mm::tasks::ReadText made = take(std::move(result));
  nb::list lines;
  for (const mm::tasks::TextLine& line : made.lines) {
    nb::dict entry;
    nb::list box;
    for (const mm::vision::Point& corner : line.box) box.append(nb::make_tuple(corner.x, corner.y));
    entry["text"] = line.text;
    entry["box"] = nb::tuple(box);
    entry["confidence"] = line.confidence;
    entry["character_confidences"] = line.probabilities;
    lines.append(entry);
  }
  nb::dict timings;
  timings["detect"] = made.timings.detect;
  timings["recognize"] = made.timings.recognize;
  timings["total"] = made.timings.total;
  nb::dict out;
  out["lines"] = lines;
  out["dropped_boxes"] = made.dropped_boxes;
  out["timings"] = timings;
  return out;
}

nb::object crop_line(const PixelArray& pixels, const std::vector<double>& corners, int height, int width) {
  const mm::vision::PictureView picture = picture_from(pixels);
  check(mm::vision::check_picture(picture));
  if (corners.size() != 8 || height < 1 || height > 4096 || width < 1 || width > 65536)
    raise(mm::base::invalid_input("a crop of " + std::to_string(corners.size()) + " numbers to " +
                                  std::to_string(height) + "x" + std::to_string(width) +
                                  ", expected 8 numbers (x and y of four corners) and sides of 1 to 4096 and 65536"));
  mm::vision::Quad quad;
  for (size_t i = 0; i < 4; ++i) quad[i] = {corners[2 * i], corners[2 * i + 1]};
  std::vector<uint8_t> out(static_cast<size_t>(height) * static_cast<size_t>(width) * 3);
  {
    nb::gil_scoped_release release;
    mm::vision::crop_line(picture, quad, {height, width, 0, width}, out.data(), static_cast<size_t>(width) * 3);
  }
  return to_numpy({out.data(), DType::u8, Shape::of(height, width, 3)});
}

nb::list find_text_boxes(const nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>& map,
                         float threshold, float box_threshold, float unclip_ratio, int max_boxes) {
  if (map.shape(0) > 65536 || map.shape(1) > 65536)
    raise(mm::base::invalid_input("a map with a side above 65536, expected 1 to 65536"));
  Result<mm::vision::TextBoxes> found = [&] {
    nb::gil_scoped_release release;
    return mm::vision::find_text_boxes({map.data(), static_cast<int>(map.shape(0)), static_cast<int>(map.shape(1))},
                                       {threshold, box_threshold, unclip_ratio, max_boxes});
  }();
  nb::list boxes;
  for (const mm::vision::TextBox& box : take(std::move(found)).boxes) {
    nb::list corners;
    for (const mm::vision::Point& corner : box.quad) corners.append(nb::make_tuple(corner.x, corner.y));
    boxes.append(nb::make_tuple(nb::tuple(corners), box.score));
  }
  return boxes;
}

nb::object resize(const PixelArray& pixels, int out_height, int out_width) {
  const mm::vision::PictureView picture = picture_from(pixels);
  std::vector<uint8_t> out;
  Status status;
  {
    nb::gil_scoped_release release;
    status = mm::vision::resize(picture, nullptr, out_height, out_width, out);
  }
  check(status);
  return to_numpy({out.data(), DType::u8, Shape::of(out_height, out_width, 3)});
}

}  // namespace

NB_MODULE(native, module) {
  module.doc() = "The compiled core of mobile_multimodal.";
  nb::set_leak_warnings(false);  // objects that live until exit are not leaks

  module.def("isa", [] { return std::string(mm::kernels::best_table().name); }, "The instruction set in use.");
  module.def(
      "isa_error",
      [] {
        const char* error = mm::kernels::forced_isa_error();
        return error == nullptr ? nb::none() : nb::object(nb::str(error));
      },
      "Why MM_FORCE_ISA was not honoured, or None.");
  module.def(
      "instruction_sets",
      [] {
        nb::list made;
        const mm::kernels::TableList list = mm::kernels::all_tables();
        for (int i = 0; i < list.count; ++i)
          made.append(nb::make_tuple(list.tables[i]->name, list.tables[i]->is_supported()));
        return made;
      },
      "Every instruction set of this build, and whether this CPU has it.");
  module.def(
      "operations",
      [] {
        nb::list made;
        const mm::ops::OpList list = mm::ops::all_ops();
        for (int i = 0; i < list.count; ++i) made.append(list.ops[i]->name);
        return made;
      },
      "Names of the operations that programs may use.");
  module.def("resize", &resize, "pixels"_a, "out_height"_a, "out_width"_a,
             "Antialiased bilinear resize to RGB, as the model sees a picture.");
  const mm::tasks::TextSettings text_defaults;
  module.def("find_text_boxes", &find_text_boxes, "probabilities"_a, nb::kw_only(),
             "threshold"_a = text_defaults.boxes.threshold, "box_threshold"_a = text_defaults.boxes.box_threshold,
             "unclip_ratio"_a = text_defaults.boxes.unclip_ratio, "max_boxes"_a = text_defaults.boxes.max_boxes,
             "Corners and score of each box in a map of probabilities.");
  module.def("crop_line", &crop_line, "pixels"_a, "corners"_a, "height"_a, "width"_a,
             "A quadrilateral straightened to RGB, as the recognizer sees a line.");

  nb::class_<PyEngine>(module, "Engine")
      .def(nb::init<const std::string&>(), "path"_a)
      .def_ro("path", &PyEngine::path)
      .def_prop_ro("file_bytes", [](const PyEngine& self) { return self.engine->file().bytes(); })
      .def_prop_ro("image_size", [](const PyEngine& self) { return self.engine->image_size(); })
      .def_prop_ro("can_caption", [](const PyEngine& self) { return self.engine->can_caption(); })
      .def("programs",
           [](const PyEngine& self) {
             std::vector<std::string> names;
             for (const auto& program : self.engine->programs()) names.push_back(program->name());
             return names;
           })
      .def("metadata", &metadata_of)
      .def("tensors", &tensors_of)
      .def("verify",
           [](const PyEngine& self) {
             Status status;
             {
               nb::gil_scoped_release release;
               status = self.engine->file().verify();
             }
             check(status);
           })
      .def(
          "encode",
          [](const PyEngine& self, const std::string& text) {
            if (self.engine->tokenizer() == nullptr) raise(mm::base::not_found("the model file has no tokenizer"));
            return take(self.engine->tokenizer()->encode(text));
          },
          "text"_a)
      .def(
          "decode",
          [](const PyEngine& self, const std::vector<int32_t>& tokens) {
            if (self.engine->tokenizer() == nullptr) raise(mm::base::not_found("the model file has no tokenizer"));
            const std::string text = self.engine->tokenizer()->decode(tokens.data(), tokens.size(), true);
            PyObject* made = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
            if (made == nullptr) throw nb::python_error();
            return nb::steal<nb::object>(made);
          },
          "tokens"_a);

  nb::class_<PySession>(module, "Session")
      .def(nb::init<const PyEngine&, int>(), "engine"_a, "threads"_a = 0)
      .def_prop_ro("threads", [](const PySession& self) { return self.session->threads(); })
      .def("run", &run, "program"_a, "inputs"_a)
      .def("reset", [](PySession& self) { self.session->interpreter().states().reset(); })
      .def(
          "reorder",
          [](PySession& self, const std::vector<int32_t>& parents) {
            check(self.session->interpreter().states().reorder(parents.data(), static_cast<int>(parents.size())));
          },
          "parents"_a)
      .def("caption", &caption, "pixels"_a, nb::kw_only(), "num_beams"_a = nb::none(), "max_new_tokens"_a = nb::none(),
           "length_penalty"_a = nb::none(), "temperature"_a = 0.0f, "top_p"_a = 1.0f, "seed"_a = 0,
           "stop"_a = std::vector<std::string>(), "deadline_seconds"_a = 0.0, "on_token"_a = nb::none())
      .def("read_text", &read_text, "pixels"_a, nb::kw_only(), "max_side"_a = text_defaults.max_side,
           "threshold"_a = text_defaults.boxes.threshold, "box_threshold"_a = text_defaults.boxes.box_threshold,
           "unclip_ratio"_a = text_defaults.boxes.unclip_ratio, "max_boxes"_a = text_defaults.boxes.max_boxes,
           "min_confidence"_a = text_defaults.min_confidence, "batch_lines"_a = text_defaults.batch_lines,
           "deadline_seconds"_a = 0.0, "on_progress"_a = nb::none());

  add_vector_table(module);
}
