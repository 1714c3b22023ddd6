//===- Shards.h - Tensors between the global view and the devices' parts --===//

#ifndef SHARDC_INTERPRET_SHARDS_H
#define SHARDC_INTERPRET_SHARDS_H

#include "dialects/Shard/Shard.h"

namespace shardc {

/// The type that each device holds: padded where a dimension is uneven.
mlir::RankedTensorType shardType(mlir::RankedTensorType global, const Sharding &sharding);

/// What `rank` holds of a global tensor, zero-padded.
HostTensor takeShard(const HostTensor &global, const Mesh &mesh, const Sharding &sharding,
                     int64_t rank);

/// The global tensor of the devices' parts. Pending reductions are done, in rank order; padding is
/// ignored. An error names two devices whose replicas are not equal, and their largest difference.
Result<HostTensor> assembleShards(const DeviceTensors &shards, mlir::RankedTensorType global,
                                  const Mesh &mesh, const Sharding &sharding);

/// Where two tensors of one shape differ most. Two NaNs agree; a NaN and a number differ
/// infinitely.
struct Difference {
  double amount = 0;
  int64_t at = 0; ///< linear index
};
std::optional<Difference> largestDifference(const HostTensor &a, const HostTensor &b);

/// "[0, 3, 1]"
std::string formatIndex(llvm::ArrayRef<int64_t> shape, int64_t linear);

} // namespace shardc

#endif // SHARDC_INTERPRET_SHARDS_H
