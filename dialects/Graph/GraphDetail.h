//===- GraphDetail.h - Helpers that the generated op methods call ---------===//

#ifndef SHARDC_DIALECTS_GRAPH_GRAPHDETAIL_H
#define SHARDC_DIALECTS_GRAPH_GRAPHDETAIL_H

#include "dialects/Graph/Graph.h"

namespace shardc::graph::detail {

/// One factor per dimension, the same for all operands and results.
ShardingRule pointwiseRule(mlir::Operation *op);

/// Whether a tensor type has unsigned (or bool) elements.
bool isUnsignedElement(mlir::Type tensorType);

/// Whether operand `index` belongs to one of the operands that ODS gives these numbers.
template <typename Op>
bool isInSegments(Op op, unsigned index, std::initializer_list<unsigned> odsOperands) {
  return llvm::any_of(odsOperands, [&](unsigned number) {
    auto [start, length] = op.getODSOperandIndexAndLength(number);
    return index >= start && index < start + length;
  });
}

using Evaluated = mlir::FailureOr<llvm::SmallVector<HostTensor>>;

/// Applies `fn` (to double or int64) to every element and rounds to the result's type.
template <typename Fn>
Evaluated evaluateUnary(mlir::Operation *op, llvm::ArrayRef<HostTensor> operands, Fn fn) {
  HostTensor result(llvm::cast<mlir::RankedTensorType>(op->getResult(0).getType()));
  const HostTensor &x = operands[0];
  for (size_t n = 0; n < x.f.size(); ++n)
    result.f[n] = fn(x.f[n]);
  if constexpr (std::is_invocable_v<Fn, int64_t>)
    for (size_t n = 0; n < x.i.size(); ++n)
      result.i[n] = fn(x.i[n]);
  result.round();
  return llvm::SmallVector<HostTensor>{std::move(result)};
}

template <typename Fn>
Evaluated evaluateBinary(mlir::Operation *op, llvm::ArrayRef<HostTensor> operands, Fn fn) {
  HostTensor result(llvm::cast<mlir::RankedTensorType>(op->getResult(0).getType()));
  const HostTensor &x = operands[0], &y = operands[1];
  for (size_t n = 0; n < x.f.size(); ++n)
    result.f[n] = fn(x.f[n], y.f[n]);
  for (size_t n = 0; n < x.i.size(); ++n)
    result.i[n] = fn(x.i[n], y.i[n]);
  result.round();
  return llvm::SmallVector<HostTensor>{std::move(result)};
}

} // namespace shardc::graph::detail

#endif // SHARDC_DIALECTS_GRAPH_GRAPHDETAIL_H
