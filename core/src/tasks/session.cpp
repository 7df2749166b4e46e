// Makes sessions and encodes pictures in them.
#include "tasks/session.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace mm::tasks {

namespace {
constexpr int sequences_most = 256;                   // 16 pictures of 16 beams
constexpr size_t state_bytes_most = size_t{1} << 30;  // as the arena: 32 times what 16 pictures of 3 beams take
constexpr int threads_most = 64;

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}
}  // namespace

Session::Session(std::shared_ptr<const Engine> engine, std::unique_ptr<base::ThreadPool> pool,
                 size_t feature_cache_bytes)
    : engine_(std::move(engine)),
      pool_(std::move(pool)),
      interpreter_(engine_->programs(),
                   ops::StateStore(engine_->states(), sequences_most, places_most, state_bytes_most), *pool_,
                   kernels::best_table()),
      features_(feature_cache_bytes) {}

base::Result<std::unique_ptr<Session>> Session::create(std::shared_ptr<const Engine> engine, int threads,
                                                       size_t feature_cache_bytes) {
  if (threads < 0 || threads > threads_most)
    return base::invalid_input("`threads` is " + std::to_string(threads) + ", expected 0 (all) to " +
                               std::to_string(threads_most));
  if (threads == 0) threads = static_cast<int>(std::thread::hardware_concurrency());
  std::unique_ptr<base::ThreadPool> pool = base::ThreadPool::create(threads);
  if (pool == nullptr)
    return base::Status(base::StatusCode::out_of_memory, "no thread could be started", "ask for fewer threads");
  return std::unique_ptr<Session>(new Session(std::move(engine), std::move(pool), feature_cache_bytes));
}

base::Result<const PictureFeatures*> Session::encode_image(const vision::PictureView& picture, EncodeTimes* times) {
  const int side = engine_->image_size();
  if (side == 0) return base::not_found("program `encode_image` is not in the model file");
  MM_RETURN_IF_ERROR(interpreter_.check_limits());
  auto start = std::chrono::steady_clock::now();
  MM_RETURN_IF_ERROR(vision::resize(picture, nullptr, side, side, resized_));
  if (times != nullptr) times->resize_ms = milliseconds_since(start);
  start = std::chrono::steady_clock::now();
  MM_RETURN_IF_ERROR(interpreter_.check_limits());
  PictureFeatures made;
  if (features_.is_enabled()) made.key = picture_key(resized_);
  const PictureFeatures* features = features_.find(made.key);
  if (features == nullptr) {
    MM_ASSIGN_OR_RETURN(
        const std::vector<program::NamedTensor> outputs,
        interpreter_.run("encode_image",
                         {{"pixels", {resized_.data(), tensor::DType::u8, tensor::Shape::of(side, side, 3)}}}));
    const tensor::TensorView* output = program::find_output(outputs, "features");
    if (output == nullptr || output->dtype != tensor::DType::f32)
      return base::model_format("program `encode_image` gives no float output `features`");
    // The arena is reused by the next program, so the features move out of it.
    const float* first = output->as<const float>();
    made.shape = output->shape;
    made.values.assign(first, first + output->shape.elements());
    features = &features_.add(std::move(made));
  }
  if (times != nullptr) times->encode_ms = milliseconds_since(start);
  return features;
}

base::Status Session::prepare(std::string_view name, const PictureFeatures& features, int place) {
  const program::Program* program = engine_->find_program(name);
  const auto is_there = [&](const Prepared& entry) { return entry.program == program && entry.place == place; };
  const auto known = std::find_if(prepared_.begin(), prepared_.end(), is_there);
  if (known != prepared_.end()) {
    if (features_.is_enabled() && known->key == features.key) return {};
    prepared_.erase(known);  // a run that fails half-way leaves memories of neither picture
  }
  MM_RETURN_IF_ERROR(interpreter_.run(name, {{"features", view_of(features)}}, {place, {}}).status());
  prepared_.push_back({program, place, features.key});
  return {};
}

bool Session::cancel() {
  const std::lock_guard<std::mutex> lock(call_mutex_);
  if (call_ == nullptr) return false;
  call_->cancel();
  return true;
}

void Session::begin_call(std::chrono::steady_clock::time_point deadline, std::shared_ptr<Cancellation> cancellation) {
  if (cancellation == nullptr) cancellation = std::make_shared<Cancellation>();
  interpreter_.set_limits(deadline, cancellation->flag());
  const std::lock_guard<std::mutex> lock(call_mutex_);
  call_ = std::move(cancellation);
}

void Session::end_call() {
  interpreter_.set_limits(std::chrono::steady_clock::time_point::max(), nullptr);
  const std::lock_guard<std::mutex> lock(call_mutex_);
  call_.reset();
}

tensor::TensorView view_of(const PictureFeatures& features) {
  return {const_cast<float*>(features.values.data()), tensor::DType::f32, features.shape};
}

}  // namespace mm::tasks
