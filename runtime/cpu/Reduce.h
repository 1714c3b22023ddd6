// Element-wise reduction over the buffers of several ranks, in rank order.
#pragma once

#include "runtime/core/DType.h"

namespace shardrt {

/// dst[i] = srcs[0][i] op srcs[1][i] op … for i in [0, count). f16 and bf16 are accumulated in f32
/// and rounded once. dst may be one of the sources.
void reduceInRankOrder(DType dtype, shardrt_reduce reduce, void *dst, const void *const *srcs,
                       int ranks, int64_t count);

} // namespace shardrt
