// What the C functions share: the handles behind their pointers, and how a status crosses the boundary.
#pragma once

#include <memory>
#include <new>
#include <string>

#include "mobile_multimodal/mobile_multimodal.h"
#include "tasks/session.h"

struct mm_engine {
  std::shared_ptr<const mm::tasks::Engine> engine;
};
struct mm_session {
  std::unique_ptr<mm::tasks::Session> session;
};

namespace mm::c_api {

// Keeps message and hint for mm_last_error and mm_last_hint of this thread.
mm_status report(const base::Status& status);
void forget_report();

// Runs `body` and turns what the standard library may throw (memory alone) into a status: nothing crosses the C
// boundary.
template <class F>
mm_status guarded(F&& body) {
  forget_report();
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return MM_OUT_OF_MEMORY;
  } catch (...) {
    return MM_INTERNAL;
  }
}

inline mm_status missing(const char* what) {
  return report(base::invalid_input(std::string("`") + what + "` is NULL, expected a pointer"));
}

inline vision::PictureView view_of(const mm_picture& picture) {
  return {picture.pixels, picture.height, picture.width, picture.channels, picture.row_stride_bytes};
}

}  // namespace mm::c_api
