// Checks how pages are tiled, lines are cut and batched, and reads a picture through the C door with a small model.
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "gguf_writer.h"
#include "mobile_multimodal/mobile_multimodal.h"
#include "tasks/text_detection.h"
#include "tasks/text_recognition.h"

namespace {

using mm::tasks::DetectionPlan;
using mm::tasks::LineBatch;
using mm::tasks::LinePiece;
using mm::vision::Point;

void test_detection_plans() {
  const struct {
    int height, width, max_side, map_height, map_width, tiles;
  } cases[] = {
      {480, 640, 960, 480, 640, 1},       // never enlarged but to a multiple of 32
      {100, 100, 960, 96, 96, 1},         //
      {3000, 4000, 960, 736, 960, 1},     // 720 is rounded to 22.5 * 32, away from zero
      {1, 1, 960, 32, 32, 1},             //
      {1920, 960, 960, 960, 480, 1},      // twice as long as wide: the last without tiles
      {9600, 960, 960, 4800, 480, 6},     // 4800 = 960 + 5 * 768; tiles of 960 overlap by 128 or more
      {960, 9600, 960, 480, 4800, 6},     //
      {4096, 4096, 4096, 4096, 4096, 1},  // the bound of the map itself
  };
  for (const auto& c : cases) {
    const DetectionPlan plan = mm::tasks::plan_detection(c.height, c.width, c.max_side);
    MM_CHECK(plan.height == c.map_height && plan.width == c.map_width);
    MM_CHECK(plan.tiles == c.tiles);
  }
  for (const int height : {1, 31, 333, 4097, 65535})
    for (const int width : {1, 17, 1000, 2700})
      for (const int max_side : {32, 50, 960, 1010, 4096}) {
        const DetectionPlan plan = mm::tasks::plan_detection(height, width, max_side);
        const int side = plan.is_tall ? plan.height : plan.width;
        MM_CHECK(plan.height % 32 == 0 && plan.width % 32 == 0 && plan.tile % 32 == 0);
        MM_CHECK(int64_t{plan.height} * plan.width <= 1 << 24);
        MM_CHECK(plan.tile >= 32 && plan.tile <= 4096 && plan.start(0) == 0);
        MM_CHECK(plan.start(plan.tiles - 1) + plan.tile == side);
        for (int i = 1; i < plan.tiles; ++i) {
          MM_CHECK(plan.start(i) > plan.start(i - 1));
          MM_CHECK(plan.start(i) - plan.start(i - 1) <= plan.tile - std::min(128, plan.tile / 4));
        }
      }
}

mm::vision::Quad line(double width, double height) {
  return {Point{0, 0}, Point{width, 0}, Point{width, height}, Point{0, height}};
}

void test_pieces() {
  const std::vector<LinePiece> one = mm::tasks::cut_line(line(100, 24), 7);
  MM_CHECK(one.size() == 1 && one[0].line == 7 && one[0].begin == 0 && one[0].end == 200);
  for (const double width : {66.7, 67.0, 100.0, 135.0, 700.0, 1e5}) {
    const std::vector<LinePiece> pieces = mm::tasks::cut_line(line(width * 10, 10), 0);
    const int whole = pieces[0].whole_width;
    MM_CHECK(whole >= std::min(48 * width, 65536.0) && whole <= 65536);
    MM_CHECK(pieces.front().begin == 0 && pieces.back().end == whole);
    for (size_t i = 1; i < pieces.size(); ++i) {
      MM_CHECK(pieces[i].width() == 3200 && pieces[i].begin % 32 == 0);
      MM_CHECK(pieces[i - 1].end - pieces[i].begin >= 192 - 32 && pieces[i].begin > pieces[i - 1].begin);
    }
  }
  MM_CHECK(mm::tasks::cut_line(line(0, 0), 0)[0].width() >= 1);
}

void test_batches() {
  std::vector<LinePiece> pieces;
  for (size_t i = 0; i < 500; ++i) {
    const int width = 1 + static_cast<int>(i * 7919 % 3200);
    pieces.push_back({i, width, 0, width});
  }
  std::vector<bool> is_seen(pieces.size(), false);
  for (const LineBatch& batch : mm::tasks::batch_pieces(pieces, 8, 320)) {
    MM_CHECK(!batch.pieces.empty() && batch.pieces.size() <= 8);
    MM_CHECK(batch.columns % 32 == 0 && batch.columns >= 320);
    MM_CHECK(static_cast<int>(batch.pieces.size()) * batch.columns <= 6400);
    for (const LinePiece& piece : batch.pieces) {
      MM_CHECK(piece.width() <= batch.columns);
      // A quarter of padding beyond what every line is padded to, and the rounding to 32.
      MM_CHECK(std::max(piece.width(), 320) + 31 >= batch.columns * 3 / 4);
      MM_CHECK(!is_seen[piece.line]);
      is_seen[piece.line] = true;
    }
  }
  for (const bool seen : is_seen) MM_CHECK(seen);
  MM_CHECK(mm::tasks::batch_pieces({}, 8, 320).empty());
}

void add_program(mm::test::GgufWriter& writer, const std::string& name, const std::vector<std::string>& tensors,
                 uint32_t slots, const std::vector<uint32_t>& code) {
  const std::string prefix = "mm.program." + name + ".";
  writer.strings(prefix + "inputs", {"x"});
  writer.strings(prefix + "input_types", {"f32"});
  writer.strings(prefix + "tensors", tensors);
  writer.strings(prefix + "outputs", {"y"});
  writer.array<uint32_t>(prefix + "output_slots", 4, {slots - 1});
  writer.array<uint32_t>(prefix + "code", 4, code);
  writer.u32(prefix + "slots", slots);
}

// Dark is text; in a strip, mostly red reads "r", mostly green "\xC3\xBC". Classes: blank, r, \xC3\xBC.
std::string small_reader(bool with_recognizer) {
  constexpr uint32_t none = 0xFFFFFFFFu;
  mm::test::GgufWriter writer;
  writer.string("general.architecture", "mobile-mm");
  writer.u32("general.alignment", 64);
  writer.u32("mm.format_version", 1);
  writer.strings("mm.ocr.characters", {"r", "\xC3\xBC"});
  writer.strings("mm.op_names", {"linear_f32", "reshape", "conv2d", "softmax"});
  std::vector<std::string> programs = {"detect_text"};
  if (with_recognizer) programs.push_back("recognize_text");
  writer.strings("mm.programs", programs);
  // sigmoid(8 - blue / 16)
  add_program(writer, "detect_text", {"ocr.dw", "ocr.db"}, 4, {0, 4, 1, 1, 0, 1, 2, none, 3, 5});
  if (with_recognizer)
    add_program(writer, "recognize_text", {"ocr.rw", "ocr.rb"}, 6, {1,  1, 1, 3, 0, 3, 48, ~uint32_t{0},
                                                                    3,  // reshape to [48, columns, 3]
                                                                    2,  3, 1, 7, 3, 1, 2,  4,
                                                                    48, 8, 0, 0, 0, 0, 0,  // the mean of 48 x 8
                                                                    3,  1, 1, 0, 4, 5});
  const std::vector<float> dw = {0, 0, -1 / 16.0f}, db = {8}, rb = {5, 0, 0};
  std::vector<float> rw;
  for (int i = 0; i < 48 * 8; ++i)
    for (const float weight : {0.f, 0.1f, -0.1f, 0.f, -0.1f, 0.1f, 0.1f, 0.f, 0.f}) rw.push_back(weight / (48 * 8));
  writer.tensors.push_back({"ocr.dw", {1, 3}, 0, mm::test::raw_bytes(dw)});
  writer.tensors.push_back({"ocr.db", {1}, 0, mm::test::raw_bytes(db)});
  writer.tensors.push_back({"ocr.rw", {3, 3, 8, 48}, 0, mm::test::raw_bytes(rw)});
  writer.tensors.push_back({"ocr.rb", {3}, 0, mm::test::raw_bytes(rb)});
  writer.array<uint32_t>("mm.state.widths", 4, {});
  writer.array<uint32_t>("mm.state.rows", 4, {});
  writer.strings("mm.states", {});
  writer.strings("mm.state.kinds", {});
  writer.seal({"ocr"});
  return writer.file();
}

int32_t stop_at_once(void* context, size_t done, size_t total) {
  *static_cast<size_t*>(context) = 10 * done + total;
  return 0;
}

mm_session* open_session(bool with_recognizer) {
  const std::string bytes = small_reader(with_recognizer);
  mm_engine* engine = nullptr;
  if (!MM_CHECK(mm_engine_open_bytes(bytes.data(), bytes.size(), &engine) == MM_OK)) {
    std::fprintf(stderr, "%s\n", mm_last_error());
    return nullptr;
  }
  mm_session* session = nullptr;
  MM_CHECK(mm_session_create(engine, 1, &session) == MM_OK);
  mm_engine_close(engine);
  return session;
}

// Two lines, each two stripes: red and green below green and red.
std::vector<uint8_t> two_lines(int height, int width) {
  std::vector<uint8_t> pixels(static_cast<size_t>(height * width * 3), 255);
  for (int y = 0; y < height; ++y)
    for (int x = 20; x < 140; ++x) {
      const int row = y / 60;
      if (row > 1 || y % 60 < 10 || y % 60 >= 50) continue;
      uint8_t* pixel = pixels.data() + (y * width + x) * 3;
      const bool is_red = (x < 80) == (row == 1);
      pixel[0] = is_red ? 255 : 0;
      pixel[1] = is_red ? 0 : 255;
      pixel[2] = 0;
    }
  return pixels;
}

void test_c_door() {
  constexpr int height = 160, width = 192;
  const std::vector<uint8_t> pixels = two_lines(height, width);
  const mm_picture picture = {pixels.data(), height, width, 3, 0};
  mm_session* session = open_session(true);
  if (session == nullptr) return;
  mm_text_options options;
  MM_CHECK(mm_text_options_init(&options) == MM_OK);
  MM_CHECK(options.max_side == 960 && options.batch_lines == 8 && options.on_progress == nullptr);
  options.batch_lines = 1;
  options.unclip_ratio = 0.1f;
  mm_text* text = nullptr;
  if (MM_CHECK(mm_read_text(session, &picture, &options, &text) == MM_OK)) {
    MM_CHECK(std::strcmp(mm_text_string(text), "\xC3\xBCr\nr\xC3\xBC") == 0);
    MM_CHECK(mm_text_line_count(text) == 2);
    MM_CHECK(std::strcmp(mm_text_line(text, 1), "r\xC3\xBC") == 0);
    const float expected[] = {20, 70, 140, 70, 140, 110, 20, 110};
    for (int i = 0; i < 8; ++i) MM_CHECK(std::abs(mm_text_line_box(text, 1)[i] - expected[i]) < 2);
    MM_CHECK(mm_text_line_confidence(text, 0) > 0.5f && mm_text_line_confidence(text, 0) <= 1);
    MM_CHECK(mm_text_line(text, 2) == nullptr && mm_text_line_box(text, 2) == nullptr);
    MM_CHECK(mm_text_line_confidence(text, 2) == 0);
    MM_CHECK(mm_text_dropped_boxes(text) == 0 && mm_text_milliseconds(text) > 0);
  } else {
    std::fprintf(stderr, "%s\n", mm_last_error());
  }
  mm_text_free(text);
  mm_text_free(nullptr);

  size_t seen = 0;
  options.on_progress = stop_at_once;
  options.on_progress_context = &seen;
  MM_CHECK(mm_read_text(session, &picture, &options, &text) == MM_CANCELLED);
  MM_CHECK(text == nullptr && seen == 12);
  options.on_progress = nullptr;
  options.deadline_seconds = 1e-9;
  MM_CHECK(mm_read_text(session, &picture, &options, &text) == MM_DEADLINE_EXCEEDED);
  options.deadline_seconds = std::nan("");
  MM_CHECK(mm_read_text(session, &picture, &options, &text) == MM_INVALID_INPUT);
  const mm_picture wrong[] = {{nullptr, 4, 4, 3, 0}, {pixels.data(), 0, 4, 3, 0}, {pixels.data(), 4, 4, 2, 0}};
  for (const mm_picture& bad : wrong) MM_CHECK(mm_read_text(session, &bad, nullptr, &text) == MM_INVALID_INPUT);
  MM_CHECK(mm_read_text(nullptr, &picture, nullptr, &text) == MM_INVALID_INPUT);
  MM_CHECK(mm_read_text(session, nullptr, nullptr, &text) == MM_INVALID_INPUT);
  MM_CHECK(mm_read_text(session, &picture, nullptr, nullptr) == MM_INVALID_INPUT);
  MM_CHECK(mm_text_options_init(nullptr) == MM_INVALID_INPUT);
  mm_session_close(session);

  session = open_session(false);
  MM_CHECK(mm_read_text(session, &picture, nullptr, &text) == MM_NOT_FOUND);
  MM_CHECK(std::strstr(mm_last_error(), "`recognize_text`") != nullptr && std::strlen(mm_last_hint()) > 0);
  mm_session_close(session);
}

}  // namespace

int main() {
  test_detection_plans();
  test_pieces();
  test_batches();
  test_c_door();
  return mm::test::finish("text_reading");
}
