//===- EntryFunction.h - A function that works on states ------------------===//

#ifndef SHARDC_LIB_FSDP_ENTRYFUNCTION_H
#define SHARDC_LIB_FSDP_ENTRYFUNCTION_H

#include "Buckets.h"

#include "llvm/ADT/MapVector.h"

namespace shardc {

/// The data-parallel axes of a mesh, and what one state of a bucket is called and looks like.
struct ShardLayout {
  ShardLayout(shard::MeshOp meshOp, bool isSharded, bool cutsReplicas);

  shard::MeshOp meshOp;
  Mesh mesh;
  mlir::FlatSymbolRefAttr symbol;
  AxisList shards, replicate; ///< of size above 1
  bool isSharded;             ///< states of buckets are cut along `shards`
  bool cutsReplicas; ///< ... what the optimizer owns also along `replicate` (outer optimizer
                     ///< sharding)

  int64_t parts() const { return axesSize(shards); }
  int64_t replicas() const { return axesSize(replicate); }
  /// What cuts gathered parameters' shards and scattered gradients.
  AxisList inner() const { return isSharded ? shards : AxisList(); }
  /// What cuts main parameters, reduced gradients and the optimizer's states.
  AxisList owned() const;
  /// That of one bucket, which may have a part of `shards`, or nothing.
  ShardLayout of(const Bucket &bucket) const {
    ShardLayout own = *this;
    own.shards = bucket.shards;
    own.isSharded &= !own.shards.empty();
    return own;
  }
  mlir::ArrayAttr axes(const AxisList &list) const {
    return shard::axesAttr(symbol.getContext(), mesh, list);
  }
  mlir::NamedAttrList wholeScalar() const; ///< argument attributes
  mlir::NamedAttrList perRank(mlir::RankedTensorType flat) const;
};

/// One entry of the bundle on its way: arguments and results are added by name, attributes are set
/// at the end.
class EntryFunction {
public:
  /// Continues `function`, whose results are dropped.
  EntryFunction(mlir::func::FuncOp function, const ShardLayout &layout);
  /// A new one, behind `after`.
  static EntryFunction create(llvm::StringRef name, mlir::func::FuncOp after,
                              const ShardLayout &layout);

  /// A named input, f32 [].
  mlir::Value scalar(llvm::StringRef name);
  /// The state's value now: what was last set, or what it has at the start.
  /// `role`: what is before a '/' is the state's role, the whole its name. `cut`: axes that cut it.
  /// `pending`: those along which ranks hold terms of a sum.
  mlir::Value state(const Bucket &bucket, llvm::StringRef role, mlir::Type element,
                    const AxisList &cut, const AxisList &pending = {});
  mlir::Value scalarState(llvm::StringRef name);
  void setState(mlir::Value before, mlir::Value now) { updates[before] = now; }
  /// A scalar that is the same on all ranks, or a flat tensor of which each rank has its own.
  void output(llvm::StringRef name, mlir::Value value) { outputs.push_back({name.str(), value}); }
  void finish(llvm::StringRef name);

  mlir::func::FuncOp function;
  mlir::OpBuilder builder;
  mlir::Block &block;
  mlir::Location loc() { return function.getLoc(); }

private:
  mlir::Value addArgument(mlir::RankedTensorType type, mlir::NamedAttrList attrs);
  mlir::Value addState(llvm::StringRef name, llvm::StringRef role, mlir::RankedTensorType type,
                       mlir::FlatSymbolRefAttr bucket, const AxisList &cut,
                       const Sharding &sharding);

  const ShardLayout &layout;
  llvm::StringMap<mlir::Value> arguments;
  llvm::MapVector<mlir::Value, mlir::Value> updates; ///< by argument
  llvm::SmallVector<std::pair<std::string, mlir::Value>> outputs;
};

} // namespace shardc

#endif // SHARDC_LIB_FSDP_ENTRYFUNCTION_H
