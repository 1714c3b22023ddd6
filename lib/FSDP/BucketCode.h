//===- BucketCode.h - What is done with a bucket --------------------------===//

#ifndef SHARDC_LIB_FSDP_BUCKETCODE_H
#define SHARDC_LIB_FSDP_BUCKETCODE_H

#include "EntryFunction.h"
#include "Optimizer.h"

namespace shardc {

struct FSDPConfig {
  int64_t zero = 3;
  bool cutsReplicas = false; ///< outer_dp_sharding_strategy optim
  enum { Default, Always, Never, Groups } reshard = Default;
  int64_t reshardGroup = 0;
  OptimizerSpec optimizer;
  double clipNorm = 0;
  mlir::Type reduceType;        ///< null: the parameter's
  bool checksGradients = false; ///< and skips updates by what is not finite
  bool hasSeparateEntries = false;
  bool defersSync = true; ///< gradients stay unreduced until finish_grad_sync

  /// Keeps gathered parameters between runs? Whole ones (ZeRO 1 and 2), or, where replicas share
  /// the optimizer's states, shards for all micro-batches.
  bool keepsWhole(const ShardLayout &layout) const { return layout.isSharded && zero < 3; }
  bool keepsCompute(const ShardLayout &layout) const {
    return keepsWhole(layout) || (cutsReplicas && hasSeparateEntries);
  }
};

/// Appends, at the entry's insertion point.
class BucketCode {
public:
  BucketCode(EntryFunction &entry, const ShardLayout &layout, const FSDPConfig &config)
      : entry(entry), builder(entry.builder), layout(layout), config(config) {}

  /// This rank's shard of the parameters for gather(): what it owns, or, where replicas share that,
  /// gathered over them.
  mlir::Value innerShard(const Bucket &bucket);
  mlir::Value gatherReplicas(mlir::Value owned, const Bucket &bucket);
  /// Shard, or whole if it is not cut, in the type of the uses and gathered.
  mlir::Value gather(mlir::Value shard, const Bucket &bucket, llvm::StringRef why,
                     bool isBackward = false);
  /// The copy over groups of reshardGroup ranks, and the way back.
  mlir::Value keepInGroups(mlir::Value whole, const Bucket &bucket);
  mlir::Value gatherFromGroups(mlir::Value part, const Bucket &bucket);
  mlir::Type reduceType(const Bucket &bucket) {
    return config.reduceType ? config.reduceType : bucket.element;
  }
  /// The gradients of a bucket, values of `entry`, flat and unreduced, in reduceType. `pending`: of
  /// each the axes over which it is a term of a sum.
  mlir::Value pack(const Bucket &bucket, llvm::ArrayRef<mlir::Value> gradients,
                   llvm::ArrayRef<AxisList> pending, mlir::Value before = {});
  /// Sum over the bucket's shard axes: this rank's part where gradients are sharded.
  mlir::Value scatterSum(mlir::Value flat, const Bucket &bucket);
  /// Sum over `dp_replicate`: what this rank owns of it where replicas share the optimizer's
  /// states.
  mlir::Value replicaSum(mlir::Value flat, const Bucket &bucket);
  /// [parts here]: sums of squares in fixed blocks. A part is what one rank of dp_shard and
  /// dp_replicate has if both cut the bucket.
  mlir::Value squares(mlir::Value gradient, const Bucket &bucket);
  /// Global norm of sum / tokens; `squares` by bucket.
  mlir::Value norm(llvm::ArrayRef<std::pair<const Bucket *, mlir::Value>> squares,
                   mlir::Value tokens);
  /// What gradients are multiplied by: 1 / tokens, and clipping.
  mlir::Value scale(mlir::Value norm, mlir::Value tokens);
  /// Updates parameter and optimizer states, unless `isGood` (i1 [], or null) says no.
  void update(const Bucket &bucket, mlir::Value gradient, mlir::Value scale, mlir::Value isGood);
  /// How many numbers are not finite, f32 [1].
  mlir::Value countNonFinite(mlir::Value gradient);
  mlir::Value isFinite(mlir::Value value);
  /// What is gathered once for all runs (FSDPConfig::keepsCompute), and how.
  mlir::Value computeState(const Bucket &bucket) {
    ShardLayout own = layout.of(bucket);
    return entry.state(bucket, "compute_parameter", bucket.compute,
                       config.keepsWhole(own) ? AxisList() : own.inner());
  }
  mlir::Value computeOf(mlir::Value owned, const Bucket &bucket, llvm::StringRef why) {
    return config.keepsWhole(layout.of(bucket)) ? gather(owned, bucket, why)
                                                : gatherReplicas(owned, bucket);
  }

private:
  template <typename Op, typename... Args>
  mlir::Value collective(const AxisList &over, llvm::StringRef why, mlir::RankedTensorType type,
                         mlir::Value input, Args... args);
  mlir::Value castTo(mlir::Value value, mlir::Type element);
  mlir::Value addSlots(mlir::Value slots, int64_t groups);
  mlir::Value onlyFirst(mlir::Value gradient, const AxisList &axes);
  AxisList groupAxes(const Bucket &bucket);
  mlir::Location loc() { return entry.loc(); }

  EntryFunction &entry;
  mlir::OpBuilder &builder;
  const ShardLayout &layout;
  const FSDPConfig &config;
};

} // namespace shardc

#endif // SHARDC_LIB_FSDP_BUCKETCODE_H
