// Makes sessions and encodes pictures in them.
#include "tasks/session.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace mm::tasks {

namespace {
constexpr int sequences_most = 16;  // as many as beams
constexpr int threads_most = 64;

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

// A named float output of a program, moved out of the arena, which the next program reuses.
base::Result<FeatureMap> take_output(const std::vector<program::NamedTensor>& outputs, const char* program,
                                     const char* name) {
  const tensor::TensorView* output = program::find_output(outputs, name);
  if (output == nullptr || output->dtype != tensor::DType::f32)
    return base::model_format(std::string("program `") + program + "` gives no float output `" + name + "`");
  const float* first = output->as<const float>();
  return FeatureMap{output->shape, {first, first + output->shape.elements()}};
}
}  // namespace

Session::Session(std::shared_ptr<const Engine> engine, std::unique_ptr<base::ThreadPool> pool, bool is_caching)
    : engine_(std::move(engine)),
      pool_(std::move(pool)),
      interpreter_(engine_->programs(), engine_->states(), sequences_most, *pool_, kernels::best_table()),
      features_(is_caching) {}

base::Result<std::unique_ptr<Session>> Session::create(std::shared_ptr<const Engine> engine, int threads,
                                                       bool is_caching) {
  if (threads < 0 || threads > threads_most)
    return base::invalid_input("`threads` is " + std::to_string(threads) + ", expected 0 (all) to " +
                               std::to_string(threads_most));
  if (threads == 0) threads = static_cast<int>(std::thread::hardware_concurrency());
  std::unique_ptr<base::ThreadPool> pool = base::ThreadPool::create(threads);
  if (pool == nullptr)
    return base::Status(base::StatusCode::out_of_memory, "no thread could be started", "ask for fewer threads");
  return std::unique_ptr<Session>(new Session(std::move(engine), std::move(pool), is_caching));
}

base::Result<const PictureFeatures*> Session::encode_image(const vision::PictureView& picture, EncodeTimes* times) {
  const int side = engine_->image_size();
  if (side == 0) return base::not_found("program `encode_image` is not in the model file");
  auto start = std::chrono::steady_clock::now();
  MM_RETURN_IF_ERROR(vision::resize(picture, nullptr, side, side, resized_));
  if (times != nullptr) times->resize_ms = milliseconds_since(start);
  start = std::chrono::steady_clock::now();
  MM_RETURN_IF_ERROR(interpreter_.check_deadline());
  PictureFeatures made;
  if (features_.is_enabled()) made.key = picture_key(resized_);
  const PictureFeatures* features = features_.find(made.key);
  if (features == nullptr) {
    MM_ASSIGN_OR_RETURN(
        const std::vector<program::NamedTensor> outputs,
        interpreter_.run("encode_image",
                         {{"pixels", {resized_.data(), tensor::DType::u8, tensor::Shape::of(side, side, 3)}}}));
    MM_ASSIGN_OR_RETURN(made.features, take_output(outputs, "encode_image", "features"));
    if (engine_->has_details()) {
      MM_ASSIGN_OR_RETURN(made.trunk, take_output(outputs, "encode_image", "trunk"));
    }
    features = &features_.add(std::move(made));
  }
  if (times != nullptr) times->encode_ms = milliseconds_since(start);
  return features;
}

base::Result<const PictureFeatures*> Session::encode_details(const vision::PictureView& picture, EncodeTimes* times) {
  MM_ASSIGN_OR_RETURN(const PictureFeatures* known, encode_image(picture, times));
  if (!engine_->has_details() || !known->details.values.empty()) return known;
  const auto start = std::chrono::steady_clock::now();
  MM_ASSIGN_OR_RETURN(const std::vector<program::NamedTensor> outputs,
                      interpreter_.run("encode_details", {{"trunk", view_of(known->trunk)}}));
  MM_ASSIGN_OR_RETURN(FeatureMap details, take_output(outputs, "encode_details", "features"));
  known = &features_.add_details(std::move(details));
  if (times != nullptr) times->encode_ms += milliseconds_since(start);
  return known;
}

base::Status Session::prepare(std::string_view name, const PictureKey& key, const FeatureMap& features) {
  const program::Program* program = engine_->find_program(name);
  const auto is_of_program = [&](const auto& entry) { return entry.first == program; };
  const auto known = std::find_if(prepared_.begin(), prepared_.end(), is_of_program);
  if (known != prepared_.end()) {
    if (features_.is_enabled() && known->second == key) return {};
    prepared_.erase(known);  // a run that fails half-way leaves memories of neither picture
  }
  MM_RETURN_IF_ERROR(interpreter_.run(name, {{"features", view_of(features)}}).status());
  prepared_.emplace_back(program, key);
  return {};
}

tensor::TensorView view_of(const FeatureMap& features) {
  return {const_cast<float*>(features.values.data()), tensor::DType::f32, features.shape};
}

}  // namespace mm::tasks
