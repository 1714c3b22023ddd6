//===- Passes.td - From a model to its training step -------*- tablegen -*-===//

#ifndef SHARDC_DIFFERENTIATE_PASSES_TD
#define SHARDC_DIFFERENTIATE_PASSES_TD

include "mlir/Pass/PassBase.td"

def DifferentiatePass : Pass<"shard-differentiate", "::mlir::ModuleOp"> {
  let summary = "Add the loss and its gradient with respect to every trainable parameter";
  let description = [{
    `@main(inputs) -> (logits, …)` becomes `@main(inputs, labels) -> (loss, tokens, gradients…)` (docs/contracts.md §5.1). Each layer
    function gets a backward twin; what is kept between the two is the smallest set of bytes from which the backward pass can be
    computed with cheap ops (elementwise and row ops) alone, less what the checkpoint policy has recomputed:

    * `none`: all of it is kept.
    * `selective`: every second matrix product is recomputed; attention, routing and all else that is expensive is kept.
    * `full`: only the layer's inputs are kept.

    With loss chunks the logits of all positions do not exist at once: a function makes a chunk's logits, losses and gradients (test/Differentiate/loss-chunks.mlir).

    ```mlir
    %y = call @layer_0(%x, %w)                        %y, %kept = call @layer_0(%x, %w)
    return %y                                  ->     …
                                                      %dx, %dw = call @layer_0_backward(%x, %w, %kept, %dy)
    ```

    Ideas: reverse-mode differentiation by op (Wengert lists; JAX's vjp), the cut by maximum flow (PyTorch AOTAutograd's min-cut
    partitioner; Chen et al. 2016 for recomputation). Example: test/Differentiate/layer.mlir.
  }];
  let dependentDialects = ["::shardc::graph::GraphDialect", "::shardc::shard::ShardDialect", "::mlir::func::FuncDialect"];
  let options = [
    Option<"entry", "entry", "std::string", "\"main\"", "the model's function">,
    Option<"checkpoint", "checkpoint", "std::string", "\"none\"", "activation checkpointing: none, selective or full">,
    Option<"checkpointLayers", "checkpoint-layers", "int64_t", "-1", "only so many of the first layers are checkpointed; -1: all">,
    Option<"loss", "loss", "std::string", "\"\"", "output to minimise if it is a scalar, or to take next-token cross entropy of; "
           "default: \"loss\" if there is one, else \"logits\"">,
    Option<"lossChunks", "loss-chunks", "int64_t", "0", "cut the positions of each sequence into so many chunks, whose logits exist one after the other; "
           "0: chosen by size">,
    Option<"frozen", "frozen", "std::string", "\"\"", "parameters (a regular expression over names) that are not trained">,
  ];
}

def MixedPrecisionPass : Pass<"shard-mixed-precision", "::mlir::ModuleOp"> {
  let summary = "Compute in a 16-bit type where that is safe; parameters stay f32";
  let description = [{
    Before shard-outline. Contractions, attention, norms, activations and pointwise arithmetic on narrow values become `dtype`; exponentials, sums,
    softmax and what else models widen by hand stay f32. A parameter is cast where a narrow op reads it: FSDP casts the shard and gathers that.

    ```mlir
    %w = graph.parameter "w" : tensor<4x8xf32>                  %w = graph.parameter "w" : tensor<4x8xf32>
    %y = graph.einsum "mk,nk->mn" %x, %w : …          ->        %v = graph.cast %w : tensor<4x8xf32> -> tensor<4x8xbf16>
                                                                %y = graph.einsum "mk,nk->mn" %x, %v : …
    ```

    Example: test/Differentiate/mixed-precision.mlir.
  }];
  let dependentDialects = ["::shardc::graph::GraphDialect"];
  let options = [
    Option<"entry", "entry", "std::string", "\"main\"", "the model's function">,
    Option<"dtype", "dtype", "std::string", "\"bf16\"", "bf16, f16, or f32 to change nothing">,
    Option<"keep", "keep", "std::string", "\"\"", "parameters (a regular expression over names) whose readers compute in f32">,
  ];
}

def QuantizeProductsPass : Pass<"shard-quantize-products", "::mlir::ModuleOp"> {
  let summary = "Linear layers multiply 8-bit floats, each tensor with a scale of its own";
  let description = [{
    Before shard-outline, behind shard-mixed-precision. A product of an activation with a weight, whose role (shard-find-roles) is a linear layer of attention or of a
    feed-forward block, becomes one of 8-bit floats with current scaling: each factor is scaled so that its largest magnitude becomes the type's largest number. The head, the
    embedding, routers, experts and attention itself stay. So does a product of which a size is no multiple of 16, which no GPU's library takes: of its input and output
    features and, in training, where they are summed over too, of its positions.

    ```mlir
    %y = graph.einsum "mk,nk->mn" %x, %w : …   ->   %qx = graph.quantize %x, %sx : …
                                                    %qw = graph.quantize %w, %sw : …
                                                    %y = graph.scaled_einsum "mk,nk->mn" %qx, %qw scales %ux, %uw : …
    ```

    Recipe: NVIDIA Transformer Engine's Float8CurrentScaling; formats: Micikevicius et al. 2022. Example: test/Differentiate/quantize-products.mlir.
  }];
  let dependentDialects = ["::shardc::graph::GraphDialect"];
  let options = [
    Option<"entry", "entry", "std::string", "\"main\"", "the model's function">,
    Option<"recipe", "recipe", "std::string", "\"e4m3\"", "e4m3: f8E4M3FN for everything; hybrid: f8E5M2 for gradients">,
    Option<"skip", "skip", "std::string", "\"\"", "parameters (a regular expression over names) whose products stay">,
    Option<"train", "train", "bool", "false", "gradients are multiplied too">,
    Option<"print", "print", "bool", "false", "a line for each product: its types, or why it stays">,
  ];
}

#endif // SHARDC_DIFFERENTIATE_PASSES_TD
