//===- Passes.td - kernels out of graph ops -------------------------------*- tablegen -*-===//

#ifndef SHARDC_FUSE_PASSES
#define SHARDC_FUSE_PASSES

include "mlir/Pass/PassBase.td"

def FusePass : Pass<"shard-fuse", "::mlir::ModuleOp"> {
  let summary = "Group graph ops into kernels, each a function of its own";
  let description = [{
    Each kernel is `func.func private @kernel_… attributes {exec.kernel}` that holds graph ops, so that the module still runs in the
    interpreter. Equal kernels are shared between layers and functions. Weights that are the second factor of a contraction get
    the layout that the kernel wants (`exec.panels` on the kernel's argument). Example: test/Fuse/fuse.mlir.
  }];
  let dependentDialects = ["::mlir::func::FuncDialect"];
}

#endif
