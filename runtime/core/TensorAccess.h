// States as whole tensors, for callers.
#pragma once

#include "runtime/core/GlobalTensors.h"
#include "runtime/core/Session.h"

namespace shardrt {

/// Every rank takes its part of the row-major tensor, converting where both types are floating
/// point. Throws SHARDRT_BAD_INPUT if type or shape do not fit.
void setTensor(Session &session, const GlobalTensor &tensor, DType dtype, const Shape &shape,
               const void *data);

/// Calls body(run, own) with this rank's elements of each run of a tensor's part. What lies between
/// the first and the last one is brought to the machine and, unless it is only read, back.
using RunBody = std::function<void(const BucketRun &run, std::byte *own)>;
void accessRuns(Session &session, const GlobalTensor &tensor, const TensorPart &part,
                Memory::Access mode, const RunBody &body);

/// Collective: `data` on rank 0 becomes the whole tensor.
void gatherTensor(Session &session, const GlobalTensor &tensor, void *data);

} // namespace shardrt
