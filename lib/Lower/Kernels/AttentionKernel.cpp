//===- AttentionKernel.cpp - Kernels of graph.attention and its gradient --===//
//
// The generated attention kernels (shardc/Lower/AttentionKernel.h).
//
//===----------------------------------------------------------------------===//
#include "AttentionOperands.h"

using namespace mlir;

namespace shardc {

/// The kernel is built over buffers in an order of its own.
template <typename Op>
static KernelResult finish(CpuLowering &lowering, AttentionOperands<Op> &attention,
                           llvm::function_ref<KernelResult()> build) {
  if (failed(attention.check()))
    return failure();
  KernelResult kernel = build();
  if (succeeded(kernel))
    lowering.adoptBuffers(attention.buffers);
  return kernel;
}

static KernelResult lowerForward(CpuLowering &lowering, graph::AttentionOp op) {
  AttentionOperands<graph::AttentionOp> attention(lowering, op);
  attention.spec.out = attention.write(op.getResult());
  return finish(lowering, attention, [&] {
    return buildAttention(lowering.builder, lowering.module, attention.spec, lowering.target);
  });
}

static KernelResult lowerGradient(CpuLowering &lowering, graph::AttentionGradOp op) {
  AttentionOperands<graph::AttentionGradOp> attention(lowering, op);
  attention.spec.out = attention.read(op.getCotangent());
  AttentionGradSpec spec;
  spec.dq = attention.write(op.getDquery());
  spec.dk = attention.write(op.getDkey());
  spec.dv = attention.write(op.getDvalue());
  if (op.getDsinks())
    attention.writePlain(op.getDsinks());
  spec.attention = attention.spec;
  return finish(lowering, attention, [&] {
    return buildAttentionGrad(lowering.builder, lowering.module, spec, lowering.target);
  });
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
