//===- Siblings.cpp - Pointwise kernels side by side ----------------------===//
//
// On GPUs, kernels of index lambdas over one shape that read the same tensor become one kernel with several results: it is read once, and
// one launch is less. What one of them needs of another must be the same element, computed in passing. Example: the backward pass of a gated
// activation, whose three products all read the gate.
//
// Two groups may be joined if no way leads from one to the other through anything else: as a launch, a kernel needs all that any of its
// results needs.
//
//===----------------------------------------------------------------------===//
#include "Grouping.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {

static constexpr size_t kMostMembers = 8;

/// Does the op read of its operands only the element that it computes?
static bool keepsPosition(Operation *op, Type type) {
  return op->hasTrait<OpTrait::Elementwise>() && op->getResult(0).getType() == type;
}

static Type typeOf(const KernelGroup &group) { return group.members.front()->getResult(0).getType(); }

/// Tensors as large as the results that the group reads from memory.
llvm::SetVector<Value> Grouping::largeInputs(const KernelGroup &group) const {
  llvm::SetVector<Value> inputs;
  llvm::SmallPtrSet<Operation *, 16> seen;
  int64_t size = cast<ShapedType>(typeOf(group)).getNumElements();
  SmallVector<Operation *> work(group.members);
  while (!work.empty()) {
    Operation *op = work.pop_back_val();
    if (!seen.insert(op).second)
      continue;
    for (OpOperand &operand : op->getOpOperands()) {
      Operation *producer = operand.get().getDefiningOp();
      if (producer && inlined.contains(producer))
        work.push_back(producer);
      else if ((!producer || groupOf(producer) != &group) && cast<ShapedType>(operand.get().getType()).getNumElements() == size)
        inputs.insert(operand.get());
    }
  }
  return inputs;
}

/// Does anything but pointwise ops inside of the two lead from `from` to `to`?
bool Grouping::isBetween(const KernelGroup &from, const KernelGroup &to) const {
  Type type = typeOf(from);
  llvm::SmallPtrSet<Operation *, 32> direct, other; // ops that depend on `from`: element by element, or otherwise
  SmallVector<std::pair<Operation *, bool>> work;
  auto follow = [&](Operation *op, bool isDirect) {
    for (Operation *user : op->getUsers())
      work.push_back({user, isDirect});
  };
  for (Operation *member : from.members)
    follow(member, true);
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
  return &a != &b && !a.anchor && !b.anchor && typeOf(a) == typeOf(b) && a.members.size() + b.members.size() <= kMostMembers &&
         !isBetween(a, b) && !isBetween(b, a);
}

void Grouping::joinSiblings() {
  llvm::MapVector<Value, SmallVector<KernelGroup *>> readers;
  for (const auto &group : groups)
    if (!group->anchor)
      for (Value input : largeInputs(*group))
        readers[input].push_back(group.get());
  llvm::DenseMap<KernelGroup *, KernelGroup *> joined;
  auto find = [&](KernelGroup *group) {
    while (KernelGroup *into = joined.lookup(group))
      group = into;
    return group;
  };
  for (auto &[input, list] : readers)
    for (size_t i = 1; i < list.size(); ++i) {
      KernelGroup *into = find(list[i - 1]), *from = find(list[i]);
      if (!canJoin(*into, *from))
        continue;
      for (Operation *member : from->members)
        addMember(*into, member);
      llvm::sort(into->members, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });
      joined[from] = into;
    }
  llvm::erase_if(groups, [&](const std::unique_ptr<KernelGroup> &group) { return joined.count(group.get()); });
}

} // namespace shardc
