//===- Columns.cpp - Reductions over columns side by side -----------------===//
//
// Gradients of biases and of norm weights are sums over all rows. What is done with a sum as a
// gradient (it is widened, or added to what earlier micro-batches left) is done before it is
// stored. On GPUs several of them over matrices of one size become one kernel: each of them alone
// is short, and its launch takes longer than its work.
//
//===----------------------------------------------------------------------===//
#include "Grouping.h"
#include "shardc/Lower/EinsumPlan.h"
#include "shardc/Lower/LowerKernels.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {

/// Sums that a thread keeps for one kernel.
static constexpr size_t kMostColumns = 6;

/// Rows and columns of the matrix that a reduction goes down; nothing if it keeps more than its
/// columns.
static std::optional<std::pair<int64_t, int64_t>> matrixOf(const KernelGroup &group) {
  if (!group.anchor || !isColumnReduction(group.anchor))
    return std::nullopt;
  auto input = cast<RankedTensorType>(group.anchor->getOperand(0).getType());
  int64_t columns = cast<RankedTensorType>(group.anchor->getResult(0).getType()).getNumElements();
  auto last =
      llvm::find_if(llvm::reverse(input.getShape()), [](int64_t size) { return size != 1; });
  if (columns != *last || input.getElementType().getIntOrFloatBitWidth() > 32)
    return std::nullopt;
  return std::pair(input.getNumElements() / columns, columns);
}

void Grouping::growColumns(KernelGroup &group) {
  for (Value value = group.anchor->getResult(0); value.hasOneUse();
       value = group.members.back()->getResult(0)) {
    Operation *next = *value.user_begin();
    auto add = dyn_cast<AddOp>(next);
    Value addend = add ? addendOf(add, value) : Value();
    auto cast = dyn_cast<CastOp>(next);
    bool isFloat = cast && isa<FloatType>(cast.getType().getElementType());
    if (memberOf.count(next) || !(isFloat || (addend && isInMemory(addend))))
      return;
    if (addend)
      required.insert(addend);
    addMember(group, next);
  }
}

void Grouping::joinColumns() {
  for (size_t j = 1; j < groups.size(); ++j)
    for (size_t i = 0; i < j; ++i) {
      KernelGroup &into = *groups[i], &from = *groups[j];
      auto matrix = matrixOf(into);
      auto sums = [](const KernelGroup &group) {
        return static_cast<size_t>(llvm::count_if(group.members, isColumnReduction));
      };
      if (!matrix || matrix != matrixOf(from) || sums(into) + sums(from) > kMostColumns ||
          isBetween(into, from) || isBetween(from, into))
        continue;
      join(into, from);
      groups.erase(groups.begin() + j--);
      break;
    }
}

} // namespace shardc
