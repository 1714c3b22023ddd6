//===- AttentionKernel.cpp - Kernels of graph.attention and its gradient --===//
//
// The generated attention kernels; transposes and reshapes in front and behind are part of the strides.
//
//===----------------------------------------------------------------------===//
#include "shardc/Lower/AttentionKernel.h"
#include "KernelLowering.h"
#include "shardc/Lower/StridedView.h"

using namespace mlir;

namespace shardc {

static AttentionOperand operandOf(Value value, ArrayRef<int64_t> strides) {
  Type element = memoryType(tensorType(value).getElementType());
  return {element, strides[0], strides[1], strides[2], strides[3]};
}

namespace {

/// From an op (attention or its gradient) to the spec of its kernel.
template <typename Op> class AttentionLowering {
public:
  AttentionLowering(CpuLowering &lowering, Op op) : lowering(lowering), op(op) {
    auto query = tensorType(op.getQuery()), key = tensorType(op.getKey()), value = tensorType(op.getValue());
    spec.symbol = lowering.function.getSymName().str();
    spec.batch = query.getDimSize(0);
    spec.queryHeads = query.getDimSize(1);
    spec.keyHeads = key.getDimSize(1);
    spec.queries = query.getDimSize(2);
    spec.keys = key.getDimSize(2);
    spec.dim = query.getDimSize(3);
    spec.valueDim = value.getDimSize(3);
    spec.q = read(op.getQuery());
    spec.k = read(op.getKey());
    spec.v = read(op.getValue());
    spec.scale = op.getScale().convertToDouble();
    spec.softCap = op.getSoftcap().convertToDouble();
    if (op.getCausal()) {
      spec.right = 0;
      spec.offset = op.getCausalOffset();
      if (op.getWindow() > 0)
        spec.left = op.getWindow() - 1;
    }
    if (op.getMask())
      spec.mask = read(op.getMask());
    if (op.getSinks()) {
      spec.sinks = tensorType(op.getSinks()).getElementType();
      buffers.push_back(viewOf(op.getSinks()).base);
      fits &= isa<BlockArgument>(buffers.back());
    }
  }

  AttentionOperand read(Value operand) {
    StridedView view = viewOf(operand);
    fits &= isa<BlockArgument>(view.base);
    buffers.push_back(view.base);
    return operandOf(operand, view.strides);
  }

  /// The result of the function that a result of the op becomes.
  AttentionOperand write(Value result) {
    AttentionOperand operand = operandOf(result, writeStrided(result));
    if (operand.column == 0)
      operand.column = 1;
    return operand;
  }
  /// … that lies in memory as it is.
  void writePlain(Value result) { fits &= writeStrided(result) == contiguousStrides(tensorType(result).getShape()); }

  KernelResult finish(llvm::function_ref<KernelResult()> build) {
    if (!fits)
      return op.emitOpError() << "is not between transposes and reshapes of memory";
    KernelResult kernel = build();
    if (succeeded(kernel))
      lowering.adoptBuffers(buffers);
    return kernel;
  }

  AttentionSpec spec;

private:
  Strides writeStrided(Value result) {
    for (Value stored : lowering.results())
      if (std::optional<Strides> strides = stridesWhenStoredAs(result, stored)) {
        buffers.push_back(stored);
        return *strides;
      }
    fits = false;
    return contiguousStrides(tensorType(result).getShape());
  }

  CpuLowering &lowering;
  Op op;
  SmallVector<Value> buffers; ///< in the order of the generated kernel
  bool fits = true;
};

} // namespace

static KernelResult lowerForward(CpuLowering &lowering, graph::AttentionOp op) {
  AttentionLowering<graph::AttentionOp> attention(lowering, op);
  attention.spec.out = attention.write(op.getResult());
  return attention.finish([&] { return buildAttention(lowering.builder, lowering.module, attention.spec, lowering.target); });
}

static KernelResult lowerGradient(CpuLowering &lowering, graph::AttentionGradOp op) {
  AttentionLowering<graph::AttentionGradOp> attention(lowering, op);
  attention.spec.out = attention.read(op.getCotangent());
  AttentionGradSpec spec;
  spec.dq = attention.write(op.getDquery());
  spec.dk = attention.write(op.getDkey());
  spec.dv = attention.write(op.getDvalue());
  if (op.getDsinks())
    attention.writePlain(op.getDsinks());
  spec.attention = attention.spec;
  return attention.finish([&] { return buildAttentionGrad(lowering.builder, lowering.module, spec, lowering.target); });
}

KernelResult lowerAttentionKernel(CpuLowering &lowering) {
  for (Operation &op : lowering.function.getBody().front()) {
    if (auto attention = dyn_cast<graph::AttentionOp>(op))
      return lowerForward(lowering, attention);
    if (auto gradient = dyn_cast<graph::AttentionGradOp>(op))
      return lowerGradient(lowering, gradient);
  }
  llvm_unreachable("an attention kernel has an attention");
}

} // namespace shardc
