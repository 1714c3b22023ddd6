//===- HostTensor.h - Tensor values on the host, for reference evaluation -===//
//
// Values are exact: floats are doubles already rounded to the element type, integers and bool are
// int64 (ui64 by bit pattern). One vector of eight-byte elements keeps evaluators one line long;
// the interpreter has a byte budget.
//
//===----------------------------------------------------------------------===//

#ifndef SHARDC_SUPPORT_HOSTTENSOR_H
#define SHARDC_SUPPORT_HOSTTENSOR_H

#include "shardc/Support/ElementBytes.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"

#include <vector>

namespace shardc {

struct HostTensor {
  mlir::RankedTensorType type; ///< static shape
  std::vector<double> f; ///< elements in row-major order if the element type is a float, else empty
  std::vector<int64_t> i; ///< elements in row-major order if it is an integer or bool, else empty

  HostTensor() = default;
  /// Zero-filled tensor.
  explicit HostTensor(mlir::RankedTensorType type);

  bool isFloat() const { return llvm::isa<mlir::FloatType>(type.getElementType()); }
  llvm::ArrayRef<int64_t> shape() const { return type.getShape(); }
  int64_t rank() const { return type.getRank(); }
  int64_t size() const { return type.getNumElements(); }

  /// Rounds (wraps) every element to the element type.
  void round();
  /// Copies element `from` of `other` (same element class) to element `to` of this.
  void copyElement(int64_t to, const HostTensor &other, int64_t from) {
    if (isFloat())
      f[to] = other.f[from];
    else
      i[to] = other.i[from];
  }

  /// From and to MLIR attributes. Large attributes become dense resources.
  static mlir::FailureOr<HostTensor> fromAttr(mlir::ElementsAttr attr);
  mlir::ElementsAttr toAttr() const;
  /// From and to raw little-endian element bytes (bool: one byte). `bytes` must have storage size.
  static mlir::FailureOr<HostTensor> fromBytes(mlir::RankedTensorType type,
                                               llvm::ArrayRef<char> bytes);
  std::vector<char> toBytes() const;
};

/// Bytes of a stored static tensor.
int64_t tensorBytes(mlir::RankedTensorType type);

/// `value` rounded to nearest even in a float type.
double roundToType(double value, mlir::Type elementType);
/// `value` wrapped to an integer type's width and sign (bool: the lowest bit).
int64_t wrapToType(int64_t value, mlir::Type elementType);

/// Row-major strides of a shape, in elements.
llvm::SmallVector<int64_t> rowMajorStrides(llvm::ArrayRef<int64_t> shape);

/// Calls `fn(multi-index, linear index)` for every element of `shape` in row-major order.
void forEachIndex(llvm::ArrayRef<int64_t> shape,
                  llvm::function_ref<void(llvm::ArrayRef<int64_t>, int64_t)> fn);

} // namespace shardc

#endif // SHARDC_SUPPORT_HOSTTENSOR_H
