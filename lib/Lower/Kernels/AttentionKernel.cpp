//===- AttentionKernel.cpp - Kernels of graph.attention -------------------===//
//
// The generated attention kernel; transposes and reshapes in front and behind are part of the strides.
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

KernelResult lowerAttentionKernel(KernelLowering &lowering) {
  graph::AttentionOp op;
  lowering.function.walk([&](graph::AttentionOp found) { op = found; });
  auto query = tensorType(op.getQuery()), key = tensorType(op.getKey()), value = tensorType(op.getValue());
  SmallVector<Value> buffers;
  bool fits = true;
  auto read = [&](Value operand) {
    StridedView view = viewOf(operand);
    fits &= isa<BlockArgument>(view.base);
    buffers.push_back(view.base);
    return operandOf(operand, view.strides);
  };

  AttentionSpec spec;
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
  std::optional<Strides> stored = stridesWhenStoredAs(op.getResult(), lowering.results()[0]);
  if (!fits || !stored)
    return op.emitOpError() << "is not between transposes and reshapes of memory";
  spec.out = operandOf(op.getResult(), *stored);
  if (spec.out.column == 0)
    spec.out.column = 1;
  buffers.push_back(lowering.results()[0]);

  FailureOr<Kernel> kernel = buildAttention(lowering.builder, lowering.module, spec, lowering.target);
  if (succeeded(kernel))
    lowering.adoptBuffers(buffers);
  return kernel;
}

} // namespace shardc
