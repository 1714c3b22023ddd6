// RUN: shard-opt %s --split-input-file --verify-diagnostics --shard-differentiate
// RUN: not shard-opt %s --split-input-file --shard-differentiate=checkpoint=some 2>&1 | FileCheck %s --check-prefix=CHECKPOINT
// RUN: not shard-opt %s --split-input-file --shard-differentiate=loss=z 2>&1 | FileCheck %s --check-prefix=LOSS
// RUN: not shard-opt %s --split-input-file --shard-differentiate="frozen=(" 2>&1 | FileCheck %s --check-prefix=REGEX
// RUN: not shard-opt %s --split-input-file --shard-differentiate=frozen=nobody 2>&1 | FileCheck %s --check-prefix=NOBODY
// RUN: not shard-opt %s --split-input-file --shard-differentiate=frozen=w 2>&1 | FileCheck %s --check-prefix=ALL

// CHECKPOINT: error: checkpoint: "some" is not none, selective or full
// LOSS: error: no output "z" to train on; there are: "x", "y"
// REGEX: error: frozen: "(" is not a regular expression: parentheses not balanced
// NOBODY: error: frozen: "nobody" matches no parameter
// ALL: error: there is no parameter to train

// expected-error@+1 {{no output "loss" or "logits" to train on; there are: "x", "y"}}
func.func @main() -> (tensor<f32> {graph.name = "x"}, tensor<f32> {graph.name = "y"}) {
  %w = graph.parameter "w" : tensor<f32>
  return %w, %w : tensor<f32>, tensor<f32>
}

// -----

// expected-error@+1 {{no function @main of one block to differentiate}}
module {}

// -----

// expected-error@+1 {{output "logits" of type 'tensor<2x2xi32>' cannot be trained on: it is not floating point}}
func.func @main(%x: tensor<2x2xi32>) -> (tensor<2x2xi32> {graph.name = "logits"}) {
  return %x : tensor<2x2xi32>
}

// -----

// expected-error@+1 {{there is no parameter to train}}
func.func @main(%x: tensor<2x2xf32>) -> (tensor<2x2xf32> {graph.name = "logits"}) {
  %w = graph.parameter "w" : tensor<2xi64>
  return %x : tensor<2x2xf32>
}

// -----

// expected-error@+1 {{output "logits" of type 'tensor<2xf32>' is neither a scalar loss nor logits [..., vocabulary]}}
func.func @main() -> (tensor<2xf32> {graph.name = "logits"}) {
  %w = graph.parameter "w" : tensor<2xf32>
  return %w : tensor<2xf32>
}

// -----

// expected-error@+1 {{the model has an input "labels" of its own: name its loss (loss=NAME)}}
func.func @main(%labels: tensor<2xi64> {graph.name = "labels"}) -> (tensor<2x2xf32> {graph.name = "logits"}) {
  %w = graph.parameter "w" : tensor<2x2xf32>
  return %w : tensor<2x2xf32>
}

// -----

// expected-error@+1 {{output "loss" does not depend on any trained parameter}}
func.func @main(%x: tensor<f32>) -> (tensor<f32> {graph.name = "loss"}) {
  %w = graph.parameter "w" : tensor<2x2xf32>
  return %x : tensor<f32>
}

// -----

func.func @main() -> (tensor<f32> {graph.name = "loss"}) {
  %w = graph.parameter "w" : tensor<f32>
  // expected-error@+1 {{has no derivative, and the loss depends on a trained parameter through it}}
  %y = arith.negf %w : tensor<f32>
  return %y : tensor<f32>
}

// -----

func.func @main() -> (tensor<f32> {graph.name = "loss"}) {
  %w = graph.parameter "w" : tensor<f32>
  %y = call @outer(%w) : (tensor<f32>) -> tensor<f32>
  return %y : tensor<f32>
}
func.func private @outer(%x: tensor<f32>) -> tensor<f32> {
  // expected-error@+1 {{is inside a layer: nested layers cannot be differentiated}}
  %y = call @inner(%x) : (tensor<f32>) -> tensor<f32>
  return %y : tensor<f32>
}
func.func private @inner(%x: tensor<f32>) -> tensor<f32> {
  %y = graph.exp %x : tensor<f32>
  return %y : tensor<f32>
}
