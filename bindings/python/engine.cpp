// Shows an opened model file to Python as Engine.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "crossing.h"

namespace {

using mm::base::Status;
using mm::tensor::TensorView;

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

}  // namespace

EngineClass add_engine(nb::module_& module) {
  return EngineClass(module, "Engine")
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
          "encode_word_pieces",
          [](const PyEngine& self, const std::string& text) {
            if (self.engine->word_pieces() == nullptr) raise(mm::base::not_found("the model file has no word pieces"));
            return take(self.engine->word_pieces()->encode(text));
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
}
