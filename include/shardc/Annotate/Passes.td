//===- Passes.td - Apply plans -----------------------------*- tablegen -*-===//

#ifndef SHARDC_ANNOTATE_PASSES
#define SHARDC_ANNOTATE_PASSES

include "mlir/Pass/PassBase.td"

def AnnotatePass : Pass<"shard-annotate", "::mlir::ModuleOp"> {
  let summary = "Put a device mesh and a tensor-parallel plan on a model";
  let description = [{
    Creates the mesh, gives every parameter that the plan names its sharding, and constrains activations where a style
    says so. What the plan does not name is left to propagation. Example: test/Annotate/annotate.mlir.
  }];
  let options = [
    Option<"mesh", "mesh", "std::string", "\"\"", "Axes and sizes, major to minor: dp_shard=2,tp=4; default: tp=1, or the devices of the file's own plan">,
    Option<"plan", "plan", "std::string", "\"\"", "Built-in plan's name, a YAML or JSON file, or onnx: the file's device configuration; default: that if there is one, else the base plan">,
    Option<"ep", "ep", "int64_t", "1", "Ranks over which experts are cut: a multiple of tp, the rest of which are of dp_shard; needs a plan with lines for experts">,
    Option<"sequenceParallel", "sequence-parallel", "bool", "false", "Cut the residual stream along the sequence over tp">,
    Option<"strict", "strict", "bool", "false", "A plan line that matches nothing is an error">,
    Option<"printPlan", "print-plan", "bool", "false", "Print the style of every parameter and where it came from">,
    Option<"keepOutputsSharded", "keep-outputs-sharded", "bool", "false", "Leave outputs as propagation makes them">,
    Option<"costs", "costs", "std::string", "\"\"", "Table of shardc profile: bandwidths and latencies of the mesh's axes">,
    Option<"entry", "entry", "std::string", "\"main\"", "The model's function">,
  ];
  let dependentDialects = ["::shardc::shard::ShardDialect"];
}

#endif
