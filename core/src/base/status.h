// Carries success or a named failure through the core: no exceptions, no aborts.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace mm::base {

// The numbers are part of the C ABI (mm_status in mobile_multimodal.h): append, never renumber.
enum class StatusCode : int {
  ok = 0,
  invalid_input = 1,      // the caller's value is wrong
  model_format = 2,       // the model file is damaged, hostile or of another version
  not_found = 3,          // a file, program or tensor does not exist
  out_of_memory = 4,      // an allocation failed or would pass a bound
  cancelled = 5,          // the caller's callback asked to stop
  deadline_exceeded = 6,  // the deadline passed before the work was done
  unsupported = 7,        // valid, but not available in this build or on this CPU
  internal = 8,           // a broken promise of the core itself
};

// A failure names the thing, the value and the expectation in `message`, the next step in `hint`.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message, std::string hint = {})
      : code_(code), message_(std::move(message)), hint_(std::move(hint)) {}

  bool is_ok() const { return code_ == StatusCode::ok; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  const std::string& hint() const { return hint_; }

 private:
  StatusCode code_ = StatusCode::ok;
  std::string message_;
  std::string hint_;
};

inline Status invalid_input(std::string message, std::string hint = {}) {
  return {StatusCode::invalid_input, std::move(message), std::move(hint)};
}
inline Status model_format(std::string message, std::string hint = "build the file again with `mobile-mm build`") {
  return {StatusCode::model_format, std::move(message), std::move(hint)};
}
inline Status not_found(std::string message, std::string hint = {}) {
  return {StatusCode::not_found, std::move(message), std::move(hint)};
}

// A value or the Status that says why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}         // NOLINT: implicit
  Result(Status status) : state_(std::in_place_index<1>, std::move(status)) {}  // NOLINT: implicit

  bool is_ok() const { return state_.index() == 0; }
  const Status& status() const {
    static const Status success;
    return is_ok() ? success : std::get<1>(state_);
  }
  T& value() { return std::get<0>(state_); }
  const T& value() const { return std::get<0>(state_); }

 private:
  std::variant<T, Status> state_;
};

}  // namespace mm::base

#define MM_CONCAT_INNER(a, b) a##b
#define MM_CONCAT(a, b) MM_CONCAT_INNER(a, b)
// Leaves the function with the failure, if there is one.
#define MM_RETURN_IF_ERROR(expression)            \
  do {                                            \
    ::mm::base::Status mm_status_ = (expression); \
    if (!mm_status_.is_ok()) return mm_status_;   \
  } while (false)
// Declares `target` from a Result, or leaves the function with its failure.
#define MM_ASSIGN_OR_RETURN(target, expression)                                                  \
  auto MM_CONCAT(mm_result_, __LINE__) = (expression);                                           \
  if (!MM_CONCAT(mm_result_, __LINE__).is_ok()) return MM_CONCAT(mm_result_, __LINE__).status(); \
  target = std::move(MM_CONCAT(mm_result_, __LINE__).value())
