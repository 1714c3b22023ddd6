//===- Buckets.h - Which parameter lies where -----------------------------===//

#ifndef SHARDC_LIB_FSDP_BUCKETS_H
#define SHARDC_LIB_FSDP_BUCKETS_H

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "shardc/Support/NamePattern.h"

namespace shardc {

/// Units of what belongs to no layer: first used before the last one, or behind it.
inline constexpr llvm::StringLiteral kEmbedding = "embedding", kHead = "head";

/// One parameter (or segment) of the entry function.
struct TrainedParameter {
  mlir::StringAttr name;
  mlir::DenseI64ArrayAttr segment; ///< or null
  llvm::SmallVector<mlir::Value>
      values; ///< what users read: the ops' results, or their casts if all uses are one
  mlir::RankedTensorType local, global; ///< as stored
  mlir::RankedTensorType compute;       ///< local type that users read
  Sharding sharding;
  int gradient = -1; ///< result of the entry; -1: frozen
  std::string unit;
  int64_t offset = 0; ///< elements, in its bucket
};

/// Is a call of a layer's backward pass, or of what is computed again for it?
inline bool isBackward(mlir::Operation *op) {
  return op->hasAttr(shard::ShardDialect::kBackwardAttr) ||
         op->hasAttr(shard::ShardDialect::kRecomputeAttr);
}

/// Embeddings and heads are units too, but not layers.
inline bool isLayerUnit(llvm::StringRef unit) { return unit != kEmbedding && unit != kHead; }

/// Parameters of one unit, element types, trainability, decay and replication.
struct Bucket {
  std::string name, unit;
  mlir::Type element, compute;
  bool isTrained = true, hasDecay = true;
  bool hasMatrices = false; ///< of layers only, if matrices have an optimizer of their own (Muon)
  AxisList replicated; ///< axes of the mesh, other than the data-parallel ones, over which all its
                       ///< parameters are whole
  AxisList cut;    ///< the other ones, and parts of the data-parallel ones that cut them (experts)
  AxisList shards; ///< what `cut` leaves of the axes over which buckets are sharded
  llvm::SmallVector<TrainedParameter *> items;
  int64_t length = 0; ///< elements, padded

  int64_t parts() const { return axesSize(shards); }
};

/// All parameters of the entry function and their buckets, units in the order of their first use.
struct BucketPlan {
  std::vector<std::unique_ptr<TrainedParameter>> parameters;
  std::vector<Bucket> buckets;
  /// Last layer of each list of layers: its unit stays gathered between forward and backward pass
  /// by default.
  llvm::StringMap<bool> isLast;
};

/// `shards`: axes over which buckets are sharded; a bucket can be cut into `replicas` times as many
/// parts. `noDecay`: names without weight decay. `splitMatrices`: matrices of layers
/// have buckets of their own.
mlir::FailureOr<BucketPlan> planBuckets(mlir::func::FuncOp entry, const Mesh &mesh,
                                        const AxisList &shards, int64_t replicas,
                                        const NamePattern &noDecay, bool splitMatrices);

} // namespace shardc

#endif // SHARDC_LIB_FSDP_BUCKETS_H
