// The Python door: the module with its functions and sessions; the GIL is released while the core works.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "crossing.h"
#include "tasks/call.h"

namespace {

using mm::base::Result;
using mm::base::Status;
using mm::tensor::DType;
using mm::tensor::Shape;

nb::dict run(PySession& self, const std::string& program, const nb::dict& inputs, const PyCancellation* cancellation) {
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
    self.session->forget_preparations();
    const mm::tasks::Call call(*self.session, mm::tasks::Clock::now(), 0, flag_of(cancellation));
    return self.session->interpreter().run(program, bound);
  }();
  nb::dict made;
  for (const mm::program::NamedTensor& output : take(std::move(outputs)))
    made[nb::str(output.name.data(), output.name.size())] = to_numpy(output.view);
  return made;
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

  nb::class_<PyCancellation>(module, "Cancellation")
      .def(nb::init<>())
      .def("cancel", [](const PyCancellation& self) { self.flag->cancel(); })
      .def_prop_ro("is_cancelled", [](const PyCancellation& self) { return self.flag->is_cancelled(); });

  EngineClass engine = add_engine(module);
  auto session =
      SessionClass(module, "Session")
          .def(nb::init<const PyEngine&, int, size_t>(), "engine"_a, "threads"_a = 0,
               "feature_cache_bytes"_a = mm::tasks::FeatureCache::bytes_default)
          .def_prop_ro("threads", [](const PySession& self) { return self.session->threads(); })
          .def("run", &run, "program"_a, "inputs"_a, nb::kw_only(), "cancellation"_a.none() = nb::none())
          .def("reset",
               [](PySession& self) {
                 self.session->interpreter().states().reset();
                 self.session->forget_preparations();
               })
          .def(
              "reorder",
              [](PySession& self, const std::vector<int32_t>& parents) {
                check(self.session->interpreter().states().reorder(parents.data(), static_cast<int>(parents.size())));
              },
              "parents"_a)
          .def(
              "cache_statistics",
              [](const PySession& self) {
                const mm::tasks::FeatureCache::Statistics& statistics = self.session->cache_statistics();
                nb::dict made;
                made["hits"] = statistics.hits.load();
                made["misses"] = statistics.misses.load();
                made["bytes"] = statistics.bytes.load();
                return made;
              },
              "How often a picture's features were at hand, and what the kept ones take. From any thread.")
          .def(
              "cancel", [](PySession& self) { return self.session->cancel(); },
              "Stops the call under way at its next instruction; False when there is none. From any thread.");
  add_captioning(session);
  add_text_reading(module, session);
  add_language(session);
  add_text_generation(engine, session);
  add_vector_table(module);
}
