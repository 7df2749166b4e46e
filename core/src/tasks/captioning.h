// Turns a picture into a sentence: encode, prefill, generate, write out.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tasks/session.h"

namespace mm::tasks {

struct CaptionSettings {
  GenerationSettings generation;
  std::vector<std::string> stop;  // the caption ends before the first of these (one beam only)
  double deadline_seconds = 0;    // 0: none
};

struct CaptionTimings {  // milliseconds
  double resize = 0, encode = 0, prefill = 0, first_token = 0, decode = 0, total = 0;
};

struct Caption {
  std::string text;  // a sentence: capital first letter, full stop when the model ended it
  Generated generated;
  CaptionTimings timings;
};

// Called with each piece of text as it is written; the pieces add up to Caption::text. false cancels.
using PieceCallback = std::function<bool(int32_t token, std::string_view piece, float probability)>;

base::Result<Caption> caption(Session& session, const vision::PictureView& picture, const CaptionSettings& settings,
                              const PieceCallback& on_piece);

}  // namespace mm::tasks
