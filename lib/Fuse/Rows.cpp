//===- Rows.cpp - What joins a row op -------------------------------------===//
//
// A row kernel works row by row, with the row in cache. Around the row op that founded it there
// join, in program order:
//
//   * elementwise ops and further row ops over the same rows that read a member, also through a
//     broadcast of a value per row;
//   * the elementwise producer of its input, if others want that value too: it is then a second
//     result (residual sum and norm).
//
// Whatever else a joining op reads must be defined before the group's first op, so that no other
// kernel comes to lie between two members.
//
//===----------------------------------------------------------------------===//
#include "Grouping.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {

static ArrayRef<int64_t> shapeOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getShape();
}

int64_t trailingDims(Operation *op) {
  int64_t rank = shapeOf(op->getOperand(0)).size();
  if (auto softmax = dyn_cast<SoftmaxOp>(op))
    return static_cast<int64_t>(softmax.getDim()) == rank - 1 ? 1 : 0;
  if (auto norm = dyn_cast<RmsNormOp>(op))
    return norm.getNormDims();
  if (auto norm = dyn_cast<LayerNormOp>(op))
    return norm.getNormDims();
  auto reduce = dyn_cast<ReduceOp>(op);
  if (!reduce)
    return 0;
  int64_t count = reduce.getDims().size();
  return llvm::all_of(reduce.getDims(), [&](int64_t d) { return d >= rank - count; }) ? count : 0;
}

/// One value per row, with or without dimensions of size one behind.
static bool isRowShape(ArrayRef<int64_t> shape, ArrayRef<int64_t> full, int64_t trailing) {
  ArrayRef<int64_t> rows = full.drop_back(trailing);
  return shape.size() >= rows.size() && shape.size() <= full.size() &&
         shape.take_front(rows.size()) == rows &&
         llvm::all_of(shape.drop_front(rows.size()), [](int64_t size) { return size == 1; });
}

/// From one value per row to the full shape, or a reshape of values per row.
static bool spreadsRows(Operation *op, ArrayRef<int64_t> full, int64_t trailing) {
  if (!isa<ReshapeOp, BroadcastOp>(op))
    return false;
  ArrayRef<int64_t> from = shapeOf(op->getOperand(0)), to = shapeOf(op->getResult(0));
  if (!isRowShape(from, full, trailing))
    return false;
  if (isa<ReshapeOp>(op))
    return isRowShape(to, full, trailing);
  auto broadcast = cast<BroadcastOp>(op);
  if (to != full && !isRowShape(to, full, trailing))
    return false;
  for (auto [i, dim] : llvm::enumerate(broadcast.getDims()))
    if (static_cast<int64_t>(i) != dim && from[i] != 1)
      return false;
  return true;
}

/// Whether an op joins a row group; `between` receives the ops that carry a member's values to it.
bool Grouping::joinsRows(const KernelGroup &group, Operation *op,
                         SmallVectorImpl<Operation *> &between) {
  ArrayRef<int64_t> full = shapeOf(group.anchor->getOperand(0));
  int64_t trailing = trailingDims(group.anchor);
  bool isRowOp = loweringClass(op) == LoweringClass::Row;
  if (isRowOp ? trailingDims(op) != trailing || shapeOf(op->getOperand(0)) != full
              : !op->hasTrait<OpTrait::Elementwise>() ||
                    (shapeOf(op->getResult(0)) != full &&
                     !isRowShape(shapeOf(op->getResult(0)), full, trailing)))
    return false;
  bool readsMember = false;
  Operation *first = group.members.front();
  for (auto [i, operand] : llvm::enumerate(op->getOperands())) {
    // Back through what carries values per row, as long as nobody else reads it.
    SmallVector<Operation *> chain;
    Value source = operand;
    while (Operation *producer = source.getDefiningOp()) {
      if (memberOf.lookup(producer) == &group || !spreadsRows(producer, full, trailing) ||
          !source.hasOneUse() || memberOf.count(producer))
        break;
      chain.push_back(producer);
      source = producer->getOperand(0);
    }
    Operation *producer = source.getDefiningOp();
    if (producer && memberOf.lookup(producer) == &group) {
      if (isRowOp && i != 0)
        return false; // a weight that depends on the row
      readsMember = true;
      between.append(chain.rbegin(), chain.rend());
      continue;
    }
    Operation *definition = operand.getDefiningOp();
    bool isEarly = !definition || definition->isBeforeInBlock(first) ||
                   isa<ParameterOp, graph::ConstantOp>(definition);
    // A broadcast of something early is early, wherever it is written.
    if (auto broadcast = dyn_cast_or_null<BroadcastOp>(definition)) {
      Operation *from = broadcast.getInput().getDefiningOp();
      isEarly |= !from || from->isBeforeInBlock(first) || isa<ParameterOp, graph::ConstantOp>(from);
    }
    if (!isEarly)
      return false;
  }
  return readsMember;
}

/// The sum that is normed and carried on: computed here, as a result of its own.
void Grouping::pullProducer(KernelGroup &group) {
  Operation *op = group.anchor, *producer = op->getOperand(0).getDefiningOp();
  if (!producer || !producer->hasTrait<OpTrait::Elementwise>() || memberOf.count(producer) ||
      producer->hasOneUse())
    return;
  for (Value operand : llvm::drop_begin(op->getOperands()))
    if (Operation *definition = operand.getDefiningOp();
        definition && !isa<ParameterOp, graph::ConstantOp>(definition) &&
        !definition->isBeforeInBlock(producer))
      return;
  group.members.insert(group.members.begin(), producer);
  memberOf[producer] = &group;
}

/// A sweep in program order: who reads a member comes after it. It ends behind the last op that
/// reads a member, or reads what carries a member's values per row.
void Grouping::growRows(KernelGroup &group) {
  int64_t trailing = trailingDims(group.anchor);
  ArrayRef<int64_t> full = shapeOf(group.anchor->getOperand(0));
  if (trailing == 0 || ShapedType::getNumElements(full.take_back(trailing)) <= 1)
    return;
  pullProducer(group);
  Operation *last = group.anchor;
  DenseSet<Operation *> reached; // members, and what carries their values
  auto reach = [&](Operation *op) {
    reached.insert(op);
    for (Operation *user : op->getUsers())
      if (last->isBeforeInBlock(user))
        last = user;
  };
  for (Operation *member : group.members)
    reach(member);
  for (Operation *op = group.members.front(); op != last;) {
    op = op->getNextNode();
    if (op->getNumOperands() == 0 || memberOf.count(op) ||
        loweringClass(op) == LoweringClass::Source)
      continue;
    if (spreadsRows(op, full, trailing) && reached.contains(op->getOperand(0).getDefiningOp())) {
      reach(op);
      continue;
    }
    SmallVector<Operation *> between;
    if (!joinsRows(group, op, between))
      continue;
    for (Operation *link : between)
      if (!memberOf.count(link))
        addMember(group, link);
    addMember(group, op);
    reach(op);
  }
}

} // namespace shardc
