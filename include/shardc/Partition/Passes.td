//===- Passes.td - From the global view to one program for every device -*- tablegen -*-===//

#ifndef SHARDC_PARTITION_PASSES_TD
#define SHARDC_PARTITION_PASSES_TD

include "mlir/Pass/PassBase.td"

def ShardPartition : Pass<"shard-partition", "::mlir::ModuleOp"> {
  let summary = "Rewrite a program on whole tensors into the program that each device runs on its parts";
  let description = [{
    Every tensor becomes the local part that its `shard.shardings` says, and where a value is needed under another
    sharding than it has, collectives (`shard.all_gather`, `shard.all_reduce`, …) are put in, the cheapest route
    by the mesh's bandwidths. A value without a sharding is replicated, or as its op makes it. Each
    collective carries `shard.origin`: which op asked for it, and what it costs.

    ```mlir
    // before, with %x's last dimension and %w's rows over "tp" = 2
    %y = graph.einsum "mk,kn->mn" %x, %w : tensor<4x8xf32>, tensor<8x6xf32> -> tensor<4x6xf32>
    // after
    %0 = graph.einsum "mk,kn->mn" %x, %w : tensor<4x4xf32>, tensor<4x6xf32> -> tensor<4x6xf32>
    %y = shard.all_reduce %0 over {"tp"} of @mesh sum : tensor<4x6xf32> -> tensor<4x6xf32>
    ```

    Example: test/Partition/mlp.mlir.
  }];
  let dependentDialects = ["::shardc::graph::GraphDialect", "::shardc::shard::ShardDialect"];
}

def ShardVerifyPartitioned : Pass<"shard-verify-partitioned", "::mlir::ModuleOp"> {
  let summary = "Check that a partitioned program is one: local types match shardings, nothing global is left";
  let description = [{
    Arguments, results and parameters have the local shape of their `graph.global_type` under their sharding; calls
    pass what the callee expects; no `shard.constraint` or `shard.reshard` is left. Example:
    test/Partition/verify-partitioned-errors.mlir.
  }];
}

#endif // SHARDC_PARTITION_PASSES_TD
