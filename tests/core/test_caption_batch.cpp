// Captions pictures side by side with the packaged model (argument 1) in batches of every size up to argument 2, and
// compares them with captions one by one, bit for bit; and stops calls from another thread.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "check.h"
#include "tasks/captioning.h"
#include "tasks/embedding.h"

using namespace mm;
using tasks::Caption;
using tasks::CaptionSettings;
using tasks::Session;

namespace {

constexpr int height = 60, width = 80;

// Colored boxes: enough for sentences of different words and lengths.
std::vector<std::vector<uint8_t>> make_pictures(int count) {
  std::mt19937 random(5);
  std::vector<std::vector<uint8_t>> made;
  for (int p = 0; p < count; ++p) {
    std::vector<uint8_t> pixels(height * width * 3, static_cast<uint8_t>(random()));
    for (int box = 0; box < 2 + p; ++box) {
      const int left = static_cast<int>(random() % width), top = static_cast<int>(random() % height);
      const uint8_t color[3] = {static_cast<uint8_t>(random()), static_cast<uint8_t>(random()),
                                static_cast<uint8_t>(random())};
      for (int y = top; y < std::min(height, top + 25); ++y)
        for (int x = left; x < std::min(width, left + 30); ++x)
          for (int c = 0; c < 3; ++c) pixels[static_cast<size_t>((y * width + x) * 3 + c)] = color[c];
    }
    made.push_back(std::move(pixels));
  }
  return made;
}

std::vector<vision::PictureView> views_of(const std::vector<std::vector<uint8_t>>& pictures) {
  std::vector<vision::PictureView> views;
  for (const auto& pixels : pictures) views.push_back({pixels.data(), height, width, 3, 0});
  return views;
}

// The plain kernels take a second to encode a picture: the comparison alone is worth that.
bool is_plain() { return kernels::best_table().isa == kernels::Isa::reference; }

std::unique_ptr<Session> session_of(const std::shared_ptr<const tasks::Engine>& engine, int threads) {
  auto session = Session::create(engine, threads, size_t{64} << 20);  // each picture is encoded once a session
  MM_CHECK(session.is_ok());
  return std::move(session.value());
}

bool is_same(const base::Result<Caption>& a, const base::Result<Caption>& b) {
  return a.is_ok() && b.is_ok() && a.value().text == b.value().text &&
         a.value().generated.tokens == b.value().generated.tokens &&
         a.value().generated.probabilities == b.value().generated.probabilities &&
         a.value().generated.log_probability == b.value().generated.log_probability &&
         a.value().generated.finish_reason == b.value().generated.finish_reason;
}

void test_a_batch_is_one_by_one(const std::shared_ptr<const tasks::Engine>& engine,
                                const std::vector<vision::PictureView>& views) {
  std::vector<CaptionSettings> all(4);
  all[0].generation.num_beams = 3;
  all[1].generation.num_beams = 1;
  all[2].generation.num_beams = 1;
  all[2].generation.temperature = 1.0f;
  all[2].generation.seed = 7;
  all[3].generation.num_beams = 1;
  all[3].generation.max_new_tokens = 9;
  all[3].stop = {" in", " on"};
  if (is_plain()) all = {all[0], all[2]};
  std::vector<std::unique_ptr<Session>> sessions;
  sessions.push_back(session_of(engine, 1));
  if (!is_plain()) sessions.push_back(session_of(engine, 2));
  for (const CaptionSettings& settings : all) {
    std::vector<base::Result<Caption>> expected;
    size_t shortest = 1000, longest = 0;
    for (const vision::PictureView& view : views) {
      expected.push_back(tasks::caption(*sessions[0], view, settings, nullptr));
      if (!MM_CHECK(expected.back().is_ok())) return;
      shortest = std::min(shortest, expected.back().value().generated.tokens.size());
      longest = std::max(longest, expected.back().value().generated.tokens.size());
    }
    MM_CHECK(shortest < longest);  // so pictures leave the batch at different steps
    for (size_t size = 1; size <= views.size(); ++size) {
      if (is_plain() && size != 2 && size != views.size()) continue;
      const size_t first = views.size() - size;
      const auto made =
          tasks::captions(*sessions[size % sessions.size()],
                          {views.begin() + static_cast<std::ptrdiff_t>(first), views.end()}, settings, nullptr);
      if (!MM_CHECK(made.is_ok() && made.value().size() == size)) return;
      for (size_t i = 0; i < size; ++i) MM_CHECK(is_same(made.value()[i], expected[first + i]));
    }
  }
}

void test_one_picture_fails_for_itself(const std::shared_ptr<const tasks::Engine>& engine,
                                       std::vector<vision::PictureView> views) {
  const std::unique_ptr<Session> session = session_of(engine, 1);
  CaptionSettings settings;
  const auto expected = tasks::captions(*session, {views[0], views[2], views[3]}, settings, nullptr);
  views.resize(4);
  views[1].channels = 2;
  auto made = tasks::captions(*session, views, settings, nullptr);
  if (!MM_CHECK(made.is_ok() && expected.is_ok())) return;
  MM_CHECK(made.value()[1].status().code() == base::StatusCode::invalid_input);
  for (size_t i : {0, 2, 3}) MM_CHECK(is_same(made.value()[i], expected.value()[i == 0 ? 0 : i - 1]));

  // Given up before its encoding, and in the middle of the writing.
  for (int after : {0, 1, 3}) {
    int asked = 0;
    made = tasks::captions(*session, views, settings, [&](size_t picture) { return picture == 2 && asked++ >= after; });
    if (!MM_CHECK(made.is_ok())) return;
    MM_CHECK(asked == after + 1);
    MM_CHECK(made.value()[1].status().code() == base::StatusCode::invalid_input);
    MM_CHECK(made.value()[2].status().code() == base::StatusCode::cancelled);
    MM_CHECK(is_same(made.value()[0], expected.value()[0]));
    MM_CHECK(is_same(made.value()[3], expected.value()[2]));
  }

  MM_CHECK(tasks::captions(*session, {}, settings, nullptr).status().code() == base::StatusCode::invalid_input);
  MM_CHECK(
      tasks::captions(*session, std::vector<vision::PictureView>(tasks::captions_most + 1, views[0]), settings, nullptr)
          .status()
          .code() == base::StatusCode::invalid_input);
  settings.deadline_seconds = 1e-9;
  made = tasks::captions(*session, {views[0], views[2]}, settings, nullptr);
  if (!MM_CHECK(made.is_ok())) return;
  for (const auto& result : made.value()) MM_CHECK(result.status().code() == base::StatusCode::deadline_exceeded);
}

void test_calls_are_cancelled(const std::shared_ptr<const tasks::Engine>& engine, const vision::PictureView& view) {
  auto made = Session::create(engine, 1, 0);  // nothing is kept: every call has a picture to encode
  if (!MM_CHECK(made.is_ok())) return;
  Session& session = *made.value();
  CaptionSettings settings;
  MM_CHECK(!session.cancel());  // no call, and the next one does not mind
  const auto expected = tasks::caption(session, view, settings, nullptr);
  MM_CHECK(expected.is_ok());

  // A cancellation that came before its call, and one that came after.
  settings.cancellation = std::make_shared<tasks::Cancellation>();
  settings.cancellation->cancel();
  MM_CHECK(tasks::caption(session, view, settings, nullptr).status().code() == base::StatusCode::cancelled);
  settings.cancellation = std::make_shared<tasks::Cancellation>();
  MM_CHECK(is_same(tasks::caption(session, view, settings, nullptr), expected));
  settings.cancellation->cancel();
  settings.cancellation = nullptr;
  MM_CHECK(is_same(tasks::caption(session, view, settings, nullptr), expected));

  // From another thread, which waits until a call is under way. Calls follow each other without end, so every cancel
  // that hit one must show, and calls before and after are whole.
  std::atomic<bool> is_over{false};
  int hit = 0, wanted = 0;
  std::thread other([&] {
    for (int i = 0; i < 5; ++i) {
      while (!session.cancel()) std::this_thread::yield();
      ++wanted;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));  // further cancels of one call would count once
    }
    is_over = true;
  });
  bool was_over = false;
  while (!was_over) {
    was_over = is_over;
    const auto result = tasks::caption(session, view, settings, nullptr);
    if (result.is_ok())
      MM_CHECK(is_same(result, expected));
    else if (MM_CHECK(result.status().code() == base::StatusCode::cancelled))
      ++hit;
  }
  other.join();
  // One that arrives after a call's last instruction stops nothing; the others stop a call each.
  MM_CHECK(hit >= 1 && hit <= wanted);
}

}  // namespace

int main(int count, char** arguments) {
  const int batch = count == 3 ? std::atoi(arguments[2]) : 0;
  if (batch < 4 || batch > static_cast<int>(tasks::captions_most)) {
    std::fprintf(stderr, "usage: test_caption_batch MODEL.gguf 4..16\n");
    return 2;
  }
  const auto engine = tasks::Engine::open(arguments[1]);
  if (!MM_CHECK(engine.is_ok())) return 1;
  const std::vector<std::vector<uint8_t>> pictures = make_pictures(batch);
  const std::vector<vision::PictureView> views = views_of(pictures);
  test_a_batch_is_one_by_one(engine.value(), views);
  if (!is_plain()) {
    test_one_picture_fails_for_itself(engine.value(), views);
    test_calls_are_cancelled(engine.value(), views[0]);
  }
  std::printf("kernels %s; ", kernels::best_table().name);
  return test::finish("caption_batch");
}
