// Gives pictures and texts a place in one space: unit vectors, whose dot product says how well they go together.
#pragma once

#include <string_view>
#include <vector>

#include "tasks/session.h"

namespace mm::tasks {

// `deadline_seconds` 0: none. not_found when the model file lacks the parts.
base::Result<std::vector<float>> embed_image(Session& session, const vision::PictureView& picture,
                                             double deadline_seconds,
                                             std::shared_ptr<Cancellation> cancellation = nullptr);
base::Result<std::vector<float>> embed_text(Session& session, std::string_view text, double deadline_seconds,
                                            std::shared_ptr<Cancellation> cancellation = nullptr);

}  // namespace mm::tasks
