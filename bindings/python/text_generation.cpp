// Shows text generation to Python as Session.generate_text and Engine.encode_prompt.
#include "tasks/text_generation.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "crossing.h"

namespace {

using Messages = std::vector<std::pair<std::string, std::string>>;  // role, content

mm::tasks::TextPrompt prompt_from(const std::string& text, const Messages& messages) {
  mm::tasks::TextPrompt prompt;
  prompt.text = text;
  for (const auto& [role, content] : messages)
    prompt.messages.push_back({take(mm::tasks::chat_role_named(role)), content});
  return prompt;
}

nb::dict record_of(const mm::tasks::GeneratedText& made) {
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
  out["prompt_tokens"] = made.prompt_tokens;
  out["cached_tokens"] = made.cached_tokens;
  out["timings"] = timings;
  return out;
}

nb::dict generate_text(PySession& self, const std::string& text, const Messages& messages, int max_new_tokens,
                       float temperature, int top_k, float top_p, float min_p, float repetition_penalty, uint64_t seed,
                       const std::vector<std::string>& stop, double deadline_seconds, nb::object on_token,
                       const PyCancellation* cancellation) {
  mm::tasks::TextGenerationSettings settings;
  settings.generation.max_new_tokens = max_new_tokens;
  settings.generation.temperature = temperature;
  settings.generation.top_k = top_k;
  settings.generation.top_p = top_p;
  settings.generation.min_p = min_p;
  settings.generation.seed = seed;
  settings.repetition_penalty = repetition_penalty;
  settings.stop = stop;
  settings.deadline_seconds = deadline_seconds;
  settings.cancellation = flag_of(cancellation);
  const mm::tasks::TextPrompt prompt = prompt_from(text, messages);
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
  mm::base::Result<mm::tasks::GeneratedText> result = [&] {
    nb::gil_scoped_release release;
    return mm::tasks::generate_text(*self.session, prompt, settings, on_piece);
  }();
  if (raised) throw nb::python_error(std::move(*raised));
  return record_of(take(std::move(result)));
}

std::vector<int32_t> encode_prompt(const PyEngine& self, const std::string& text, const Messages& messages) {
  return take(mm::tasks::encode_prompt(*self.engine, prompt_from(text, messages)));
}

}  // namespace

void add_text_generation(EngineClass& engine, SessionClass& session) {
  engine
      .def_prop_ro("text_context",
                   [](const PyEngine& self) {
                     const mm::tasks::TextModel* model = self.engine->text_model();
                     return model == nullptr ? 0 : model->context();
                   })
      .def_prop_ro("has_chat",
                   [](const PyEngine& self) {
                     const mm::tasks::TextModel* model = self.engine->text_model();
                     return model != nullptr && model->chat() != nullptr;
                   })
      .def("encode_prompt", &encode_prompt, "text"_a = "", nb::kw_only(), "messages"_a = Messages());
  session.def("generate_text", &generate_text, "text"_a = "", nb::kw_only(), "messages"_a = Messages(),
              "max_new_tokens"_a = 256, "temperature"_a = 0.0f, "top_k"_a = 0, "top_p"_a = 1.0f, "min_p"_a = 0.0f,
              "repetition_penalty"_a = 1.0f, "seed"_a = 0, "stop"_a = std::vector<std::string>(),
              "deadline_seconds"_a = 0.0, "on_token"_a = nb::none(), "cancellation"_a.none() = nb::none());
}
