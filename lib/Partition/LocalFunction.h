//===- LocalFunction.h - One function on its way from global to local -----===//

#ifndef SHARDC_LIB_PARTITION_LOCALFUNCTION_H
#define SHARDC_LIB_PARTITION_LOCALFUNCTION_H

#include "Padding.h"
#include "Resharder.h"

#include "shardc/Sharding/FactorSharding.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringMap.h"

namespace shardc {

/// Global types and shardings at the border of a partitioned function.
struct Signature {
  llvm::SmallVector<Sharding> arguments, results;
};
using Signatures = llvm::StringMap<Signature>;
using Weights = llvm::DenseSet<mlir::Value>;

/// What a device holds of one value of the global program.
struct LocalValue {
  Sharding sharding;             ///< as it was made
  mlir::Value value;             ///< local, under `sharding`
  mlir::DenseElementsAttr splat; ///< set if all elements are equal
  llvm::SmallVector<std::pair<Sharding, mlir::Value>>
      reshards; ///< under other shardings, each made once
};

/// Is it a parameter, perhaps in another shape or element type?
bool isWeight(mlir::Value value, const Weights &arguments);

/// Builds the local program of one function into a new entry block. Callees must be done before.
class LocalFunction {
public:
  /// `weights`: arguments through which parameters come in.
  LocalFunction(mlir::func::FuncOp function, Resharder &resharder, Signatures &signatures,
                const Weights &weights)
      : function(function), resharder(resharder), mesh(resharder.getMesh()), signatures(signatures),
        weights(weights), builder(function.getContext()), begins(mesh, resharder.getSymbol()) {}

  mlir::LogicalResult run();

private:
  mlir::LogicalResult addArguments();
  mlir::LogicalResult convert(mlir::Operation &op);
  mlir::LogicalResult convertConstant(graph::ConstantOp op);
  mlir::LogicalResult convertParameter(graph::ParameterOp op);
  mlir::LogicalResult convertReshard(mlir::Operation &op, shard::ShardingAttr to);
  mlir::LogicalResult convertCall(mlir::func::CallOp op);
  mlir::LogicalResult convertReturn(mlir::func::ReturnOp op);
  mlir::Value zeroPadding(mlir::Value global, mlir::Value local, const Sharding &sharding);
  mlir::LogicalResult convertWithRule(graph::ShardingRuleOpInterface op);
  mlir::LogicalResult finish();

  mlir::FailureOr<FactorAssignment> choose(mlir::Operation *op, const ShardingRule &rule);
  mlir::FailureOr<mlir::Value> prepareOperand(mlir::OpOperand &operand, const ShardingRule &rule,
                                              const FactorAssignment &choice);
  llvm::SmallVector<mlir::Value> buildLocal(mlir::Operation *op, mlir::ValueRange operands,
                                            const FactorAssignment &choice);

  /// Sharding that the program gives a value; nullopt if none.
  mlir::FailureOr<std::optional<Sharding>> annotated(mlir::Operation *op, unsigned result);
  mlir::FailureOr<std::optional<Sharding>> resolve(mlir::Operation *op, shard::ShardingAttr attr,
                                                   mlir::Type type);
  mlir::FailureOr<mlir::Value> get(mlir::Value global, const Sharding &to,
                                   const ReshardReason &reason);
  /// Records a result, under the program's sharding for it if there is one, else with pending sums
  /// resolved.
  mlir::LogicalResult define(mlir::OpResult global, mlir::Value local, const Sharding &made,
                             llvm::StringRef choice = "");

  mlir::func::FuncOp function;
  Resharder &resharder;
  const Mesh &mesh;
  Signatures &signatures;
  const Weights &weights;
  mlir::OpBuilder builder;
  PartBegins begins;
  llvm::DenseMap<mlir::Value, LocalValue> values;
  llvm::DenseSet<mlir::Value> zeroPadded; ///< local values whose padding is known to be zero
};

} // namespace shardc

#endif // SHARDC_LIB_PARTITION_LOCALFUNCTION_H
