// Shows text generation to Python as Session.generate_text and Engine.encode_prompt.
#include "tasks/text_generation.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "written_pieces.h"

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
  nb::dict out = written_record(made);
  out["prompt_tokens"] = made.prompt_tokens;
  out["cached_tokens"] = made.cached_tokens;
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
  PieceCall pieces(std::move(on_token));
  const mm::tasks::PieceCallback on_piece = pieces.callback();
  mm::base::Result<mm::tasks::GeneratedText> result = [&] {
    nb::gil_scoped_release release;
    return mm::tasks::generate_text(*self.session, prompt, settings, on_piece);
  }();
  pieces.rethrow();
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
