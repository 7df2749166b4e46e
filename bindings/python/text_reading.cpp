// Shows text reading to Python: Session.read_text, find_text_boxes and crop_line.
#include "tasks/text_reading.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "crossing.h"
#include "vision/line_crop.h"

namespace {

using mm::base::Result;
using mm::tensor::DType;
using mm::tensor::Shape;

nb::dict read_text(PySession& self, const PixelArray& pixels, int max_side, float threshold, float box_threshold,
                   float unclip_ratio, int max_boxes, float min_confidence, int batch_lines, double deadline_seconds,
                   nb::object on_progress, const PyCancellation* cancellation) {
  mm::tasks::TextSettings settings;
  settings.max_side = max_side;
  settings.boxes = {threshold, box_threshold, unclip_ratio, max_boxes};
  settings.min_confidence = min_confidence;
  settings.batch_lines = batch_lines;
  settings.deadline_seconds = deadline_seconds;
  settings.cancellation = flag_of(cancellation);
  const mm::vision::PictureView picture = picture_from(pixels);

  std::unique_ptr<nb::python_error> raised;
  mm::tasks::ProgressCallback callback;
  if (!on_progress.is_none())
    callback = [&](size_t done, size_t total) {
      nb::gil_scoped_acquire acquire;
      try {
        return nb::cast<bool>(on_progress(done, total));
      } catch (nb::python_error& error) {
        raised = std::make_unique<nb::python_error>(std::move(error));
        return false;
      }
    };
  Result<mm::tasks::ReadText> result = [&] {
    nb::gil_scoped_release release;
    return mm::tasks::read_text(*self.session, picture, settings, callback);
  }();
  if (raised) throw nb::python_error(std::move(*raised));
  const mm::tasks::ReadText made = take(std::move(result));
  nb::list lines;
  for (const mm::tasks::TextLine& line : made.lines) {
    nb::dict entry;
    nb::list box;
    for (const mm::vision::Point& corner : line.box) box.append(nb::make_tuple(corner.x, corner.y));
    entry["text"] = line.text;
    entry["box"] = nb::tuple(box);
    entry["confidence"] = line.confidence;
    entry["character_confidences"] = line.probabilities;
    lines.append(entry);
  }
  nb::dict timings;
  timings["detect"] = made.timings.detect;
  timings["recognize"] = made.timings.recognize;
  timings["total"] = made.timings.total;
  nb::dict out;
  out["lines"] = lines;
  out["dropped_boxes"] = made.dropped_boxes;
  out["timings"] = timings;
  return out;
}

nb::object crop_line(const PixelArray& pixels, const std::vector<double>& corners, int height, int width) {
  const mm::vision::PictureView picture = picture_from(pixels);
  check(mm::vision::check_picture(picture));
  if (corners.size() != 8 || height < 1 || height > 4096 || width < 1 || width > 65536)
    raise(mm::base::invalid_input("a crop of " + std::to_string(corners.size()) + " numbers to " +
                                  std::to_string(height) + "x" + std::to_string(width) +
                                  ", expected 8 numbers (x and y of four corners) and sides of 1 to 4096 and 65536"));
  mm::vision::Quad quad;
  for (size_t i = 0; i < 4; ++i) quad[i] = {corners[2 * i], corners[2 * i + 1]};
  std::vector<uint8_t> out(static_cast<size_t>(height) * static_cast<size_t>(width) * 3);
  {
    nb::gil_scoped_release release;
    mm::vision::crop_line(picture, quad, {height, width, 0, width}, out.data(), static_cast<size_t>(width) * 3);
  }
  return to_numpy({out.data(), DType::u8, Shape::of(height, width, 3)});
}

nb::list find_text_boxes(const nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>& map,
                         float threshold, float box_threshold, float unclip_ratio, int max_boxes) {
  if (map.shape(0) > 65536 || map.shape(1) > 65536)
    raise(mm::base::invalid_input("a map with a side above 65536, expected 1 to 65536"));
  Result<mm::vision::TextBoxes> found = [&] {
    nb::gil_scoped_release release;
    return mm::vision::find_text_boxes({map.data(), static_cast<int>(map.shape(0)), static_cast<int>(map.shape(1))},
                                       {threshold, box_threshold, unclip_ratio, max_boxes});
  }();
  nb::list boxes;
  for (const mm::vision::TextBox& box : take(std::move(found)).boxes) {
    nb::list corners;
    for (const mm::vision::Point& corner : box.quad) corners.append(nb::make_tuple(corner.x, corner.y));
    boxes.append(nb::make_tuple(nb::tuple(corners), box.score));
  }
  return boxes;
}

}  // namespace

void add_text_reading(nb::module_& module, SessionClass& session) {
  const mm::tasks::TextSettings text_defaults;
  module.def("find_text_boxes", &find_text_boxes, "probabilities"_a, nb::kw_only(),
             "threshold"_a = text_defaults.boxes.threshold, "box_threshold"_a = text_defaults.boxes.box_threshold,
             "unclip_ratio"_a = text_defaults.boxes.unclip_ratio, "max_boxes"_a = text_defaults.boxes.max_boxes,
             "Corners and score of each box in a map of probabilities.");
  module.def("crop_line", &crop_line, "pixels"_a, "corners"_a, "height"_a, "width"_a,
             "A quadrilateral straightened to RGB, as the recognizer sees a line.");
  session.def("read_text", &read_text, "pixels"_a, nb::kw_only(), "max_side"_a = text_defaults.max_side,
              "threshold"_a = text_defaults.boxes.threshold, "box_threshold"_a = text_defaults.boxes.box_threshold,
              "unclip_ratio"_a = text_defaults.boxes.unclip_ratio, "max_boxes"_a = text_defaults.boxes.max_boxes,
              "min_confidence"_a = text_defaults.min_confidence, "batch_lines"_a = text_defaults.batch_lines,
              "deadline_seconds"_a = 0.0, "on_progress"_a = nb::none(), "cancellation"_a.none() = nb::none());
}
