// Shows questions and embeddings to Python as methods of Session.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "crossing.h"
#include "tasks/embedding.h"
#include "tasks/question_answering.h"

namespace {

using mm::base::Result;
using mm::tensor::DType;
using mm::tensor::Shape;

nb::object vector_to_numpy(std::vector<float> values) {
  return to_numpy({values.data(), DType::f32, Shape::of(static_cast<int64_t>(values.size()))});
}

nb::object embed_image(PySession& self, const PixelArray& pixels, double deadline_seconds,
                       const PyCancellation* cancellation) {
  const mm::vision::PictureView picture = picture_from(pixels);
  Result<std::vector<float>> vector = [&] {
    nb::gil_scoped_release release;
    return mm::tasks::embed_image(*self.session, picture, deadline_seconds, flag_of(cancellation));
  }();
  return vector_to_numpy(take(std::move(vector)));
}

nb::object embed_text(PySession& self, const std::string& text, double deadline_seconds,
                      const PyCancellation* cancellation) {
  Result<std::vector<float>> vector = [&] {
    nb::gil_scoped_release release;
    return mm::tasks::embed_text(*self.session, text, deadline_seconds, flag_of(cancellation));
  }();
  return vector_to_numpy(take(std::move(vector)));
}

nb::dict timings_of(const mm::tasks::AnswerTimings& timings) {
  nb::dict made;
  made["resize"] = timings.resize;
  made["encode"] = timings.encode;
  made["prepare"] = timings.prepare;
  made["answer"] = timings.answer;
  made["total"] = timings.total;
  return made;
}

nb::dict answer_question(PySession& self, const PixelArray& pixels, const std::string& question, int top_k,
                         double deadline_seconds, const PyCancellation* cancellation) {
  const mm::vision::PictureView picture = picture_from(pixels);
  Result<mm::tasks::Answer> answered = [&] {
    nb::gil_scoped_release release;
    return mm::tasks::answer_question(*self.session, picture, question,
                                      {top_k, deadline_seconds, flag_of(cancellation)});
  }();
  const mm::tasks::Answer made = take(std::move(answered));
  nb::list candidates;
  for (const mm::tasks::Candidate& candidate : made.candidates)
    candidates.append(nb::make_tuple(nb::str(candidate.text.data(), candidate.text.size()), candidate.probability));
  nb::dict out;
  out["candidates"] = candidates;
  out["unanswerable"] = made.unanswerable;
  out["timings"] = timings_of(made.timings);
  return out;
}

nb::dict choose(PySession& self, const PixelArray& pixels, const std::string& question,
                const std::vector<std::string>& options, double deadline_seconds, const PyCancellation* cancellation) {
  const mm::vision::PictureView picture = picture_from(pixels);
  Result<mm::tasks::Choice> chosen = [&] {
    nb::gil_scoped_release release;
    return mm::tasks::choose(*self.session, picture, question, options, deadline_seconds, flag_of(cancellation));
  }();
  const mm::tasks::Choice made = take(std::move(chosen));
  nb::dict out;
  out["probabilities"] = made.probabilities;
  out["timings"] = timings_of(made.timings);
  return out;
}

}  // namespace

void add_language(SessionClass& session) {
  const mm::tasks::AnswerSettings defaults;
  session.def("embed_image", &embed_image, "pixels"_a, nb::kw_only(), "deadline_seconds"_a = 0.0,
              "cancellation"_a.none() = nb::none());
  session.def("embed_text", &embed_text, "text"_a, nb::kw_only(), "deadline_seconds"_a = 0.0,
              "cancellation"_a.none() = nb::none());
  session.def("answer_question", &answer_question, "pixels"_a, "question"_a, nb::kw_only(), "top_k"_a = defaults.top_k,
              "deadline_seconds"_a = 0.0, "cancellation"_a.none() = nb::none());
  session.def("choose", &choose, "pixels"_a, "question"_a, "options"_a, nb::kw_only(), "deadline_seconds"_a = 0.0,
              "cancellation"_a.none() = nb::none());
}
