//===- Siblings.cpp - Kernels side by side --------------------------------===//
//
// On GPUs, kernels over one shape that read the same tensor become one kernel with several results:
// it is read once, and one launch is less.
//
//   * Kernels of index lambdas. What one of them needs of another must be the same element,
//     computed in passing. Example: the backward pass of a gated activation, whose three products
//     all read the gate.
//   * Kernels over the same rows. Example: a norm that is computed again and its own backward pass.
//
// Two groups may be joined if no way leads from one to the other through anything else: as a
// launch, a kernel needs all that any of its results needs.
//
//===----------------------------------------------------------------------===//
#include "Grouping.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {

/// Registers are for what is computed from one element, or kept of one row.
static constexpr size_t kMostMembers = 8, kMostRowOps = 6;

/// Does the op read of its operands only the element that it computes?
static bool keepsPosition(Operation *op, Type type) {
  return op->hasTrait<OpTrait::Elementwise>() && op->getResult(0).getType() == type;
}

static Type typeOf(const KernelGroup &group) {
  return group.members.front()->getResult(0).getType();
}

static bool isRowOp(Operation *op) { return loweringClass(op) == LoweringClass::Row; }
/// Kernels of rows have their rows' shape, others that of all their results.
static ArrayRef<int64_t> shapeOf(const KernelGroup &group) {
  return cast<ShapedType>(group.anchor ? group.anchor->getOperand(0).getType() : typeOf(group))
      .getShape();
}

/// Tensors as large as the results that the group reads from memory.
llvm::SetVector<Value> Grouping::largeInputs(const KernelGroup &group) const {
  llvm::SetVector<Value> inputs;
  llvm::SmallPtrSet<Operation *, 16> seen;
  int64_t size = ShapedType::getNumElements(shapeOf(group));
  SmallVector<Operation *> work(group.members);
  while (!work.empty()) {
    Operation *op = work.pop_back_val();
    if (!seen.insert(op).second)
      continue;
    for (OpOperand &operand : op->getOpOperands()) {
      Operation *producer = operand.get().getDefiningOp();
      if (producer && inlined.contains(producer))
        work.push_back(producer);
      else if ((!producer || groupOf(producer) != &group) &&
               cast<ShapedType>(operand.get().getType()).getNumElements() == size)
        inputs.insert(operand.get());
    }
  }
  return inputs;
}

/// Does anything but pointwise ops inside of the two lead from `from` to `to`?
bool Grouping::isBetween(const KernelGroup &from, const KernelGroup &to) const {
  Type type = typeOf(from);
  llvm::SmallPtrSet<Operation *, 32> direct,
      other; // ops that depend on `from`: element by element, or otherwise
  SmallVector<std::pair<Operation *, bool>> work;
  auto follow = [&](Operation *op, bool isDirect) {
    for (Operation *user : op->getUsers())
      work.push_back({user, isDirect});
  };
  for (Operation *member : from.members)
    follow(member, !from.anchor && !to.anchor);
  while (!work.empty()) {
    auto [op, isDirect] = work.pop_back_val();
    const KernelGroup *group = groupOf(op);
    if (group == &from)
      continue;
    bool keeps = isDirect && keepsPosition(op, type);
    if (group == &to) {
      if (!keeps)
        return true;
      continue;
    }
    keeps &= inlined.contains(op);
    if (!(keeps ? direct : other).insert(op).second)
      continue;
    if (!group)
      follow(op, keeps);
    else // a launch needs what any of its results needs
      for (Operation *member : group->members)
        follow(member, false);
  }
  return false;
}

bool Grouping::canJoin(const KernelGroup &a, const KernelGroup &b) const {
  if (&a == &b || !a.anchor != !b.anchor || shapeOf(a) != shapeOf(b))
    return false;
  if (!a.anchor && (typeOf(a) != typeOf(b) || a.members.size() + b.members.size() > kMostMembers))
    return false;
  auto rowOps = [](const KernelGroup &group) {
    return static_cast<size_t>(llvm::count_if(group.members, isRowOp));
  };
  if (a.anchor &&
      (trailingDims(a.anchor) == 0 || trailingDims(a.anchor) != trailingDims(b.anchor) ||
       rowOps(a) + rowOps(b) > kMostRowOps))
    return false;
  return !isBetween(a, b) && !isBetween(b, a);
}

void Grouping::join(KernelGroup &into, KernelGroup &from) {
  for (Operation *member : from.members)
    addMember(into, member);
  llvm::sort(into.members, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });
}

void Grouping::joinSiblings() {
  llvm::MapVector<Value, SmallVector<KernelGroup *>> readers;
  for (const auto &group : groups)
    if (!group->anchor || isRowOp(group->anchor))
      for (Value input : largeInputs(*group))
        readers[input].push_back(group.get());
  llvm::DenseMap<KernelGroup *, KernelGroup *> joined;
  auto find = [&](KernelGroup *group) {
    while (KernelGroup *into = joined.lookup(group))
      group = into;
    return group;
  };
  for (auto &[input, list] : readers)
    for (size_t j = 1; j < list.size(); ++j)
      for (size_t i = 0; i < j; ++i) {
        KernelGroup *into = find(list[i]), *from = find(list[j]);
        if (!canJoin(*into, *from))
          continue;
        join(*into, *from);
        joined[from] = into;
      }
  llvm::erase_if(
      groups, [&](const std::unique_ptr<KernelGroup> &group) { return joined.count(group.get()); });
}

} // namespace shardc
