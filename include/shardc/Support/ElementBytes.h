//===- ElementBytes.h - Size of a stored element ----------------*- C++ -*-===//
#ifndef SHARDC_SUPPORT_ELEMENTBYTES_H
#define SHARDC_SUPPORT_ELEMENTBYTES_H

#include "mlir/IR/Types.h"
#include "llvm/Support/MathExtras.h"

namespace shardc {

/// Bytes of one stored element: bool takes one.
inline int64_t elementBytes(mlir::Type elementType) {
  return llvm::divideCeil(elementType.getIntOrFloatBitWidth(), 8);
}

} // namespace shardc

#endif // SHARDC_SUPPORT_ELEMENTBYTES_H
