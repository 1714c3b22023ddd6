//===- ElementBytes.h - Size of a stored element, and 8-bit floats *- C++ -*-===//
#ifndef SHARDC_SUPPORT_ELEMENTBYTES_H
#define SHARDC_SUPPORT_ELEMENTBYTES_H

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/TypeUtilities.h"
#include "llvm/Support/MathExtras.h"

namespace shardc {

/// Bytes of one stored element: bool takes one.
inline int64_t elementBytes(mlir::Type elementType) {
  return llvm::divideCeil(elementType.getIntOrFloatBitWidth(), 8);
}

/// Whether a type, or what it is made of, is f8E4M3FN or f8E5M2.
inline bool isFloat8(mlir::Type type) {
  return llvm::isa<mlir::Float8E4M3FNType, mlir::Float8E5M2Type>(mlir::getElementTypeOrSelf(type));
}

} // namespace shardc

#endif // SHARDC_SUPPORT_ELEMENTBYTES_H
