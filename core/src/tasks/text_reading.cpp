// Runs detection and recognition under one deadline.
#include "tasks/text_reading.h"

#include <new>

#include "tasks/call.h"
#include "tasks/picture_program.h"
#include "tasks/text_detection.h"
#include "vision/line_crop.h"
#include "vision/reading_order.h"

namespace mm::tasks {

namespace {

base::Status check(const TextSettings& settings) {
  const auto check_integer = [](const char* name, int value, int least, int most) -> base::Status {
    if (value >= least && value <= most) return {};
    return base::invalid_input(std::string("`") + name + "` is " + std::to_string(value) + ", expected " +
                               std::to_string(least) + " to " + std::to_string(most));
  };
  MM_RETURN_IF_ERROR(check_integer("max_side", settings.max_side, 32, 4096));
  MM_RETURN_IF_ERROR(check_integer("batch_lines", settings.batch_lines, 1, 64));
  if (!(settings.min_confidence >= 0 && settings.min_confidence <= 1))
    return base::invalid_input("`min_confidence` is " + std::to_string(settings.min_confidence) + ", expected 0 to 1");
  return check_deadline_seconds(settings.deadline_seconds);
}

base::Result<ReadText> read(Session& session, const vision::PictureView& picture, const TextSettings& settings,
                            const ProgressCallback& on_progress) {
  MM_RETURN_IF_ERROR(check(settings));
  MM_RETURN_IF_ERROR(vision::check_picture(picture));
  // Found before the picture is worked on: a file that lacks the second program is refused even when there is no text.
  MM_RETURN_IF_ERROR(PictureProgram::find(session, "detect_text").status());
  MM_RETURN_IF_ERROR(PictureProgram::find(session, "recognize_text").status());
  const Clock::time_point start = Clock::now();
  const Call call(session, start, settings.deadline_seconds, settings.cancellation);
  ReadText result;
  MM_ASSIGN_OR_RETURN(const vision::TextBoxes found, detect_text(session, picture, settings.max_side, settings.boxes));
  result.dropped_boxes = found.dropped;
  const Clock::time_point detected = Clock::now();

  std::vector<vision::Quad> quads;
  for (const vision::TextBox& box : found.boxes) quads.push_back(vision::in_reading_direction(box.quad));
  MM_ASSIGN_OR_RETURN(std::vector<text::DecodedLine> decoded,
                      recognize_text(session, picture, quads, settings.batch_lines, on_progress));
  std::vector<TextLine> lines;
  std::vector<vision::Quad> kept;
  for (size_t i = 0; i < decoded.size(); ++i) {
    if (decoded[i].text.empty() || decoded[i].confidence < settings.min_confidence) continue;
    lines.push_back({std::move(decoded[i].text), quads[i], decoded[i].confidence, std::move(decoded[i].probabilities)});
    kept.push_back(quads[i]);
  }
  for (const size_t i : vision::reading_order(kept)) result.lines.push_back(std::move(lines[i]));
  const Clock::time_point end = Clock::now();
  result.timings = {milliseconds(start, detected), milliseconds(detected, end), milliseconds(start, end)};
  return result;
}

}  // namespace

base::Result<ReadText> read_text(Session& session, const vision::PictureView& picture, const TextSettings& settings,
                                 const ProgressCallback& on_progress) {
  try {
    return read(session, picture, settings, on_progress);
  } catch (const std::bad_alloc&) {
    return base::Status(base::StatusCode::out_of_memory, "no memory left to read the picture's text",
                        "set a smaller max_side");
  }
}

}  // namespace mm::tasks
