// RUN: shard-opt %s --shard-differentiate=entry=main | shard-opt --shard-interpret - --entry main --input 'labels=dense<[[0, 1], [-100, 1]]>' | FileCheck %s --check-prefix=MAIN
// RUN: shard-opt %s --shard-differentiate=entry=half | shard-opt --shard-interpret - --entry half --input 'labels=dense<0>' | FileCheck %s --check-prefix=HALF
// RUN: shard-opt %s --shard-differentiate="entry=named loss=y" | shard-opt --shard-interpret - --entry named | FileCheck %s --check-prefix=NAMED
// RUN: shard-opt %s --shard-differentiate=entry=only | shard-opt --shard-interpret - --entry only | FileCheck %s --check-prefix=ONLY
// RUN: shard-opt %s --shard-differentiate=entry=called | shard-opt --shard-interpret - --entry called | FileCheck %s --check-prefix=CALLED
// RUN: shard-opt %s --shard-differentiate=entry=main | FileCheck %s

// Cross entropy of the output "logits". Labels are cut as the input of their shape is; the gathering that a plan asks of logits is not for them.
// CHECK-LABEL: func.func @main(
// CHECK-SAME:    %{{.*}}: tensor<2x2xi64> {graph.name = "ids", shard.sharding = [[BATCH:#shard.sharding<@mesh, \[\{"dp_shard"\}, \{\}\]>]]},
// CHECK-SAME:    %{{.*}}: tensor<2x2xi64> {graph.name = "labels", shard.sharding = [[BATCH]]})
// CHECK-SAME:    -> (tensor<f32> {graph.name = "loss"}, tensor<f32> {graph.name = "tokens"}, tensor<2x2xf32> {graph.gradient = "w"}) attributes {graph.vocabulary = 2 : i64}
// CHECK-NOT:     shard.constraint
// Equal logits: log 2 at each of the three positions that count, of four; gradients are (1/2 - onehot) / 4, and nothing at the fourth, whatever lies there.
// MAIN: loss : tensor<f32> = 0.519860387
// MAIN: tokens : tensor<f32> = 0.75
// MAIN: w : tensor<2x2xf32> = {{\[\[}}-0.125, 0.125], [0.25, -0.25]]
shard.mesh @mesh ["dp_shard" = 1]
func.func @main(%ids: tensor<2x2xi64> {graph.name = "ids", shard.sharding = #shard.sharding<@mesh, [{"dp_shard"}, {}]>})
    -> (tensor<2x2x2xf32> {graph.name = "logits"}, tensor<2xf32> {graph.name = "other"}) {
  %w = graph.parameter "w" {value = dense<[[0.0, 0.0], [3.0, 3.0]]> : tensor<2x2xf32>} : tensor<2x2xf32>
  %i = graph.constant dense<[[0, 1], [0, 1]]> : tensor<2x2xi64>
  %x = graph.gather %w, %i axis 0 : tensor<2x2xf32>, tensor<2x2xi64> -> tensor<2x2x2xf32>
  %poison = graph.constant dense<[[[0.0, 0.0], [0.0, 0.0]], [[0x7F800000, 0x7FC00000], [0.0, 0.0]]]> : tensor<2x2x2xf32>
  %y = graph.add %x, %poison : tensor<2x2x2xf32>
  %logits = shard.constraint %y : tensor<2x2x2xf32> to #shard.sharding<@mesh, [{}, {}, {}]>
  %o = graph.reduce sum %y [0, 1] : tensor<2x2x2xf32> -> tensor<2xf32>
  return %logits, %o : tensor<2x2x2xf32>, tensor<2xf32>
}

// Narrow logits: the loss is computed in f32, gradients have the type of their weight.
// HALF: loss : tensor<f32> = 0.693147182
// HALF: w : tensor<2xbf16> = [-0.5, 0.5]
func.func @half() -> (tensor<2x2xbf16> {graph.name = "logits"}) {
  %w = graph.parameter "w" {value = dense<0.0> : tensor<2xbf16>} : tensor<2xbf16>
  %b = graph.broadcast %w [1] : tensor<2xbf16> -> tensor<2x2xbf16>
  return %b : tensor<2x2xbf16>
}

// A scalar output is the loss itself, "loss" before "logits" before the only one, or the one that is asked for.
// NAMED: loss : tensor<f32> = 6
// NAMED: w : tensor<2xf32> = [2, 4]
func.func @named() -> (tensor<f32> {graph.name = "loss"}, tensor<1xf32> {graph.name = "y"}) {
  %w = graph.parameter "w" {value = dense<[1.0, 1.0]> : tensor<2xf32>} : tensor<2xf32>
  %c = graph.constant dense<[2.0, 4.0]> : tensor<2xf32>
  %m = graph.mul %w, %c : tensor<2xf32>
  %loss = graph.reduce sum %w [0] : tensor<2xf32> -> tensor<f32>
  %s = graph.reduce sum %m [0] : tensor<2xf32> -> tensor<f32>
  %y = graph.reshape %s : tensor<f32> -> tensor<1xf32>
  return %loss, %y : tensor<f32>, tensor<1xf32>
}

// ONLY: loss : tensor<f32> = 9
// ONLY: w : tensor<f16> = 6
func.func @only() -> (tensor<f16> {graph.name = "energy"}) {
  %w = graph.parameter "w" {value = dense<3.0> : tensor<f16>} : tensor<f16>
  %y = graph.mul %w, %w : tensor<f16>
  return %y : tensor<f16>
}

// The result of a layer may be the loss as it is.
// CALLED: loss : tensor<f32> = 9
// CALLED: tokens : tensor<f32> = 1
// CALLED: w : tensor<f32> = 6
func.func private @square(%x: tensor<f32>) -> tensor<f32> {
  %y = graph.mul %x, %x : tensor<f32>
  return %y : tensor<f32>
}
func.func @called() -> (tensor<f32> {graph.name = "loss"}) {
  %w = graph.parameter "w" {value = dense<3.0> : tensor<f32>} : tensor<f32>
  %y = call @square(%w) : (tensor<f32>) -> tensor<f32>
  return %y : tensor<f32>
}
