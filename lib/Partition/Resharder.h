//===- Resharder.h - From a planned route to collectives ------------------===//

#ifndef SHARDC_LIB_PARTITION_RESHARDER_H
#define SHARDC_LIB_PARTITION_RESHARDER_H

#include "dialects/Shard/Shard.h"
#include "shardc/Sharding/Reshard.h"

namespace shardc {

mlir::RankedTensorType localType(const Sharding &sharding, mlir::RankedTensorType global);

/// Who asked for a reshard.
struct ReshardReason {
  mlir::Operation *op;         ///< of the global program
  std::string what;            ///< "operand 1", "result 0", …
  llvm::StringRef choice = ""; ///< why the op wants this sharding, and what lost to it
};

class Resharder {
public:
  explicit Resharder(shard::MeshOp op)
      : symbol(mlir::FlatSymbolRefAttr::get(op.getSymNameAttr())),
        planner(op.getMesh(), shard::getMeshCosts(op)) {}

  const Mesh &getMesh() const { return planner.getMesh(); }
  ReshardPlanner &getPlanner() { return planner; }
  mlir::FlatSymbolRefAttr getSymbol() const { return symbol; }

  /// `local`, a part of a tensor of type `global` under `from`, under `to`. Emits an error on the
  /// reason's op if there is no route.
  mlir::FailureOr<mlir::Value> reshard(mlir::OpBuilder &b, mlir::Value local,
                                       mlir::RankedTensorType global, const Sharding &from,
                                       const Sharding &to, const ReshardReason &reason);

private:
  mlir::Operation *emitStep(mlir::OpBuilder &b, mlir::Location loc, mlir::Value input,
                            mlir::RankedTensorType global, const ReshardStep &step);

  mlir::FlatSymbolRefAttr symbol;
  ReshardPlanner planner;
};

} // namespace shardc

#endif // SHARDC_LIB_PARTITION_RESHARDER_H
