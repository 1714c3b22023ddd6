//===- Passes.td - Parameters and gradients in flat buckets -*- tablegen -*-===//

#ifndef SHARDC_FSDP_PASSES_TD
#define SHARDC_FSDP_PASSES_TD

include "mlir/Pass/PassBase.td"

def DeferGradientSumsPass : Pass<"shard-defer-gradient-sums", "::mlir::ModuleOp"> {
  let summary = "Leave the data-parallel sums of gradients pending";
  let description = [{
    After propagation: a gradient gets its weight's sharding, pending over the axes whose name begins with `dp`, as far back as ops are linear, so that
    Partition reduces nothing over them. FSDP does, for a whole bucket at once. Example: test/FSDP/defer-gradient-sums.mlir.

    Where terms of one sum over another axis (tp) are added, as the cotangents behind q, k and v, the sum is reduced once, behind the additions.
    Example: test/FSDP/merge-additions.mlir.
  }];
  let dependentDialects = ["::shardc::shard::ShardDialect"];
  let options = [Option<"entry", "entry", "std::string", "\"main\"", "the model's function">];
}

def FSDPPass : Pass<"shard-fsdp", "::mlir::ModuleOp"> {
  let summary = "From a differentiated, partitioned program to a training step on sharded parameters";
  let description = [{
    `@main(inputs) -> (loss, tokens, gradients…)` becomes `@step(inputs, scalars, states) -> (loss, tokens, grad_norm, states)` (docs/contracts.md §5):
    parameters of a unit (a layer, what comes before the first, what comes after the last) live in flat buckets, one shard of which is on each
    rank along `dp_shard`; a unit's buckets are gathered before its first use, and again before its backward pass if they were dropped after the forward pass;
    gradients are packed, reduced and scattered as soon as the last of a bucket is there; the optimizer works on the shards.

    zero: what is sharded along `dp_shard`. 0: nothing (gradients are all-reduced); 1, 2: gradients and optimizer state, parameters are gathered
    after the step; 3: parameters too. (1 and 2 differ only where gradients are kept between micro-batches.)

    outer: what is sharded along `dp_replicate` too. no_shard: nothing, replicas are copies; optim: what the optimizer owns. Main parameters are then gathered
    over the replicas before the first gather of a step, reduced gradients are scattered over them. Needs zero 3. Example: test/FSDP/outer.mlir.

    Systems: PyTorch FSDP2, Megatron-FSDP (reference/semantics.md §4, §5), ZeRO (arXiv 1910.02054). Example: test/FSDP/step.mlir.
  }];
  let dependentDialects = ["::shardc::graph::GraphDialect", "::shardc::shard::ShardDialect"];
  let options = [
    Option<"entry", "entry", "std::string", "\"main\"", "the differentiated function">,
    Option<"zero", "zero", "int64_t", "3", "zero_dp_strategy: 0 to 3">,
    Option<"outer", "outer", "std::string", "\"no_shard\"", "outer_dp_sharding_strategy: no_shard or optim">,
    Option<"checkGradients", "check-for-nan-in-grad", "bool", "false", "count numbers that are not finite in each rank's own gradients, an output; an update "
           "whose gradient norm is not finite changes nothing">,
    Option<"reshard", "reshard", "std::string", "\"\"", "reshard_after_forward: true, false, or k to keep a copy cut over groups of k ranks; default: true but for "
           "the last layer of a list">,
    Option<"optimizer", "optimizer", "std::string", "\"adamw\"", "adamw, sgd or muon and its options, as in muon,momentum=0.95,weight-decay=0.1">,
    Option<"noDecay", "no-decay", "std::string", "\"\"", "parameters (a regular expression over names) without weight decay">,
    Option<"clipNorm", "clip-norm", "double", "0.0", "largest global norm of the gradient; 0: any">,
    Option<"separateEntries", "separate-entries", "bool", "false", "forward_backward, finish_grad_sync, optimizer_step and zero_grad instead of step">,
    Option<"deferSync", "defer-grad-sync", "bool", "true", "with separate entries: gradients stay whole and unreduced until finish_grad_sync">,
    Option<"reduceDtype", "reduce-dtype", "std::string", "\"\"", "element type of gradient reductions: f32, bf16 or f16; default: the parameter's">,
  ];
}

def SinkGradientsPass : Pass<"shard-sink-gradients", "::mlir::ModuleOp"> {
  let summary = "Layers widen their gradients and add them to the states themselves";
  let description = [{
    After FSDP: where every call of a layer function widens one of its results, or adds it to a view of a state, the function does so, and has the view as one more
    argument. The product that makes a weight's gradient then stores it as it is kept, or adds it in place (Megatron-LM's gradient accumulation fusion).
    Example: test/FSDP/sink-gradients.mlir.
  }];
  let dependentDialects = ["::shardc::graph::GraphDialect", "::shardc::shard::ShardDialect"];
}

#endif // SHARDC_FSDP_PASSES_TD
