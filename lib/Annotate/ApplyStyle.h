//===- ApplyStyle.h - Styles to shardings and constraints -----------------===//

#ifndef SHARDC_LIB_ANNOTATE_APPLYSTYLE_H
#define SHARDC_LIB_ANNOTATE_APPLYSTYLE_H

#include "ParameterUses.h"
#include "shardc/Annotate/Plan.h"

#include "dialects/Shard/Shard.h"

namespace shardc {

/// Puts styles on one function's values.
class StyleApplier {
public:
  /// `tpAxis`: -1 if the mesh has none. `experts`: the axes over which experts are cut.
  StyleApplier(shard::MeshOp mesh, int tpAxis, AxisList experts, bool sequenceParallel)
      : meshOp(mesh), mesh(mesh.getMesh()), tpAxis(tpAxis), experts(std::move(experts)),
        sequenceParallel(sequenceParallel) {}

  /// Shardings and constraints of one parameter that `entry` names; an error names parameter, sizes
  /// and plan line.
  mlir::LogicalResult apply(graph::ParameterOp parameter, const PlanEntry &entry);

  /// Styles of a module without parameters of its own: its outputs are summed (moe_tp_experts,
  /// all_reduce).
  void reduceOutputs(mlir::func::FuncOp function, llvm::StringRef modulePath,
                     const PlanEntry &entry);

  /// ep_dispatch_experts: the products of the modules or roles that `entry` names, if their experts
  /// are cut. How many products that were.
  size_t dispatch(mlir::func::FuncOp function, const PlanEntry &entry);

  int64_t tpSize() const { return tpAxis < 0 ? 1 : mesh.axes[tpAxis].size; }
  const AxisList &expertAxes() const { return experts; }
  bool anyExperts() const { return hasExperts; }
  const Mesh &getMesh() const { return mesh; }
  mlir::FlatSymbolRefAttr meshSymbol() {
    return mlir::FlatSymbolRefAttr::get(meshOp.getSymNameAttr());
  }

private:
  /// How many ways a dimension of the parameter is cut, given the heads that it consists of.
  mlir::FailureOr<int64_t> ways(graph::ParameterOp parameter, const ParameterUse &use, int64_t dim,
                                const PlanEntry &entry);
  mlir::LogicalResult shardExperts(graph::ParameterOp parameter, llvm::ArrayRef<ParameterUse> uses,
                                   const PlanEntry &entry);
  mlir::LogicalResult shardDim(graph::ParameterOp parameter, const ParameterUse &use, int64_t dim,
                               const PlanEntry &entry);
  void constrainActivations(graph::ParameterOp parameter, const ParameterUse &use,
                            const PlanEntry &entry);
  /// Constrains a value: `dims` per dimension -1 open, 0 whole, 1 over tp.
  mlir::Value constrain(mlir::Value value, llvm::ArrayRef<int> dims, llvm::StringRef origin);
  void constrainSequence(mlir::Value value, bool cut, llvm::StringRef origin);

  shard::MeshOp meshOp;
  Mesh mesh;
  int tpAxis;
  AxisList experts;
  llvm::SmallPtrSet<mlir::Operation *, 8> cutExperts; ///< products whose experts are cut
  bool sequenceParallel, hasExperts = false;
};

} // namespace shardc

#endif // SHARDC_LIB_ANNOTATE_APPLYSTYLE_H
