//===- Npy.h - Tensors in numpy's .npy files ------------------------------===//
//
// f64 f32 f16, signed and unsigned integers, bool; bf16 as the two-byte void that ml_dtypes writes
// (V2), or as uint16 where a bf16 tensor is expected; 8-bit floats as V1 or uint8 where one is
// expected. Little-endian, C or Fortran order.
//
//===----------------------------------------------------------------------===//

#ifndef SHARDC_SUPPORT_NPY_H
#define SHARDC_SUPPORT_NPY_H

#include "shardc/Sharding/Sharding.h"
#include "shardc/Support/HostTensor.h"

namespace shardc {

/// The tensor of .npy bytes. With `expected`, its shape and element type must be that; without,
/// two-byte void is bf16.
Result<HostTensor> parseNpy(llvm::StringRef bytes, mlir::MLIRContext *context,
                            mlir::RankedTensorType expected = {});
std::string toNpy(const HostTensor &tensor);

/// The same from and to a file; errors name the path.
Result<HostTensor> readNpy(llvm::StringRef path, mlir::MLIRContext *context,
                           mlir::RankedTensorType expected = {});
Error writeNpy(llvm::StringRef path, const HostTensor &tensor);

} // namespace shardc

#endif // SHARDC_SUPPORT_NPY_H
