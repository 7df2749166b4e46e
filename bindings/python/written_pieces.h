// What captions and texts share on their way to Python: a callback for each piece, and the record of the whole.
#pragma once

#include "crossing.h"
#include "tasks/captioning.h"

// Calls a Python function from inside the core, which runs without the GIL. An exception of the function ends the work
// and is raised again by rethrow().
class PieceCall {
 public:
  explicit PieceCall(nb::object function) : function_(std::move(function)) {}

  // Empty for None. The object outlives what it returns.
  mm::tasks::PieceCallback callback() {
    if (function_.is_none()) return {};
    return [this](int32_t token, std::string_view piece, float probability) {
      nb::gil_scoped_acquire acquire;
      try {
        return nb::cast<bool>(function_(token, nb::str(piece.data(), piece.size()), probability));
      } catch (nb::python_error& error) {
        raised_ = std::make_unique<nb::python_error>(std::move(error));
        return false;
      }
    };
  }

  void rethrow() {
    if (raised_) throw nb::python_error(std::move(*raised_));
  }

 private:
  nb::object function_;
  std::unique_ptr<nb::python_error> raised_;
};

// The fields that a Caption and a GeneratedText have in common.
template <class Written>
nb::dict written_record(const Written& made) {
  nb::dict timings;
  timings["encode"] = made.timings.encode;
  timings["prefill"] = made.timings.prefill;
  timings["first_token"] = made.timings.first_token;
  timings["decode"] = made.timings.decode;
  timings["total"] = made.timings.total;
  nb::dict out;
  out["text"] = made.text;
  out["tokens"] = made.generated.tokens;
  out["token_probabilities"] = made.generated.probabilities;
  out["finish_reason"] = mm::tasks::finish_reason_name(made.generated.finish_reason);
  out["timings"] = timings;
  return out;
}
