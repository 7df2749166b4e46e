// How values cross between Python and the core: statuses, pictures, tensors, and the classes behind both handles.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <memory>
#include <string>

#include "tasks/session.h"

namespace nb = nanobind;
using namespace nb::literals;

// The exception that mobile_multimodal.errors assigns to the status.
nb::object exception_of(const mm::base::Status& status);
[[noreturn]] void raise(const mm::base::Status& status);

inline void check(const mm::base::Status& status) {
  if (!status.is_ok()) raise(status);
}

template <class T>
T take(mm::base::Result<T> result) {
  if (!result.is_ok()) raise(result.status());
  return std::move(result.value());
}

using AnyArray = nb::ndarray<nb::c_contig, nb::device::cpu, nb::ro>;
using PixelArray = nb::ndarray<const uint8_t, nb::c_contig, nb::device::cpu>;

mm::vision::PictureView picture_from(const PixelArray& pixels);
mm::tensor::TensorView view_from(const AnyArray& array, const std::string& name);
// A numpy array of its own: the next run overwrites what the view shows.
nb::object to_numpy(const mm::tensor::TensorView& view);

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

struct PySession {
  PySession(const PyEngine& engine, int threads, size_t feature_cache_bytes)
      : session(take(mm::tasks::Session::create(engine.engine, threads, feature_cache_bytes))) {}
  std::unique_ptr<mm::tasks::Session> session;
};

// Shared with the calls that it was given to, which may outlive the Python object.
struct PyCancellation {
  std::shared_ptr<mm::tasks::Cancellation> flag = std::make_shared<mm::tasks::Cancellation>();
};
// nullptr is None.
inline std::shared_ptr<mm::tasks::Cancellation> flag_of(const PyCancellation* cancellation) {
  return cancellation == nullptr ? nullptr : cancellation->flag;
}

using EngineClass = nb::class_<PyEngine>;
using SessionClass = nb::class_<PySession>;

// Each adds its classes, functions or methods.
EngineClass add_engine(nb::module_& module);
void add_captioning(SessionClass& session);
void add_text_reading(nb::module_& module, SessionClass& session);
void add_language(SessionClass& session);
void add_text_generation(EngineClass& engine, SessionClass& session);
void add_vector_table(nb::module_& module);
