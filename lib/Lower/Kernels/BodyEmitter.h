//===- BodyEmitter.h - Scalars of fused graph ops ---------------*- C++ -*-===//
//
// Composes the index lambdas of the ops of one kernel: asked for an element of a tensor, it either
// reads it (a buffer, a scratch row, a statistic of the current row) or asks the defining op, which
// asks for elements of its operands. Values that were computed for the same indices are reused as
// long as they are in scope.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LIB_LOWER_KERNELS_BODYEMITTER_H
#define SHARDC_LIB_LOWER_KERNELS_BODYEMITTER_H

#include "dialects/Graph/Graph.h"
#include "lib/Lower/Cpu/Emitter.h"
#include "llvm/ADT/DenseMap.h"
#include <functional>
#include <map>

namespace shardc {

/// Type of an element in a buffer: bool as i8, unsigned integers as signless.
mlir::Type memoryType(mlir::Type elementType);
/// The flat buffer of a tensor.
mlir::MemRefType bufferType(mlir::RankedTensorType type);

class BodyEmitter : public graph::ElementEmitter {
public:
  using Reader = std::function<mlir::Value(llvm::ArrayRef<mlir::Value> indices)>;

  BodyEmitter(mlir::OpBuilder &builder, mlir::Location loc)
      : ElementEmitter(builder), e{builder, loc} {}

  /// From now on elements of `tensor` come from `reader`.
  void bind(mlir::Value tensor, Reader reader) { readers[tensor] = std::move(reader); }
  /// … from a row-major buffer.
  void bindBuffer(mlir::Value tensor, mlir::Value buffer);
  bool isBound(mlir::Value tensor) const { return readers.count(tensor); }

  mlir::Value operand(mlir::OpOperand &operand, llvm::ArrayRef<mlir::Value> indices) override {
    return element(operand.get(), indices);
  }
  /// The element in its compute type.
  mlir::Value element(mlir::Value tensor, llvm::ArrayRef<mlir::Value> indices);

  /// A stored element as it is computed with.
  mlir::Value load(mlir::Value buffer, mlir::Type elementType, mlir::Value offset);
  /// Stores a computed (and rounded) element.
  void store(mlir::Value scalar, mlir::Value buffer, mlir::Type elementType, mlir::Value offset);
  /// Row-major offset; indices of dimensions of size one are not looked at.
  mlir::Value offset(llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<mlir::Value> indices);
  /// Offset under given strides.
  mlir::Value stridedOffset(llvm::ArrayRef<int64_t> strides, llvm::ArrayRef<mlir::Value> indices);
  /// The digits of a linear index.
  Emitter::Values delinearize(mlir::Value linear, llvm::ArrayRef<int64_t> shape);

  Emitter e;

private:
  unsigned idOf(mlir::Value index);
  bool isVisible(mlir::Value value) const;

  llvm::DenseMap<mlir::Value, Reader> readers;
  struct Key {
    void *tensor;
    llvm::SmallVector<unsigned> indices;
    bool operator<(const Key &other) const {
      return std::tie(tensor, indices) < std::tie(other.tensor, other.indices);
    }
  };
  std::map<Key, mlir::Value> known;
  // Index expressions by structure, so that the same arithmetic done twice has one number.
  llvm::DenseMap<mlir::Value, unsigned> ids;
  std::map<std::vector<int64_t>, unsigned> structures;
};

} // namespace shardc

#endif // SHARDC_LIB_LOWER_KERNELS_BODYEMITTER_H
