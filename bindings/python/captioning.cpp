// Shows captions to Python as Session.caption and Session.caption_batch.
#include "tasks/captioning.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "written_pieces.h"

namespace {

using mm::base::Result;

// What a caption and a batch of captions are told.
mm::tasks::CaptionSettings settings_from(const PySession& self, nb::object num_beams, nb::object max_new_tokens,
                                         nb::object length_penalty, float temperature, float top_p, uint64_t seed,
                                         const std::vector<std::string>& stop, double deadline_seconds,
                                         const PyCancellation* cancellation) {
  mm::tasks::CaptionSettings settings;
  settings.generation = self.session->engine().caption_defaults();
  if (!num_beams.is_none()) settings.generation.num_beams = nb::cast<int>(num_beams);
  if (!max_new_tokens.is_none()) settings.generation.max_new_tokens = nb::cast<int>(max_new_tokens);
  if (!length_penalty.is_none()) settings.generation.length_penalty = nb::cast<float>(length_penalty);
  settings.generation.temperature = temperature;
  settings.generation.top_p = top_p;
  settings.generation.seed = seed;
  settings.stop = stop;
  settings.deadline_seconds = deadline_seconds;
  settings.cancellation = flag_of(cancellation);
  return settings;
}

nb::dict record_of(const mm::tasks::Caption& made) {
  nb::dict out = written_record(made);
  out["timings"]["resize"] = made.timings.resize;
  out["log_probability"] = made.generated.log_probability;
  return out;
}

nb::dict caption(PySession& self, const PixelArray& pixels, nb::object num_beams, nb::object max_new_tokens,
                 nb::object length_penalty, float temperature, float top_p, uint64_t seed,
                 const std::vector<std::string>& stop, double deadline_seconds, nb::object on_token,
                 const PyCancellation* cancellation) {
  const mm::tasks::CaptionSettings settings = settings_from(
      self, num_beams, max_new_tokens, length_penalty, temperature, top_p, seed, stop, deadline_seconds, cancellation);
  const mm::vision::PictureView picture = picture_from(pixels);
  PieceCall pieces(std::move(on_token));
  const mm::tasks::PieceCallback on_piece = pieces.callback();
  Result<mm::tasks::Caption> result = [&] {
    nb::gil_scoped_release release;
    return mm::tasks::caption(*self.session, picture, settings, on_piece);
  }();
  pieces.rethrow();
  return record_of(take(std::move(result)));
}

nb::list caption_batch(PySession& self, const std::vector<PixelArray>& pixels, nb::object num_beams,
                       nb::object max_new_tokens, nb::object length_penalty, float temperature, float top_p,
                       uint64_t seed, const std::vector<std::string>& stop, double deadline_seconds,
                       const nb::sequence& cancellations, const PyCancellation* cancellation) {
  const mm::tasks::CaptionSettings settings = settings_from(
      self, num_beams, max_new_tokens, length_penalty, temperature, top_p, seed, stop, deadline_seconds, cancellation);
  std::vector<mm::vision::PictureView> pictures;
  for (const PixelArray& array : pixels) pictures.push_back(picture_from(array));
  // Flags, not a Python callback: nothing takes the GIL between the steps.
  std::vector<std::shared_ptr<mm::tasks::Cancellation>> flags;
  for (nb::handle entry : cancellations)
    flags.push_back(entry.is_none() ? nullptr : nb::cast<const PyCancellation&>(entry).flag);
  if (!flags.empty() && flags.size() != pictures.size())
    raise(mm::base::invalid_input(std::to_string(flags.size()) + " cancellations for " +
                                  std::to_string(pictures.size()) + " pictures, expected one a picture or none"));
  mm::tasks::StopQuestion should_stop;
  if (!flags.empty())
    should_stop = [&](size_t picture) { return flags[picture] != nullptr && flags[picture]->is_cancelled(); };
  auto results = [&] {
    nb::gil_scoped_release release;
    return mm::tasks::captions(*self.session, pictures, settings, should_stop);
  }();
  nb::list made;
  for (const Result<mm::tasks::Caption>& result : take(std::move(results)))
    made.append(result.is_ok() ? nb::object(record_of(result.value())) : exception_of(result.status()));
  return made;
}

}  // namespace

void add_captioning(SessionClass& session) {
  session.def("caption", &caption, "pixels"_a, nb::kw_only(), "num_beams"_a = nb::none(),
              "max_new_tokens"_a = nb::none(), "length_penalty"_a = nb::none(), "temperature"_a = 0.0f,
              "top_p"_a = 1.0f, "seed"_a = 0, "stop"_a = std::vector<std::string>(), "deadline_seconds"_a = 0.0,
              "on_token"_a = nb::none(), "cancellation"_a.none() = nb::none());
  session.def("caption_batch", &caption_batch, "pixels"_a, nb::kw_only(), "num_beams"_a = nb::none(),
              "max_new_tokens"_a = nb::none(), "length_penalty"_a = nb::none(), "temperature"_a = 0.0f,
              "top_p"_a = 1.0f, "seed"_a = 0, "stop"_a = std::vector<std::string>(), "deadline_seconds"_a = 0.0,
              "cancellations"_a = nb::tuple(), "cancellation"_a.none() = nb::none());
}
