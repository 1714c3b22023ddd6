// States as whole tensors, for callers.
#pragma once

#include "runtime/core/GlobalTensors.h"
#include "runtime/core/Session.h"

namespace shardrt {

/// Every rank takes its part of the row-major tensor, converting where both types are floating
/// point. Throws SHARDRT_BAD_INPUT if type or shape do not fit.
void setTensor(Session &session, const GlobalTensor &tensor, DType dtype, const Shape &shape,
               const void *data);

/// Collective: `data` on rank 0 becomes the whole tensor.
void gatherTensor(Session &session, const GlobalTensor &tensor, void *data);

} // namespace shardrt
