//===- Bundle.h - A partitioned module to a directory on disk ---*- C++ -*-===//
#ifndef SHARDC_BUNDLE_BUNDLE_H
#define SHARDC_BUNDLE_BUNDLE_H

#include "shardc/Schedule/Program.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Support/LLVM.h"
#include "llvm/Support/Error.h"
#include <string>
#include <vector>

namespace shardc {

class WeightStore;

struct BundleOptions {
  std::string path;                ///< directory to create
  bool force = false;              ///< replace an existing one
  std::string model = "model";     ///< name for people
  std::vector<std::string> levels; ///< empty: x86-64-v4, x86-64-v3 and, where there are products of
                                   ///< bf16, the levels with instructions for them
  const WeightStore *weights = nullptr; ///< null: the inline values of the parameters
  ScheduleOptions schedule;             ///< also the target
  std::vector<std::string> archs = {"sm_80", "sm_90a", "sm_100a",
                                    "compute_80"}; ///< of GPUs, instead of levels
  std::string toolkit;                             ///< a folder with bin/ptxas; empty: searched
  bool writeWeights =
      true; ///< false: they are given at run time, as also when the store lacks a value
  std::string planJson = "null"; ///< for manifest.json, as it is
  std::string trainingJson =
      "null"; ///< likewise: what the trainer must know (docs/contracts.md §5.3)
};

/// Whether the architectures exist, and there is a ptxas if they need one.
llvm::Error checkCudaOptions(const BundleOptions &options);

/// Compiles a module of the local view (the output of Partition) and writes a bundle
/// (docs/contracts.md §3). The module is left as Fuse made it.
mlir::LogicalResult compileToBundle(mlir::ModuleOp module, const BundleOptions &options);

} // namespace shardc

#endif // SHARDC_BUNDLE_BUNDLE_H
