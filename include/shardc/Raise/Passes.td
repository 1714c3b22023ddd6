//===- Passes.td - Raise: transformer blocks out of primitive ops -*- tablegen -*-===//

#ifndef SHARDC_RAISE_PASSES_TD
#define SHARDC_RAISE_PASSES_TD

include "mlir/Pass/PassBase.td"

def RaisePass : Pass<"shard-raise", "::mlir::ModuleOp"> {
  let summary = "Recover attention, norms, rope, activations and expert products from primitive ops";
  let description = [{
    Exporters spell transformer blocks out; plans, derivatives and kernels want them whole. Patterns look at the mathematics only:
    no names, no model families, no operand order. Results change by rounding at most.

    Before: `x * rsqrt(mean(x * x) + eps) * w`; after: `graph.rms_norm %x, %w epsilon …`.
    Examples: test/Raise/norms.mlir, test/Raise/attention.mlir, test/Raise/rope.mlir, test/Raise/experts.mlir.
  }];
  let options = [Option<"report", "report", "bool", "false", "Remark with the number of blocks in each function">];
}

def UnpackParametersPass : Pass<"shard-unpack-parameters", "::mlir::ModuleOp"> {
  let summary = "Separate products for the pieces of packed weights, each with its segment of the parameter";
  let description = [{
    A product with a packed weight (q, k and v; gate and up) that is then sliced becomes one product a piece, on
    `graph.parameter "name" segment [dim, offset, size] of whole`: a split then respects the pieces. Names and
    checkpoints stay whole. Example: test/Raise/unpack-parameters.mlir.
  }];
}

def FindRolesPass : Pass<"shard-find-roles", "::mlir::ModuleOp"> {
  let summary = "Say by data flow what each weight is for: graph.role on the ops that use weights";
  let description = [{
    For plans by role where a model has no names. Roles: embedding, lm_head, attention, q_proj, k_proj, v_proj, qkv_proj,
    kv_proj, o_proj, q_norm, k_norm, norm, gate_proj, up_proj, gate_up_proj, down_proj, fc1, fc2, router, experts_gate_up,
    experts_down. Example: test/Raise/find-roles.mlir.
  }];
}

#endif // SHARDC_RAISE_PASSES_TD
