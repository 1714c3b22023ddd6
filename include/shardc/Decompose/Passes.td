//===- Passes.td - Products and their collectives in pieces -*- tablegen -*-===//

#ifndef SHARDC_DECOMPOSE_PASSES_TD
#define SHARDC_DECOMPOSE_PASSES_TD

include "mlir/Pass/PassBase.td"

def DecomposePass : Pass<"shard-decompose", "::mlir::ModuleOp"> {
  let summary = "Cut collectives along the sequence, and the products beside them, into pieces that overlap (async tensor parallelism)";
  let description = [{
    On local shapes, behind FSDP. A gather along the sequence and the products that read it, and products and the reduce-scatter
    of what they make, are cut along the tokens of the shard: the gather of one piece runs while the products of the one before it
    do. What is reduced, and in which order, stays as it was. Marks the collectives with `shard.piece`; Schedule starts them where they
    stand and waits for them where they are needed. A collective that stays whole is told by a remark, and by `shardc explain`.

    ```mlir
    // before, "tp" = 2
    %x = shard.all_gather %shard over {"tp"} of @mesh dim 1 : tensor<2x8x64xf32> -> tensor<2x16x64xf32>
    %y = graph.einsum "amk,nk->amn" %x, %w : tensor<2x16x64xf32>, tensor<32x64xf32> -> tensor<2x16x32xf32>
    // after, in 2 pieces
    %s0 = graph.slice %shard [0, 0, 0] step [1, 1, 1] : tensor<2x8x64xf32> -> tensor<1x8x64xf32>
    %x0 = shard.all_gather %s0 over {"tp"} of @mesh dim 1 {shard.piece} : tensor<1x8x64xf32> -> tensor<1x16x64xf32>
    … the same of %s1 …
    %y0 = graph.einsum "amk,nk->amn" %x0, %w : tensor<1x16x64xf32>, tensor<32x64xf32> -> tensor<1x16x32xf32>
    %y1 = graph.einsum "amk,nk->amn" %x1, %w : tensor<1x16x64xf32>, tensor<32x64xf32> -> tensor<1x16x32xf32>
    %p = shard.bucket_pack %y0, %y1 at [0, 512] : tensor<1x16x32xf32>, tensor<1x16x32xf32> -> tensor<1024xf32>
    %y = graph.reshape %p : tensor<1024xf32> -> tensor<2x16x32xf32>
    ```

    Example: test/Decompose/decompose.mlir.
  }];
  let options = [
    Option<"pieces", "pieces", "int64_t", "0", "Pieces of each collective; 0: by costs where they were measured, else by size">,
    Option<"costs", "costs", "std::string", "\"\"", "Table of shardc profile; default: by size">,
    Option<"target", "target", "::shardc::Target", "::shardc::Target::Cpu", "What ranks are: on GPUs a piece is at most one sequence",
           [{::llvm::cl::values(clEnumValN(::shardc::Target::Cpu, "cpu", "processors"), clEnumValN(::shardc::Target::Cuda, "cuda", "NVIDIA GPUs"))}]>,
  ];
  let dependentDialects = ["::shardc::graph::GraphDialect", "::shardc::shard::ShardDialect"];
}

#endif // SHARDC_DECOMPOSE_PASSES_TD
