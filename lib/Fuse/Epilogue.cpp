//===- Epilogue.cpp - What joins a contraction or an attention ------------===//
//
// A contraction takes in the chain of elementwise ops behind it, while each value has one use:
// bias, activation, gate, residual. They are vector code over one row of the result, so that their
// other operands must be tensors of the same shape, scalars, or broadcasts that are contiguous or
// constant along the last dimension. On GPUs it takes in what cuBLASLt does: a bias along the
// result's last dimension, then RELU or the tanh form of GELU, or the addition of a tensor that is
// in memory anyway (a residual, what earlier products or micro-batches left); the widening of a
// gradient that only goes into a buffer of f32; the gradient of the bias beside that of the weight;
// of 8-bit floats their units, and the rounding. An attention and its gradient take in the transposes behind them, as strides.
//
//===----------------------------------------------------------------------===//
#include "Grouping.h"
#include "dialects/Shard/Shard.h"
#include "shardc/Lower/EinsumPlan.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {

static RankedTensorType typeOf(Value value) { return cast<RankedTensorType>(value.getType()); }

static bool isFloatTensor(Value value) { return isa<FloatType>(typeOf(value).getElementType()); }

void Grouping::growEpilogue(KernelGroup &group, EinsumOp op) {
  Strides result = contiguousStrides(op.getType().getShape());
  auto plan = planEinsum(op, stridedView(op.getLhs()).strides, stridedView(op.getRhs()).strides,
                         result, false);
  if (!plan)
    plan = planEinsum(op, contiguousStrides(op.getLhs().getType().getShape()),
                      contiguousStrides(op.getRhs().getType().getShape()), result, false);
  // A vector of columns must lie in one row of the result's last dimension.
  if (!plan || plan->n.size() != 1 || !isFloatTensor(op.getResult()) ||
      op.getType().getElementType().isF64())
    return;
  for (Value value = op.getResult(); value.hasOneUse();
       value = group.members.back()->getResult(0)) {
    Operation *next = *value.user_begin();
    if (!next->hasTrait<OpTrait::Elementwise>() || !isa<GraphDialect>(next->getDialect()) ||
        next->getNumResults() != 1 ||
        typeOf(next->getResult(0)).getShape() != op.getType().getShape() ||
        !isFloatTensor(next->getResult(0)) || !llvm::all_of(next->getOperands(), isFloatTensor) ||
        memberOf.count(next))
      return;
    for (Value operand : next->getOperands()) {
      if (operand == value)
        continue;
      Operation *producer = operand.getDefiningOp();
      if (producer && isSplatConstant(producer))
        continue;
      // Of two contractions the later one takes in what joins them: the earlier one does not wait
      // for it, and a sum of many needs one buffer.
      if (isa_and_nonnull<EinsumOp>(producer) && producer->hasOneUse() &&
          op->isBeforeInBlock(producer))
        return;
      // A broadcast keeps the order of dimensions: along the result's last one it is contiguous
      // (the input's last) or constant.
      if (isa_and_nonnull<BroadcastOp>(producer))
        required.insert(producer->getOperand(0));
      else
        required.insert(operand);
    }
    addMember(group, next);
  }
}

/// The one op that uses `value`, if it can be cuBLASLt's next step.
static Operation *nextStep(Value value, llvm::function_ref<bool(Operation *)> isWanted) {
  Operation *next = value.hasOneUse() ? *value.user_begin() : nullptr;
  return next && isWanted(next) && next->getResult(0).getType() == value.getType() ? next : nullptr;
}

/// Is the value only written: returned by a layer's function, or put into a bucket?
static bool isOnlyStored(Value value) {
  return llvm::all_of(value.getUsers(), [](Operation *user) {
    auto function = user->getParentOfType<func::FuncOp>();
    return isa<shard::BucketPackOp>(user) || (isa<func::ReturnOp>(user) && function.isPrivate());
  });
}

/// Is the value in memory, whoever reads it?
bool Grouping::isInMemory(Value value) const {
  Operation *op = value.getDefiningOp();
  if (!op || memberOf.count(op))
    return true;
  if (isa<ReshapeOp>(op))
    return isInMemory(op->getOperand(0));
  return loweringClass(op) != LoweringClass::Element && !isSplatConstant(op);
}

/// The tensor that cuBLASLt adds to a product; null if there is none.
AddOp Grouping::libraryAddition(Value product) const {
  auto add = dyn_cast_or_null<AddOp>(nextStep(product, llvm::IsaPred<AddOp>));
  Value addend = add && !memberOf.count(add) ? addendOf(add, product) : Value();
  // Of two contractions the later one takes in their sum, as on CPUs.
  Operation *producer = addend ? addend.getDefiningOp() : nullptr;
  bool isLater = isa_and_nonnull<EinsumOp>(producer) && producer->hasOneUse() &&
                 product.getDefiningOp()->isBeforeInBlock(producer);
  return addend && !isLater && isInMemory(addend) ? add : AddOp();
}

/// The factors' units, and the rounding.
void Grouping::growFloat8(KernelGroup &group, Float8Product product) {
  for (Value unit : product.unit.getOperands())
    required.insert(unit);
  addMember(group, product.unit);
  addMember(group, product.spread);
  addMember(group, product.scaled);
  if (product.rounded)
    addMember(group, product.rounded);
}

/// The element type that a product is stored with.
static Type storedType(EinsumOp op) {
  Value value = op.getResult();
  bool isWidened = value.hasOneUse() && isWidening(*value.user_begin()) &&
                   isOnlyStored((*value.user_begin())->getResult(0));
  return isWidened ? Float32Type::get(op.getContext()) : op.getType().getElementType();
}

/// Does a product sum over just those dimensions of this factor that `sums` sums over?
static bool sumsOver(EinsumOp op, Value factor, ReduceOp sums) {
  if (op.getLhs() == op.getRhs())
    return false;
  EinsumOp::Letters letters = op.getLetters();
  bool isLeft = op.getLhs() == factor;
  StringRef own = isLeft ? letters.lhs : letters.rhs, other = isLeft ? letters.rhs : letters.lhs;
  for (auto [dim, letter] : llvm::enumerate(own)) {
    bool isSummed = llvm::is_contained(sums.getDims(), static_cast<int64_t>(dim));
    // What both factors have and the result too is a batch; what only one has is summed before.
    if (isSummed != (letters.result.find(letter) == StringRef::npos) ||
        isSummed != other.contains(letter))
      return false;
  }
  return true;
}

/// The product that cuBLASLt makes the gradient of a bias beside: that of the weight, out of the same cotangent.
EinsumOp Grouping::productBeside(ReduceOp sums) const {
  Value end = sums.getResult(), factor = sums.getInput();
  if (end.hasOneUse() && isWidening(*end.user_begin()))
    end = (*end.user_begin())->getResult(0);
  Type type = cast<RankedTensorType>(end.getType()).getElementType();
  if (sums.getKind() != Reduction::Sum || !isa<Float16Type, BFloat16Type, Float32Type>(type) ||
      !isOnlyStored(end) || end.use_empty())
    return {};
  for (Operation *user : factor.getUsers()) {
    auto op = dyn_cast<EinsumOp>(user);
    if (!op || !sumsOver(op, factor, sums) || storedType(op) != type || !op.getResult().hasOneUse())
      continue;
    auto plan = planEinsum(op, stridedView(op.getLhs()).strides, stridedView(op.getRhs()).strides,
                           contiguousStrides(op.getType().getShape()), false);
    if (plan && fitBlas(plan->spec) && plan->spec.batch.empty())
      return op;
  }
  return {};
}

void Grouping::takeBiasGradient(KernelGroup &group, EinsumOp op) {
  for (Value factor : op->getOperands())
    for (Operation *user : factor.getUsers()) {
      auto sums = dyn_cast<ReduceOp>(user);
      if (!sums || memberOf.count(sums) || productBeside(sums) != op)
        continue;
      addMember(group, sums);
      if (sums.getResult().hasOneUse() && isWidening(*sums.getResult().user_begin()))
        addMember(group, *sums.getResult().user_begin());
      return;
    }
}

void Grouping::growLibraryEpilogue(KernelGroup &group, EinsumOp op) {
  Type element = op.getType().getElementType();
  StridedView lhs = stridedView(op.getLhs()), rhs = stridedView(op.getRhs());
  auto plan =
      planEinsum(op, lhs.strides, rhs.strides, contiguousStrides(op.getType().getShape()), false);
  if (auto product = matchFloat8Product(op);
      product && plan && fitBlas(plan->spec) && fitFloat8(plan->spec))
    return growFloat8(group, *product);
  if (!plan || !fitBlas(plan->spec) ||
      !isa<Float16Type, BFloat16Type, Float32Type, Float64Type>(element))
    return;
  Value value = op.getResult();
  auto take = [&](Operation *next) {
    addMember(group, next);
    value = next->getResult(0);
  };
  bool hasRows = op.getType().getRank() > 0 && plan->spec.c.columnStride == 1 &&
                 plan->spec.n == op.getType().getShape().back();
  if (hasRows && !element.isF64()) {
    if (Operation *add = nextStep(value, llvm::IsaPred<AddOp>))
      if (Value bias = biasOf(cast<AddOp>(add), value)) {
        required.insert(bias);
        take(add);
      }
    if (Operation *activation = nextStep(value, llvm::IsaPred<ReluOp, GeluTanhOp>))
      return take(activation);
    // GELU of what is kept for the backward pass: cuBLASLt writes both.
    auto gelu = llvm::find_if(value.getUsers(), llvm::IsaPred<GeluTanhOp>);
    if (gelu != value.user_end() && plan->spec.n % 8 == 0 && plan->spec.batch.empty())
      return take(*gelu);
  }
  if (group.members.size() == 1 && value.hasOneUse() && isWidening(*value.user_begin())) {
    Value wide = (*value.user_begin())->getResult(0);
    AddOp add = libraryAddition(wide);
    if (isOnlyStored(wide) || (add && isOnlyStored(add.getResult())))
      take(wide.getDefiningOp());
  }
  if (AddOp add = libraryAddition(value)) {
    required.insert(addendOf(add, value));
    take(add);
  }
  takeBiasGradient(group, op);
}

void Grouping::absorbResultViews(KernelGroup &group, Value result) {
  SmallVector<Operation *> chain;
  size_t useful = 0; // up to the last transpose: a reshape is free anyway
  for (Value value = result; value.hasOneUse(); value = chain.back()->getResult(0)) {
    Operation *next = *value.user_begin();
    if (!isa<TransposeOp, ReshapeOp>(next))
      break;
    chain.push_back(next);
    std::optional<Strides> strides = stridesWhenStoredAs(result, next->getResult(0));
    if (strides && (strides->back() == 1 || typeOf(result).getShape().back() == 1) &&
        isa<TransposeOp>(next))
      useful = chain.size();
  }
  for (Operation *next : ArrayRef<Operation *>(chain).take_front(useful))
    addMember(group, next);
}

} // namespace shardc
