// Runs `embed_image` and `embed_text` and scales what they give to length 1.
#include "tasks/embedding.h"

#include <cmath>
#include <new>

#include "tasks/deadline.h"
#include "tasks/text_input.h"

namespace mm::tasks {

namespace {

base::Status out_of_memory() {
  return {base::StatusCode::out_of_memory, "no memory left for an embedding", "load the model in fewer sessions"};
}

base::Result<std::vector<float>> unit_vector(const std::vector<program::NamedTensor>& outputs, const char* program) {
  const tensor::TensorView* output = program::find_output(outputs, "embedding");
  if (output == nullptr || output->dtype != tensor::DType::f32)
    return base::model_format(std::string("program `") + program + "` gives no float output `embedding`");
  const float* values = output->as<const float>();
  std::vector<float> vector(values, values + output->shape.elements());
  double squares = 0;
  for (const float value : vector) squares += static_cast<double>(value) * static_cast<double>(value);
  const double length = std::sqrt(squares);
  if (!(std::isfinite(length) && length > 0))
    return base::model_format(std::string("program `") + program + "` gives a vector without a direction");
  for (float& value : vector) value = static_cast<float>(static_cast<double>(value) / length);
  return vector;
}

}  // namespace

base::Result<std::vector<float>> embed_image(Session& session, const vision::PictureView& picture,
                                             double deadline_seconds) try {
  if (!session.engine().can_embed_image())
    return base::not_found(
        "the model file cannot embed pictures: it lacks one of the programs encode_image and embed_image",
        "load a model file with a language tower");
  MM_RETURN_IF_ERROR(check_deadline_seconds(deadline_seconds));
  const Deadline deadline(session.interpreter(), Clock::now(), deadline_seconds);
  MM_ASSIGN_OR_RETURN(const PictureFeatures* features, session.encode_image(picture, nullptr));
  MM_ASSIGN_OR_RETURN(const std::vector<program::NamedTensor> outputs,
                      session.interpreter().run("embed_image", {{"features", view_of(features->features)}}));
  return unit_vector(outputs, "embed_image");
} catch (const std::bad_alloc&) {
  return out_of_memory();
}

base::Result<std::vector<float>> embed_text(Session& session, std::string_view text, double deadline_seconds) try {
  if (!session.engine().can_embed_text())
    return base::not_found("the model file cannot embed texts: it lacks word pieces or the program embed_text",
                           "load a model file with a language tower");
  MM_RETURN_IF_ERROR(check_deadline_seconds(deadline_seconds));
  const Deadline deadline(session.interpreter(), Clock::now(), deadline_seconds);
  MM_ASSIGN_OR_RETURN(TextInput input, make_text_input(session.engine(), text, "the text"));
  MM_ASSIGN_OR_RETURN(const std::vector<program::NamedTensor> outputs,
                      session.interpreter().run("embed_text", {input.named_tokens(), input.named_positions()}));
  return unit_vector(outputs, "embed_text");
} catch (const std::bad_alloc&) {
  return out_of_memory();
}

}  // namespace mm::tasks
