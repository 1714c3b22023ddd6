//===- BundlePass.cpp - CompileToBundle as a pass -------------------------===//
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "shardc/Bundle/Bundle.h"
#include "shardc/Bundle/Passes.h"

namespace shardc {

#define GEN_PASS_DEF_BUNDLEPASS
#include "lib/Bundle/Passes.h.inc"

namespace {

struct BundlePass : impl::BundlePassBase<BundlePass> {
  using BundlePassBase::BundlePassBase;

  void runOnOperation() override {
    BundleOptions options;
    options.path = output;
    options.force = force;
    options.model = model;
    options.levels.assign(levels.begin(), levels.end());
    if (failed(compileToBundle(getOperation(), options)))
      signalPassFailure();
  }
};

} // namespace
} // namespace shardc
