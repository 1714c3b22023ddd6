//===- ParameterUses.h - What the dimensions of a weight do ---------------===//

#ifndef SHARDC_LIB_ANNOTATE_PARAMETERUSES_H
#define SHARDC_LIB_ANNOTATE_PARAMETERUSES_H

#include "dialects/Graph/Graph.h"

namespace shardc {

/// What a dimension of a weight is to the op that uses it.
enum class DimRole {
  None,
  Out,      ///< a feature of the result
  In,       ///< summed over
  Expert,   ///< one matrix each
  Gathered, ///< looked up by index: the vocabulary
  Vector    ///< elementwise with the last dimension of an activation: bias, norm weight
};

/// One use of a weight, reached through transposes, casts, broadcasts and gathers.
struct ParameterUse {
  mlir::OpOperand *operand = nullptr; ///< of the op that computes with it
  llvm::SmallVector<DimRole> roles;   ///< per dimension of the parameter
  llvm::SmallVector<int64_t> dims;    ///< dimension of the operand that each became, or -1

  mlir::Operation *op() const { return operand->getOwner(); }
  std::optional<int64_t> find(DimRole role) const {
    for (auto [dim, have] : llvm::enumerate(roles))
      if (have == role)
        return static_cast<int64_t>(dim);
    return std::nullopt;
  }
};

llvm::SmallVector<ParameterUse> findUses(graph::ParameterOp parameter);

/// Number of indivisible blocks (attention heads) along a dimension of a value: if what computes
/// with it splits the dimension in two, the size of the major part. `forward` looks at users,
/// otherwise at producers.
std::optional<int64_t> findBlocks(mlir::Value value, int64_t dim, bool forward);

/// The value that leaves a linear layer: the op's result, or after its bias is added.
mlir::Value linearOutput(mlir::Operation *op);

} // namespace shardc

#endif // SHARDC_LIB_ANNOTATE_PARAMETERUSES_H
