//===- Estimate.cpp - How long commands take ------------------------------===//
#include "Estimate.h"

#include "shardc/Support/ElementBytes.h"

using namespace mlir;

namespace shardc {

/// Rows, columns and sum of a contraction as a matrix multiplication.
static void addProduct(graph::EinsumOp op, double flops, KernelWork &work) {
  if (flops > work.productFlops) {
    graph::EinsumOp::Letters letters = op.getLetters();
    work.m = work.n = work.k = 1;
    for (char letter : letters.lhs) {
      bool isRight = letters.rhs.contains(letter), isResult = letters.result.contains(letter);
      if (!isRight)
        work.m *= op.getLetterSize(letter);
      else if (!isResult)
        work.k *= op.getLetterSize(letter);
    }
    for (char letter : letters.rhs)
      if (!letters.lhs.contains(letter))
        work.n *= op.getLetterSize(letter);
  }
  work.productFlops += flops;
}

/// Rows of tokens, each multiplied by the matrix [N, K] of its expert: as one product over all
/// rows.
template <typename Op>
static void addGrouped(Op op, RankedTensorType matrices, double flops, KernelWork &work) {
  if (flops > work.productFlops) {
    work.m = op.getInput().getType().getDimSize(0);
    work.n = matrices.getDimSize(1);
    work.k = matrices.getDimSize(2);
  }
  work.productFlops += flops;
}

KernelWork workOf(graph::EinsumOp product) {
  KernelWork work;
  addProduct(product, product.getCost().flops, work);
  work.dtype = dtypeText(getElementTypeOrSelf(product.getLhs().getType()));
  for (Value value : {Value(product.getLhs()), Value(product.getRhs()), Value(product)})
    work.bytes += tensorBytes(cast<RankedTensorType>(value.getType()));
  return work;
}

KernelWork workOf(func::FuncOp kernel) {
  KernelWork work;
  kernel.walk([&](graph::CostOpInterface op) {
    double flops = op.getCost().flops, before = work.productFlops;
    if (auto einsum = dyn_cast<graph::EinsumOp>(*op))
      addProduct(einsum, flops, work);
    else if (auto grouped = dyn_cast<graph::GroupedMatmulOp>(*op))
      addGrouped(grouped, grouped.getWeight().getType(), flops, work);
    else if (auto gradient = dyn_cast<graph::GroupedMatmulGradOp>(*op))
      addGrouped(gradient, gradient.getResult().getType(), flops, work);
    else if (isa<graph::AttentionOp, graph::AttentionGradOp>(*op))
      work.attentionFlops += flops;
    else
      work.otherFlops += flops;
    if (work.productFlops > before || isa<graph::AttentionOp, graph::AttentionGradOp>(*op))
      work.dtype = dtypeText(getElementTypeOrSelf(op->getOperand(0).getType()));
    auto lowering = dyn_cast<graph::LoweringOpInterface>(*op);
    work.isRow |= lowering && lowering.getLoweringClass() == graph::LoweringClass::Row;
  });
  for (Type type : llvm::concat<const Type>(kernel.getArgumentTypes(), kernel.getResultTypes()))
    work.bytes += tensorBytes(cast<RankedTensorType>(type));
  return work;
}

std::string groupText(const Program &program, int group) {
  std::string text;
  for (const AxisRef &axis : program.groups[group])
    text += (text.empty() ? "" : ",") + str(program.mesh, axis);
  return text;
}

int64_t largerBytes(const Program &program, const ProgramCommand &command) {
  int64_t bytes = 0;
  for (int buffer : command.buffers)
    bytes = std::max(bytes, program.buffers[buffer].bytes);
  return bytes;
}

Estimator::Estimator(const Program &program, ModuleOp module, const CostTable &costs)
    : program(program), costs(costs) {
  SymbolTable symbols(module);
  for (const std::string &name : program.kernels)
    kernels.push_back(costs.kernelMicros(workOf(symbols.lookup<func::FuncOp>(name))));
  for (auto [n, axes] : llvm::enumerate(program.groups))
    groups.push_back({groupText(program, n), axesSize(axes)});
}

/// What of it crosses a GPU's bus: offloaded states.
double Estimator::hostMicros(const ProgramCommand &command) const {
  auto bytesOf = [&](ArrayRef<int> buffers) {
    double bytes = 0;
    for (int buffer : buffers)
      if (program.isOnHost(buffer))
        bytes += program.buffers[buffer].bytes;
    return bytes;
  };
  return costs.hostMicros(bytesOf(command.reads()), bytesOf(command.writes()));
}

double Estimator::micros(const ProgramCommand &command) const {
  if (command.kind == CommandKind::Wait)
    return 0;
  double host = program.cuda ? hostMicros(command) : 0;
  if (command.kind == CommandKind::Launch)
    return std::max(kernels[command.kernel], host);
  double bytes = largerBytes(program, command);
  if (!isCommunication(command.kind))
    return std::max(costs.copyMicros(bytes), host);
  auto &[axes, ranks] = groups[command.group]; // which reads what was copied
  return host + costs.collectiveMicros(str(command.kind), axes, ranks, bytes);
}

void Estimator::advance(Timeline &timeline, const ProgramCommand &command) const {
  if (command.kind == CommandKind::Wait)
    timeline.wait(command.ticket);
  else if (!isCommunication(command.kind))
    timeline.compute(micros(command));
  else if (command.ticket >= 0)
    timeline.start(command.ticket, command.group, micros(command));
  else
    timeline.run(command.group, micros(command));
}

double Estimator::total(ArrayRef<ProgramCommand> commands) const {
  Timeline timeline(target());
  for (const ProgramCommand &command : commands)
    advance(timeline, command);
  return timeline.now();
}

} // namespace shardc
