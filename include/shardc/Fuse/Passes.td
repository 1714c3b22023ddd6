//===- Passes.td - Kernels out of graph ops ----------------*- tablegen -*-===//

#ifndef SHARDC_FUSE_PASSES
#define SHARDC_FUSE_PASSES

include "mlir/Pass/PassBase.td"

def FusePass : Pass<"shard-fuse", "::mlir::ModuleOp"> {
  let summary = "Group graph ops into kernels, each a function of its own";
  let description = [{
    Each kernel is `func.func private @kernel_… attributes {exec.kernel}` that holds graph ops, so that the module still runs in the
    interpreter. Equal kernels are shared between layers and functions. Weights that are the second factor of a contraction get
    the layout that the kernel wants on CPUs (`exec.panels` on the kernel's argument). Example: test/Fuse/fuse.mlir.
  }];
  let options = [
    Option<"target", "target", "::shardc::Target", "::shardc::Target::Cpu", "What kernels are for: contractions take in what is behind them on CPUs, not on GPUs, where a library has them",
           [{::llvm::cl::values(clEnumValN(::shardc::Target::Cpu, "cpu", "processors"), clEnumValN(::shardc::Target::Cuda, "cuda", "NVIDIA GPUs"))}]>,
  ];
  let dependentDialects = ["::mlir::func::FuncDialect"];
}

#endif
