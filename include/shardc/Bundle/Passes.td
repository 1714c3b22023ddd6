//===- Passes.td - Bundles ---------------------------------*- tablegen -*-===//

#ifndef SHARDC_BUNDLE_PASSES
#define SHARDC_BUNDLE_PASSES

include "mlir/Pass/PassBase.td"

def BundlePass : Pass<"shard-bundle", "::mlir::ModuleOp"> {
  let summary = "Compile a module of the local view for CPU ranks and write a bundle";
  let description = [{
    Runs shard-fuse, makes one command list, emits the kernels for each ISA level and writes the directory that shard-run runs. Weights are
    the inline values of `graph.parameter`. Example: test/Lower/bundle.mlir.
  }];
  let options = [
    Option<"output", "output", "std::string", "", "Directory to create">,
    Option<"force", "force", "bool", "false", "Replace an existing bundle">,
    Option<"model", "model", "std::string", "\"model\"", "Name of the model in the manifest">,
    ListOption<"levels", "levels", "std::string", "ISA levels; default x86-64-v4 and x86-64-v3, with products of bf16 those with instructions for them too">,
  ];
  let dependentDialects = ["::shardc::exec::ExecDialect", "::mlir::func::FuncDialect", "::mlir::arith::ArithDialect", "::mlir::scf::SCFDialect",
                           "::mlir::memref::MemRefDialect", "::mlir::math::MathDialect", "::mlir::vector::VectorDialect",
                           "::mlir::affine::AffineDialect", "::mlir::cf::ControlFlowDialect", "::mlir::LLVM::LLVMDialect"];
}

#endif
