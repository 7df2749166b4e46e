// Declares every operation, one object each; docs/model-format.md says what they compute.
#pragma once

#include "ops/op.h"

namespace mm::ops {

extern const Op image_normalize_op;
extern const Op conv2d_op;
extern const Op conv2d_depthwise_op;
extern const Op conv2d_depthwise_codes_op;
extern const Op conv2d_packed_op;
extern const Op linear_op;
extern const Op linear_codes_op;
extern const Op linear_pair_op;
extern const Op linear_f32_op;
// In no file: made of two operations each when a program is loaded.
extern const Op linear_depthwise_op;
extern const Op linear_depthwise_codes_op;
extern const Op add_op;
extern const Op mul_op;
extern const Op activation_op;
extern const Op silu_mul_op;
extern const Op rms_norm_op;
extern const Op layer_norm_op;
extern const Op softmax_op;
extern const Op hadamard_op;
extern const Op rope_op;
extern const Op state_write_op;
extern const Op attention_op;
extern const Op attention_cached_op;
extern const Op attention_memory_op;
extern const Op embedding_op;
extern const Op embedding_f32_op;
extern const Op global_average_pool_op;
extern const Op max_pool2d_op;
extern const Op average_pool2d_op;
extern const Op reshape_op;
extern const Op last_row_op;
extern const Op concat_op;
extern const Op upsample_nearest_op;
extern const Op depth_to_space_op;

}  // namespace mm::ops
