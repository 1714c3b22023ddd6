//===- Passes.td - Raise: transformer blocks out of primitive ops ---------*- tablegen -*-===//

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

#endif // SHARDC_RAISE_PASSES_TD
