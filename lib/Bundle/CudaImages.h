//===- CudaImages.h - Code of GPUs in a bundle ------------------*- C++ -*-===//
#ifndef SHARDC_LIB_BUNDLE_CUDAIMAGES_H
#define SHARDC_LIB_BUNDLE_CUDAIMAGES_H

#include "BundleFiles.h"
#include "shardc/Bundle/Bundle.h"

namespace shardc {

/// Writes what is generated of the program for each architecture; returns the manifest's "kernels".
llvm::Expected<llvm::json::Array> writeCudaImages(const CudaProgram &program,
                                                  const BundleOptions &options,
                                                  BundleDirectory &directory);

} // namespace shardc

#endif // SHARDC_LIB_BUNDLE_CUDAIMAGES_H
