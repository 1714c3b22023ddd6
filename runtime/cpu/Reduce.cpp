// Chooses between the two builds of ReduceLoops.inc.
#include "runtime/cpu/Reduce.h"
#include "runtime/cpu/IsaLevel.h"

namespace shardrt {
namespace baseline {
void reduce(DType, shardrt_reduce, void *, const void *const *, int, int64_t);
}
namespace v3 {
void reduce(DType, shardrt_reduce, void *, const void *const *, int, int64_t);
}
} // namespace shardrt

void shardrt::reduceInRankOrder(DType dtype, shardrt_reduce op, void *dst, const void *const *srcs,
                                int ranks, int64_t count) {
#ifdef SHARDRT_HAVE_V3
  static const bool hasV3 = cpuRuns("x86-64-v3");
  if (hasV3)
    return v3::reduce(dtype, op, dst, srcs, ranks, count);
#endif
  baseline::reduce(dtype, op, dst, srcs, ranks, count);
}
