//===- ImportOnnx.h - ONNX models as graph IR -----------------------------===//

#ifndef SHARDC_IMPORT_IMPORTONNX_H
#define SHARDC_IMPORT_IMPORTONNX_H

#include "shardc/Support/WeightStore.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <string>

namespace shardc {

struct ImportOptions {
  std::string path;
  /// Sizes of named dimensions; an unnamed dimension d of input x is called "x[d]".
  llvm::StringMap<int64_t> dims;
  /// Inputs that are constants of the program, with the .npy files of their values: they are no
  /// inputs of `@main`. For what shapes depend on, as those are static.
  llvm::StringMap<std::string> constants;
  /// Inputs that outputs replace after each run, with the outputs' names.
  llvm::StringMap<std::string> carried;
  /// The dimension of inputs that is the length of a cache to which the model appends, and how many
  /// entries it has room for (0: there is none). Inputs and outputs then have that many, the length
  /// is an input of the dimension's name, and both are carried from run to run.
  std::string cacheDim;
  int64_t cacheCapacity = 0;
  /// Name of the device configuration whose sharding specs are read; empty: the only one. Without
  /// `readDevices` none is.
  std::string deviceConfiguration;
  bool readDevices = false;
  /// Results known at import above this many elements stay ops.
  int64_t foldLimit = int64_t(8) << 20;
};

/// Reads an ONNX file into a verified module with one function `@main` of graph ops, and declares
/// its weights (with values, if the file has them) in `weights`. Errors are emitted as diagnostics;
/// all unsupported nodes are listed.
mlir::FailureOr<mlir::OwningOpRef<mlir::ModuleOp>>
importOnnx(mlir::MLIRContext &context, const ImportOptions &options, WeightStore &weights);

/// Puts the values of parameters into the IR (as resources if they are large), so that it stands
/// alone as text.
mlir::LogicalResult inlineWeights(mlir::ModuleOp module, const WeightStore &weights);

} // namespace shardc

#endif // SHARDC_IMPORT_IMPORTONNX_H
