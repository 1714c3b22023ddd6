//===- Grouping.cpp - Which ops become one kernel -------------------------===//
//
// 1. Every op that is not an index lambda founds a group (contraction, attention, row op, op of
//    class Loops) and takes in what can be done on its result while it is in registers: elementwise
//    ops behind a contraction (of CPUs: on GPUs they join the rows that follow), transposes behind
//    an attention, ops over the same rows around a row op.
// 2. From the last op to the first, each index lambda is either inlined into its consumers or
//    founds a group of its own, whichever is less work: computing it again per evaluation against
//    writing it once and reading it back. A value that somebody needs in memory (a result, a
//    collective, a call, an operand that is read by strides) has no choice; if a pointwise kernel
//    goes on computing with it, that kernel writes it too.
// 3. Reshapes of memory need no kernel: they stay, as another name of the same buffer, and so do
//    slices that are contiguous there.
//
//===----------------------------------------------------------------------===//
#include "Grouping.h"
#include "shardc/Lower/EinsumPlan.h"
#include "shardc/Lower/LowerKernels.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {

/// What one more kernel and writing an element cost, in evaluations of an addition.
static constexpr double kLaunchWork = 4000, kWriteWork = 6;

LoweringClass loweringClass(Operation *op) {
  auto lowerable = dyn_cast<LoweringOpInterface>(op);
  return lowerable ? lowerable.getLoweringClass() : LoweringClass::Source;
}

bool isSplatConstant(Operation *op) {
  auto constant = dyn_cast<graph::ConstantOp>(op);
  return constant && constant.getValue().isSplat();
}

/// Does `op` only give memory another name?
static bool isMemoryView(Operation *op) {
  auto slice = dyn_cast<SliceOp>(op);
  return isa<ReshapeOp>(op) || (slice && contiguousBegin(slice));
}

static bool isElement(Operation *op) { return op && loweringClass(op) == LoweringClass::Element; }

static double elements(Value value) {
  return cast<RankedTensorType>(value.getType()).getNumElements();
}

/// Work to compute one element from memory, counting a load as one.
static double workPerElement(Value value, int depth = 0) {
  Operation *op = value.getDefiningOp();
  if (!op || !isElement(op) || depth > 4)
    return 1;
  if (isSplatConstant(op))
    return 0;
  // Branches and indirect addresses cannot be vectorised.
  double work = isa<GatherOp, GatherNdOp, GatherElementsOp, ConcatOp, PadOp>(op) ? 6 : 0;
  if (auto costs = dyn_cast<CostOpInterface>(op))
    work += costs.getCost().flops / std::max(1.0, elements(value));
  for (Value operand : op->getOperands())
    work += workPerElement(operand, depth + 1);
  return work;
}

Grouping::Grouping(func::FuncOp function, Target target) : function(function), target(target) {
  Block &block = function.getBody().front();
  for (Operation &op : block)
    if (loweringClass(&op) > LoweringClass::Element)
      formAnchorGroup(&op);
  for (Operation &op : block) // sums that waited for a product, which took others
    if (loweringClass(&op) == LoweringClass::Row && !memberOf.count(&op))
      growSums(newGroup(&op, &op));
  for (Operation &op : llvm::reverse(block))
    decide(&op);
  if (target == Target::Cuda) {
    joinSiblings();
    joinColumns();
  }
}

KernelGroup &Grouping::newGroup(Operation *anchor, Operation *member) {
  groups.push_back(std::make_unique<KernelGroup>());
  groups.back()->anchor = anchor;
  groups.back()->members.push_back(member);
  memberOf[member] = groups.back().get();
  return *groups.back();
}

void Grouping::addMember(KernelGroup &group, Operation *op) {
  group.members.push_back(op);
  memberOf[op] = &group;
}

void Grouping::formAnchorGroup(Operation *op) {
  if (memberOf.count(op))
    return; // a row op that joined another
  if (auto sums = dyn_cast<ReduceOp>(op); sums && target == Target::Cuda && productBeside(sums))
    return; // joins that
  KernelGroup &group = newGroup(op, op);
  if (auto einsum = dyn_cast<EinsumOp>(op)) {
    if (target == Target::Cpu)
      growEpilogue(group, einsum);
    else
      growLibraryEpilogue(group, einsum);
  } else if (isa<AttentionOp, AttentionGradOp>(op)) {
    for (Value result : op->getResults())
      absorbResultViews(group, result);
  } else if (loweringClass(op) == LoweringClass::Row) {
    growSums(group);
  }
}

void Grouping::growSums(KernelGroup &group) {
  isColumnReduction(group.anchor) ? growColumns(group) : growRows(group);
}

/// An operand as strides over memory. What a group computes is only in memory at its end.
StridedView Grouping::stridedView(Value value) const {
  return viewOf(value, [&](Operation *op) { return !memberOf.count(op); });
}

void Grouping::readByStrides(OpOperand &operand) {
  Value base = stridedView(operand.get()).base;
  strideBases[&operand] = base;
  required.insert(base);
}

void Grouping::requireOperands(Operation *op) {
  for (Value operand : op->getOperands())
    required.insert(operand);
}

/// Operands of a matrix multiplication are read by strides where that is possible.
void Grouping::planEinsumOperands(EinsumOp op) {
  StridedView lhs = stridedView(op.getLhs()), rhs = stridedView(op.getRhs());
  Strides plainLhs = contiguousStrides(op.getLhs().getType().getShape()),
          plainRhs = contiguousStrides(op.getRhs().getType().getShape());
  Strides result = contiguousStrides(op.getType().getShape());
  auto works = [&](ArrayRef<int64_t> l, ArrayRef<int64_t> r) {
    std::optional<EinsumPlan> plan = planEinsum(op, l, r, result, false);
    return plan && (target == Target::Cpu || fitBlas(plan->spec));
  };
  bool useLhs = true, useRhs = true;
  if (!works(lhs.strides, rhs.strides)) {
    useLhs = works(lhs.strides, plainRhs);
    useRhs = !useLhs && works(plainLhs, rhs.strides);
  }
  Value lhsBase = useLhs ? lhs.base : Value(op.getLhs()),
        rhsBase = useRhs ? rhs.base : Value(op.getRhs());
  strideBases[&op.getLhsMutable()] = lhsBase;
  strideBases[&op.getRhsMutable()] = rhsBase;
  required.insert(lhsBase);
  required.insert(rhsBase);
}

void Grouping::decide(Operation *op) {
  switch (loweringClass(op)) {
  case LoweringClass::Source:
    if (!isa<ParameterOp, graph::ConstantOp>(op))
      requireOperands(op);
    return;
  case LoweringClass::Element:
    return decideElement(op);
  case LoweringClass::Row:
    return; // reads elements
  case LoweringClass::Library:
    if (auto einsum = dyn_cast<EinsumOp>(op))
      return planEinsumOperands(einsum);
    if (isa<AttentionOp, AttentionGradOp>(op)) {
      for (OpOperand &operand : op->getOpOperands())
        readByStrides(operand);
      return;
    }
    if (auto product =
            dyn_cast<GroupedMatmulOp>(op)) // the gradient of its input reads the weight transposed
      readByStrides(product.getWeightMutable());
    for (OpOperand &operand : op->getOpOperands())
      if (!strideBases.count(&operand))
        required.insert(operand.get());
    return;
  case LoweringClass::Loops:
    return requireOperands(op);
  }
}

/// How often elements of op's result are computed if it is inlined, and by which groups.
double Grouping::evaluations(Operation *op, llvm::SmallPtrSetImpl<const KernelGroup *> &consumers) {
  double count = 0, most = 0;
  bool isPointwise = true;
  for (OpOperand &use : op->getUses()) {
    Operation *user = use.getOwner();
    if (strideBases.count(&use))
      continue; // absorbed
    double times = evaluationCounts.lookup(user);
    if (inlined.contains(user)) {
      evaluations(user, consumers);
    } else {
      consumers.insert(memberOf.lookup(user));
      times = elements(loweringClass(user) == LoweringClass::Row ? user->getOperand(0)
                                                                 : user->getResult(0));
    }
    count += times;
    most = std::max(most, times);
    isPointwise &= user->hasTrait<OpTrait::Elementwise>();
  }
  // Pointwise users in one kernel without rows ask for the same elements in the same place, which
  // are computed once.
  bool isShared =
      isPointwise && consumers.size() == 1 && *consumers.begin() && !(*consumers.begin())->anchor;
  return isShared ? most : count;
}

/// Follows the uses of `op` through inlined pointwise ops to the one group that they end in;
/// `others` use the value from memory.
bool Grouping::findConsumer(Operation *op, KernelGroup *&group,
                            SmallVectorImpl<Operation *> &others) {
  for (Operation *user : op->getUsers()) {
    KernelGroup *own = memberOf.lookup(user);
    if (!own && !inlined.contains(user)) {
      others.push_back(user);
      continue;
    }
    bool isPointwise = user->hasTrait<OpTrait::Elementwise>() &&
                       user->getResult(0).getType() == op->getResult(0).getType();
    if (own && (own->anchor || !isPointwise || (group && own != group))) {
      others.push_back(user); // another kernel reads it
      continue;
    }
    if (!isPointwise)
      return false;
    if (own)
      group = own;
    else if (!findConsumer(user, group, others))
      return false;
  }
  return true;
}

/// A pointwise value that must be in memory can be written by the kernel that goes on computing
/// with it: an optimizer's moments beside the parameter. Who else reads it stands behind that
/// kernel.
KernelGroup *Grouping::pointwiseConsumer(Operation *op) {
  constexpr size_t kMostResults = 8;
  if (!op->hasTrait<OpTrait::Elementwise>())
    return nullptr;
  KernelGroup *group = nullptr;
  SmallVector<Operation *> others;
  if (!findConsumer(op, group, others) || !group || group->members.size() >= kMostResults ||
      group->members.back()->getResult(0).getType() != op->getResult(0).getType())
    return nullptr;
  Operation *last = group->members.back();
  bool isBehind =
      llvm::all_of(others, [&](Operation *user) { return last->isBeforeInBlock(user); });
  return isBehind ? group : nullptr;
}

void Grouping::decideElement(Operation *op) {
  if (memberOf.count(op))
    return;
  Value result = op->getResult(0);
  bool isRequired = required.contains(result);
  if (isSplatConstant(op) && !isRequired) {
    inlined.insert(op);
    return;
  }
  if (isSplatConstant(op))
    return; // data
  if (isMemoryView(op)) {
    // Another name of its input's memory, unless the input is not in memory anyway. What several
    // parts are taken of is.
    Operation *producer = op->getOperand(0).getDefiningOp();
    bool inMemory = !isElement(producer) || isRequired || isMemoryView(producer) ||
                    (isa<SliceOp>(op) && !op->getOperand(0).hasOneUse());
    if (!inMemory) {
      inlined.insert(op);
      llvm::SmallPtrSet<const KernelGroup *, 4> consumers;
      evaluationCounts[op] = evaluations(op, consumers);
      return;
    }
    required.insert(op->getOperand(0));
    return;
  }
  if (!isRequired) {
    llvm::SmallPtrSet<const KernelGroup *, 4> consumers;
    double count = evaluations(op, consumers), work = workPerElement(result),
           size = elements(result);
    double again = work * count, once = work * size + kWriteWork * size + count + kLaunchWork;
    if (consumers.size() <= 1 && count <= size)
      again = 0; // nobody computes anything twice
    if (again <= once) {
      inlined.insert(op);
      evaluationCounts[op] = count;
      return;
    }
  }
  if (KernelGroup *group = pointwiseConsumer(op)) {
    group->members.insert(group->members.begin(), op); // last to first
    memberOf[op] = group;
    return;
  }
  newGroup(nullptr, op);
}

bool Grouping::isFromMemory(OpOperand &operand) const {
  Operation *producer = operand.get().getDefiningOp();
  if (!producer)
    return true;
  if (inlined.contains(producer))
    return false;
  const KernelGroup *own = memberOf.lookup(operand.getOwner());
  return !own || memberOf.lookup(producer) != own;
}

} // namespace shardc
