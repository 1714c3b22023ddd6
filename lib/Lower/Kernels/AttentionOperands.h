//===- AttentionOperands.h - What an attention kernel works on --*- C++ -*-===//
//
// Transposes and reshapes in front of and behind an attention are part of the strides.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LIB_LOWER_KERNELS_ATTENTIONOPERANDS_H
#define SHARDC_LIB_LOWER_KERNELS_ATTENTIONOPERANDS_H

#include "KernelLowering.h"
#include "shardc/Lower/AttentionKernel.h"
#include "shardc/Lower/StridedView.h"

namespace shardc {

inline AttentionOperand attentionOperand(mlir::Value value, llvm::ArrayRef<int64_t> strides) {
  mlir::Type element = memoryType(tensorType(value).getElementType());
  return {element, strides[0], strides[1], strides[2], strides[3]};
}

/// From an op (attention or its gradient) to the spec of its kernel, for any target.
template <typename Op> class AttentionOperands {
public:
  AttentionOperands(KernelLowering &lowering, Op op) : lowering(lowering), op(op) {
    auto query = tensorType(op.getQuery()), key = tensorType(op.getKey()),
         value = tensorType(op.getValue());
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
      fits &= mlir::isa<mlir::BlockArgument>(buffers.back());
    }
  }

  AttentionOperand read(mlir::Value operand) {
    StridedView view = viewOf(operand);
    fits &= mlir::isa<mlir::BlockArgument>(view.base);
    buffers.push_back(view.base);
    return attentionOperand(operand, view.strides);
  }

  /// The result of the function that a result of the op becomes.
  AttentionOperand write(mlir::Value result) {
    AttentionOperand operand = attentionOperand(result, writeStrided(result));
    if (operand.column == 0)
      operand.column = 1;
    return operand;
  }
  /// … that lies in memory as it is.
  void writePlain(mlir::Value result) {
    fits &= writeStrided(result) == contiguousStrides(tensorType(result).getShape());
  }

  mlir::LogicalResult check() {
    return fits ? mlir::success()
                : op.emitOpError() << "is not between transposes and reshapes of memory";
  }

  AttentionSpec spec;
  llvm::SmallVector<mlir::Value> buffers{}; ///< in the order of the generated kernel

private:
  Strides writeStrided(mlir::Value result) {
    for (mlir::Value stored : lowering.results())
      if (std::optional<Strides> strides = stridesWhenStoredAs(result, stored)) {
        buffers.push_back(stored);
        return *strides;
      }
    fits = false;
    return contiguousStrides(tensorType(result).getShape());
  }

  KernelLowering &lowering;
  Op op;
  bool fits = true;
};

} // namespace shardc

#endif // SHARDC_LIB_LOWER_KERNELS_ATTENTIONOPERANDS_H
