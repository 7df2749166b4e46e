// Shows the exact search over int8 vectors to Python as VectorTable.
#include <nanobind/stl/optional.h>

#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "crossing.h"
#include "ops/vector_table.h"

namespace {

using mm::base::Result;
using mm::base::Status;
using mm::ops::ScoredRow;
using mm::ops::VectorTable;

using Codes = nb::ndarray<const int8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Mask = nb::ndarray<const bool, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void expect_length(const char* name, size_t found, size_t expected) {
  if (found != expected)
    raise(mm::base::invalid_input(std::string(name) + " has length " + std::to_string(found) + ", expected " +
                                  std::to_string(expected)));
}

template <class T>
nb::object vector_to_numpy(const std::vector<T>& values) {
  T* copy = new T[values.size()];
  std::copy(values.begin(), values.end(), copy);
  nb::capsule owner(copy, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T, nb::ndim<1>>(copy, {values.size()}, owner));
}

// Any number of threads may search while none appends.
class PyVectorTable {
 public:
  explicit PyVectorTable(int width) : table_(take(VectorTable::create(width))) {}

  int width() const { return table_.width(); }

  int64_t rows() {
    std::shared_lock lock(mutex_);
    return table_.rows();
  }

  size_t bytes() {
    std::shared_lock lock(mutex_);
    return table_.bytes();
  }

  void append(const Codes& codes, const Floats& scales) {
    expect_length("a vector", codes.shape(1), static_cast<size_t>(table_.width()));
    expect_length("scales", scales.shape(0), codes.shape(0));
    const Status status = [&] {
      nb::gil_scoped_release release;
      std::unique_lock lock(mutex_);
      return table_.append(codes.data(), scales.data(), static_cast<int64_t>(codes.shape(0)));
    }();
    check(status);
  }

  nb::tuple search(const Floats& query, int64_t k, const std::optional<Mask>& allowed, int64_t row_begin) {
    expect_length("the query", query.shape(0), static_cast<size_t>(table_.width()));
    Result<std::vector<ScoredRow>> found = [&]() -> Result<std::vector<ScoredRow>> {
      nb::gil_scoped_release release;
      std::shared_lock lock(mutex_);
      const uint8_t* mask = nullptr;
      if (allowed.has_value()) {
        if (allowed->shape(0) != static_cast<size_t>(table_.rows()))
          return mm::base::invalid_input("allowed has length " + std::to_string(allowed->shape(0)) + ", expected " +
                                         std::to_string(table_.rows()));
        mask = reinterpret_cast<const uint8_t*>(allowed->data());
      }
      return table_.search(mm::kernels::best_table(), query.data(), k, mask, row_begin);
    }();
    std::vector<int64_t> rows;
    std::vector<float> scores;
    for (const ScoredRow& hit : take(std::move(found))) {
      rows.push_back(hit.row);
      scores.push_back(hit.score);
    }
    return nb::make_tuple(vector_to_numpy(rows), vector_to_numpy(scores));
  }

  nb::object score(const Floats& query, const Rows& rows) {
    expect_length("the query", query.shape(0), static_cast<size_t>(table_.width()));
    std::vector<float> scores(rows.shape(0));
    const Status status = [&] {
      nb::gil_scoped_release release;
      std::shared_lock lock(mutex_);
      return table_.score(query.data(), rows.data(), static_cast<int64_t>(rows.shape(0)), scores.data());
    }();
    check(status);
    return vector_to_numpy(scores);
  }

 private:
  std::shared_mutex mutex_;
  VectorTable table_;
};

}  // namespace

void add_vector_table(nb::module_& module) {
  nb::class_<PyVectorTable>(module, "VectorTable", "int8 vectors, and those nearest to a query.")
      .def(nb::init<int>(), "width"_a)
      .def("__len__", &PyVectorTable::rows)
      .def_prop_ro("width", &PyVectorTable::width)
      .def_prop_ro("bytes", &PyVectorTable::bytes)
      .def("append", &PyVectorTable::append, "codes"_a, "scales"_a)
      .def("search", &PyVectorTable::search, "query"_a, "k"_a, nb::kw_only(), "allowed"_a = nb::none(),
           "row_begin"_a = 0, "The rows and scores of the k nearest, best first.")
      .def("score", &PyVectorTable::score, "query"_a, "rows"_a, "Float inner products with the named rows.");
}
