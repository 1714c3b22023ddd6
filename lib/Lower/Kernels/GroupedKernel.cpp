//===- GroupedKernel.cpp - Kernels of grouped products --------------------===//
//
// The weight may be any transpose of memory: the gradient of the input is a grouped product with
// the transposed weight.
//
//===----------------------------------------------------------------------===//
#include "shardc/Lower/GroupedKernel.h"
#include "KernelLowering.h"
#include "shardc/Lower/StridedView.h"

using namespace mlir;

namespace shardc {

static GroupedSpec specOf(CpuLowering &lowering, int64_t rows, RankedTensorType weight,
                          Value groups) {
  GroupedSpec spec;
  spec.symbol = lowering.function.getSymName().str();
  spec.rows = rows;
  spec.groups = weight.getDimSize(0);
  spec.n = weight.getDimSize(1);
  spec.k = weight.getDimSize(2);
  spec.type = weight.getElementType();
  spec.groupType = memoryType(tensorType(groups).getElementType());
  return spec;
}

static KernelResult lowerProduct(CpuLowering &lowering, graph::GroupedMatmulOp op) {
  GroupedSpec spec = specOf(lowering, op.getInput().getType().getDimSize(0),
                            op.getWeight().getType(), op.getGroups());
  StridedView weight = viewOf(op.getWeight());
  spec.groupStride = weight.strides[0];
  spec.nStride = weight.strides[1];
  spec.kStride = weight.strides[2];
  Value buffers[] = {op.getInput(), weight.base, op.getGroups(), op.getResult()};
  for (Value buffer : ArrayRef<Value>(buffers).drop_back())
    if (!isa<BlockArgument>(buffer))
      return op.emitOpError() << "does not read memory";
  KernelResult kernel = buildGrouped(lowering.builder, lowering.module, spec, lowering.target);
  if (succeeded(kernel))
    lowering.adoptBuffers(buffers);
  return kernel;
}

static KernelResult lowerGradient(CpuLowering &lowering, graph::GroupedMatmulGradOp op) {
  GroupedSpec spec =
      specOf(lowering, op.getInput().getType().getDimSize(0), op.getType(), op.getGroups());
  KernelResult kernel = buildGroupedGrad(lowering.builder, lowering.module, spec, lowering.target);
  if (succeeded(kernel))
    lowering.adoptBuffers({op.getInput(), op.getCotangent(), op.getGroups(), op.getResult()});
  return kernel;
}

KernelResult lowerGroupedKernel(CpuLowering &lowering) {
  for (Operation &op : lowering.function.getBody().front()) {
    if (auto product = dyn_cast<graph::GroupedMatmulOp>(op))
      return lowerProduct(lowering, product);
    if (auto gradient = dyn_cast<graph::GroupedMatmulGradOp>(op))
      return lowerGradient(lowering, gradient);
  }
  llvm_unreachable("a grouped kernel has a grouped product");
}

} // namespace shardc
