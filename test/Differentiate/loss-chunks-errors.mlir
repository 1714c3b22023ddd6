// RUN: shard-opt %s --split-input-file --verify-diagnostics --shard-differentiate=loss-chunks=3

// expected-error@+1 {{loss-chunks: 3 chunks do not divide the 4 positions of a sequence}}
func.func @main(%x: tensor<2x4x3xf32> {graph.name = "x"}) -> (tensor<2x4x5xf32> {graph.name = "logits"}) {
  %w = graph.parameter "head" : tensor<5x3xf32>
  %logits = graph.einsum "bsh,vh->bsv" %x, %w : tensor<2x4x3xf32>, tensor<5x3xf32> -> tensor<2x4x5xf32>
  return %logits : tensor<2x4x5xf32>
}

// -----

// expected-error@+1 {{loss-chunks: output "logits" cannot be computed in 3 chunks: "graph.softmax" makes the logits}}
func.func @main(%x: tensor<2x6x3xf32> {graph.name = "x"}) -> (tensor<2x6x5xf32> {graph.name = "logits"}) {
  %w = graph.parameter "head" : tensor<5x3xf32>
  %y = graph.einsum "bsh,vh->bsv" %x, %w : tensor<2x6x3xf32>, tensor<5x3xf32> -> tensor<2x6x5xf32>
  %logits = graph.softmax %y dim 1 : tensor<2x6x5xf32>
  return %logits : tensor<2x6x5xf32>
}

// -----

// expected-error@+1 {{loss-chunks: output "logits" cannot be computed in 3 chunks: no contraction makes the logits}}
func.func @main() -> (tensor<2x6x5xf32> {graph.name = "logits"}) {
  %b = graph.parameter "bias" : tensor<5xf32>
  %logits = graph.broadcast %b [2] : tensor<5xf32> -> tensor<2x6x5xf32>
  return %logits : tensor<2x6x5xf32>
}

// -----

// expected-error@+1 {{loss-chunks: output "loss" is a loss, not logits that could be cut into 3 chunks}}
func.func @main() -> (tensor<f32> {graph.name = "loss"}) {
  %w = graph.parameter "w" : tensor<f32>
  return %w : tensor<f32>
}

// -----

// expected-error@+1 {{loss-chunks: output "logits" cannot be computed in 3 chunks: the hidden state is multiplied by itself}}
func.func @main(%x: tensor<6x3xf32> {graph.name = "x"}) -> (tensor<6x6xf32> {graph.name = "logits"}) {
  %w = graph.parameter "scale" : tensor<6x3xf32>
  %hidden = graph.mul %x, %w : tensor<6x3xf32>
  %logits = graph.einsum "sh,vh->sv" %hidden, %hidden : tensor<6x3xf32>, tensor<6x3xf32> -> tensor<6x6xf32>
  return %logits : tensor<6x6xf32>
}
