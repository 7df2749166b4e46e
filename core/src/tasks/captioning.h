// Turns pictures into sentences: encode, prefill, generate, write out; several pictures share each step.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tasks/session.h"

namespace mm::tasks {

inline constexpr size_t captions_most = Session::places_most;  // pictures of one batch

struct CaptionSettings {
  GenerationSettings generation;
  std::vector<std::string> stop;  // the caption ends before the first of these (one beam only)
  double deadline_seconds = 0;    // 0: none
  std::shared_ptr<Cancellation> cancellation;
};

struct CaptionTimings {  // milliseconds; first_token and decode are shared with the pictures of a batch
  double resize = 0, encode = 0, prefill = 0, first_token = 0, decode = 0, total = 0;
};

struct Caption {
  std::string text;  // a sentence: capital first letter, full stop when the model ended it
  Generated generated;
  CaptionTimings timings;
};

// Called with each piece of text as it is written; the pieces add up to Caption::text. false cancels.
using PieceCallback = std::function<bool(int32_t token, std::string_view piece, float probability)>;
// Asked about each picture of a batch before it is encoded and before each step; true gives that picture up.
using StopQuestion = std::function<bool(size_t picture)>;

base::Result<Caption> caption(Session& session, const vision::PictureView& picture, const CaptionSettings& settings,
                              const PieceCallback& on_piece);

// A caption or a failure for each of 1 to 16 pictures, in their order; each caption is, bit for bit, what caption()
// gives. The rows of all pictures run through one `decode` step, which reads every weight once. Deadline and
// cancellation hold for the batch: pictures that are done by then keep their captions. `should_stop` may be empty.
base::Result<std::vector<base::Result<Caption>>> captions(Session& session,
                                                          const std::vector<vision::PictureView>& pictures,
                                                          const CaptionSettings& settings,
                                                          const StopQuestion& should_stop);

}  // namespace mm::tasks
