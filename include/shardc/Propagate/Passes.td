//===- Passes.td - Spread shardings over a program ---------*- tablegen -*-===//

#ifndef SHARDC_PROPAGATE_PASSES_TD
#define SHARDC_PROPAGATE_PASSES_TD

include "mlir/Pass/PassBase.td"

def ShardPropagate : Pass<"shard-propagate", "::mlir::ModuleOp"> {
  let summary = "From the shardings of some values, find those of all others";
  let description = [{
    Starts from shardings on parameters, arguments and results, and from `shard.constraint`. They spread forward and
    backward through every op's sharding rule until nothing changes, into called functions and out of them.
    Afterwards every value has a closed sharding (replicated if nothing reached it), and `shard.origin` on an op
    says where its axes come from; `shard.conflicts` what could not be had.

    Smaller priorities come first; then ops that only pass elements through, then all others, and constraints on
    activations last: weights do not move, activations do. A function whose calls give its parameters different
    shardings becomes one function for each.

    Example: test/Propagate/layer.mlir.
  }];
  let dependentDialects = ["::shardc::graph::GraphDialect", "::shardc::shard::ShardDialect"];
}

#endif // SHARDC_PROPAGATE_PASSES_TD
