//===- PropagationGraph.h - Values and the rules between them -------------===//

#ifndef SHARDC_LIB_PROPAGATE_PROPAGATIONGRAPH_H
#define SHARDC_LIB_PROPAGATE_PROPAGATIONGRAPH_H

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"
#include "shardc/Sharding/FactorSharding.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <deque>
#include <set>

namespace shardc {

/// Where a value's axes come from.
struct AxisOrigin {
  AxisRef axis;
  mlir::StringAttr root;          ///< the plan line, parameter, argument or constraint that began
  mlir::Operation *via = nullptr; ///< the op whose rule brought it here; null at the root
};

/// A value of the program, or a result of a function (what calls get and returns give).
struct FlowValue {
  mlir::RankedTensorType type;
  Sharding sharding;
  llvm::SmallVector<AxisOrigin, 2> origins;
  llvm::SmallVector<int, 4> nodes; ///< those that it takes part in
};

/// When a rule takes part; each stage goes on with all of those before.
enum class FlowStage { PassThrough, All, Constraints };

/// One op with its rule, or the border between a call and its callee.
struct FlowNode {
  mlir::Operation *op;
  FlowStage stage;
  ShardingRule rule;
  llvm::SmallVector<int, 3> operands, results; ///< values by index
};

/// Input: a prepared module. Reads the shardings in it, spreads them, writes them back.
class PropagationGraph {
public:
  explicit PropagationGraph(shard::MeshOp mesh)
      : mesh(mesh.getMesh()), symbol(mlir::FlatSymbolRefAttr::get(mesh.getSymNameAttr())) {}

  mlir::LogicalResult build(mlir::ModuleOp module);
  void run();
  void write(mlir::ModuleOp module);

private:
  mlir::LogicalResult addFunction(mlir::func::FuncOp function);
  mlir::LogicalResult addOp(mlir::Operation *op);
  mlir::LogicalResult addCalls(mlir::ModuleOp module);
  void tieGradients(mlir::func::ReturnOp ret);
  void tieAliases(mlir::func::ReturnOp ret);
  mlir::FailureOr<int> addValue(mlir::Operation *place, mlir::Type type, shard::ShardingAttr attr,
                                mlir::StringAttr root);
  void addNode(FlowNode node);
  void addIdentity(mlir::Operation *op, FlowStage stage, int from, int to);

  void applyConstraints();
  void settle(FlowStage stage, int priority);
  bool visit(int node, int priority);
  PropagateResult spread(const FlowNode &node, int priority) const;
  bool isUseless(const FlowNode &node, size_t operand, const Sharding &proposed) const;
  void recordOrigins(int value, const Sharding &before, const FlowNode &node);

  shard::ShardingAttr attrOf(int value) const;
  mlir::StringAttr originOf(int value) const;
  void writeConflicts();

  Mesh mesh;
  mlir::FlatSymbolRefAttr symbol;
  std::vector<FlowValue> values;
  std::vector<FlowNode> nodes;
  llvm::DenseMap<mlir::Value, int> indexOf;
  llvm::DenseMap<mlir::Operation *, llvm::SmallVector<int, 2>> functionResults;
  std::set<int> priorities;
  llvm::SmallVector<std::pair<int, FlowValue>>
      constraints; ///< results of constraints, as they shall be
};

} // namespace shardc

#endif // SHARDC_LIB_PROPAGATE_PROPAGATIONGRAPH_H
