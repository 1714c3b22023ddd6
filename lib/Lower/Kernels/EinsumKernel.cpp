//===- EinsumKernel.cpp - Kernels of contractions -------------------------===//
//
// A contraction that is a matrix multiplication under strides (EinsumPlan.h) uses the generated
// kernel; transposes and reshapes in front and behind are part of the strides. Anything else is
// summed by plain loops.
//
//===----------------------------------------------------------------------===//
#include "EpilogueEmitter.h"
#include "KernelLowering.h"
#include "dialects/Graph/ScalarEmit.h"
#include "shardc/Lower/EinsumPlan.h"

using namespace mlir;

namespace shardc {

/// The sum for one result element, by loops over the letters that disappear.
static Value sumOver(BodyEmitter &emitter, graph::EinsumOp op, std::map<char, Value> &at,
                     StringRef letters, Value acc) {
  Emitter &e = emitter.e;
  auto text = op.getLetters();
  if (letters.empty()) {
    auto element = [&](OpOperand &operand, StringRef own) {
      Emitter::Values indices;
      for (char letter : own)
        indices.push_back(at[letter]);
      return emitter.operand(operand, indices);
    };
    Value product = graph::scalar::mul(e.b, e.loc, element(op.getLhsMutable(), text.lhs),
                                       element(op.getRhsMutable(), text.rhs));
    return graph::scalar::add(e.b, e.loc, acc, product);
  }
  return e.loop(e.index(0), e.index(op.getLetterSize(letters.front())), 1, acc,
                [&](Value i, ValueRange carried) {
                  at[letters.front()] = i;
                  return Emitter::Values{
                      sumOver(emitter, op, at, letters.drop_front(), carried[0])};
                })[0];
}

Kernel lowerEinsumBySums(KernelLowering &lowering, graph::EinsumOp op) {
  KernelBody body = lowering.begin(0);
  BodyEmitter emitter(lowering.builder, lowering.loc());
  lowering.bindArguments(emitter, body);
  Emitter &e = emitter.e;
  auto text = op.getLetters();
  std::string sum;
  for (char letter : (text.lhs + text.rhs).str())
    if (text.result.find(letter) == StringRef::npos && sum.find(letter) == std::string::npos)
      sum += letter;
  emitter.bind(op.getResult(), [&, op](ArrayRef<Value> indices) mutable {
    std::map<char, Value> at;
    for (auto [letter, index] : llvm::zip(text.result, indices))
      at[letter] = index;
    Type type = graph::computeType(op.getType().getElementType());
    return emitter.round(op.getType(), sumOver(emitter, op, at, sum, e.scalar(type, 0)));
  });
  Value result = lowering.results()[0];
  auto type = tensorType(result);
  int64_t work = 1;
  for (char letter : sum)
    work *= op.getLetterSize(letter);
  return lowering.forEach(e, body, type.getNumElements(), work, [&](Value i) {
    Value element = emitter.element(result, emitter.delinearize(i, type.getShape()));
    emitter.store(element, lowering.resultBuffer(body, 0), type.getElementType(), i);
  });
}

/// Arguments that the ops behind the contraction read; a factor may be one of them (a residual).
static SmallVector<Value> extraTensors(CpuLowering &lowering, graph::EinsumOp op) {
  DenseSet<Operation *> front = {op};
  for (Value operand : op->getOperands())
    for (Operation *at = operand.getDefiningOp(); at;
         at = at->getNumOperands() ? at->getOperand(0).getDefiningOp() : nullptr)
      front.insert(at);
  SmallVector<Value> extra;
  for (BlockArgument argument : lowering.function.getArguments())
    if (llvm::any_of(argument.getUsers(), [&](Operation *user) { return !front.contains(user); }))
      extra.push_back(argument);
  return extra;
}

KernelResult lowerEinsumKernel(CpuLowering &lowering) {
  graph::EinsumOp op;
  lowering.function.walk([&](graph::EinsumOp found) { op = found; });
  Value result = lowering.results()[0];
  StridedView lhs = viewOf(op.getLhs()), rhs = viewOf(op.getRhs());
  std::optional<Strides> stored = stridesWhenStoredAs(op.getResult(), result);
  bool hasEpilogue = !stored;
  if (hasEpilogue)
    stored = contiguousStrides(op.getType().getShape());
  auto isPacked = [&](const StridedView &view) {
    auto argument = dyn_cast<BlockArgument>(view.base);
    return argument && lowering.function.getArgAttr(argument.getArgNumber(), kPanelsAttr);
  };
  bool packed = isPacked(lhs) || isPacked(rhs);
  std::optional<EinsumPlan> plan;
  if (isa<BlockArgument>(lhs.base) && isa<BlockArgument>(rhs.base))
    plan = planEinsum(op, lhs.strides, rhs.strides, *stored, packed);
  if (!plan && packed)
    return op.emitOpError() << "has a packed operand but is no matrix multiplication";
  if (!plan || plan->spec.m * plan->spec.n * plan->spec.k == 0 ||
      (hasEpilogue && plan->n.size() != 1))
    return lowerEinsumBySums(lowering, op);

  GemmSpec &spec = plan->spec;
  spec.symbol = lowering.function.getSymName().str();
  SmallVector<Value> extra,
      buffers = {plan->swapped ? rhs.base : lhs.base, plan->swapped ? lhs.base : rhs.base};
  if (hasEpilogue) {
    extra = extraTensors(lowering, op);
    for (Value tensor : extra)
      spec.extra.push_back(bufferType(tensorType(tensor)));
    spec.c.type = memoryType(tensorType(result).getElementType());
    spec.epilogue = EpilogueEmitter(op, *plan, result, extra);
  }
  FailureOr<Kernel> kernel = buildGemm(lowering.builder, lowering.module, spec, lowering.target);
  if (succeeded(kernel)) {
    llvm::append_range(buffers, extra);
    buffers.push_back(lowering.inPlace.empty()
                          ? result
                          : Value(lowering.function.getArgument(lowering.inPlace.begin()->first)));
    lowering.adoptBuffers(buffers);
  }
  return kernel;
}

} // namespace shardc
