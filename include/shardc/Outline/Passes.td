//===- Passes.td - Outline layers --------------------------*- tablegen -*-===//

#ifndef SHARDC_OUTLINE_PASSES
#define SHARDC_OUTLINE_PASSES

include "mlir/Pass/PassBase.td"

def OutlinePass : Pass<"shard-outline", "::mlir::ModuleOp"> {
  let summary = "Turn a model into a short sequence of calls, one function per kind of layer";
  let description = [{
    Groups the ops of the entry function by the layer that their module path names (`model.layers.3`), or by repeated
    structure where there are no paths, and moves each group into a function. Layers with the same structure,
    constants and parameter shardings share one. Later passes then work per kind of layer, not per layer.
    Example: test/Outline/outline.mlir.
  }];
  let options = [
    Option<"entry", "entry", "std::string", "\"main\"", "Function to outline">,
    Option<"report", "report", "bool", "false", "Print the kinds that were found, with counts and paths">,
  ];
  let dependentDialects = ["::mlir::func::FuncDialect"];
}

#endif
