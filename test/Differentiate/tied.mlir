// RUN: shard-opt %s --shard-differentiate=entry=tied --canonicalize --cse | FileCheck %s
// RUN: shard-opt %s --shard-differentiate=entry=tied | shard-opt --shard-interpret - --entry tied | FileCheck %s --check-prefix=TIED
// RUN: shard-opt %s --shard-differentiate=entry=shared | shard-opt --shard-interpret - --entry shared | FileCheck %s --check-prefix=SHARED
// RUN: shard-opt %s --shard-differentiate=entry=packed | shard-opt --shard-interpret - --entry packed | FileCheck %s --check-prefix=PACKED

// Embedding and head are one weight, though it stands twice: one gradient, the sum.
// CHECK-LABEL: func.func @tied(
// CHECK-SAME:    -> (tensor<f32> {graph.name = "loss"}, tensor<f32> {graph.name = "tokens"}, tensor<3x2xf32> {graph.gradient = "embed"})
// CHECK-DAG:     %[[HEAD:.*]] = graph.einsum "bn,bk->nk"
// CHECK-DAG:     %[[EMBED:.*]] = graph.scatter_sum
// CHECK:         %[[SUM:.*]] = graph.add %[[EMBED]], %[[HEAD]]
// CHECK:         return %{{.*}}, %{{.*}}, %[[SUM]]
// Sum of x w^T: (sum of rows of w) to the rows looked up, sum of x to all rows.
// TIED: loss : tensor<f32> = 150
// TIED: embed : tensor<3x2xf32> = {{\[\[}}15, 20], [6, 8], [15, 20]]
func.func @tied() -> (tensor<f32> {graph.name = "loss"}) {
  %ids = graph.constant dense<[2, 0]> : tensor<2xi64>
  %e = graph.parameter "embed" {value = dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]> : tensor<3x2xf32>} : tensor<3x2xf32>
  %h = graph.parameter "embed" {value = dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]> : tensor<3x2xf32>} : tensor<3x2xf32>
  %x = graph.gather %e, %ids axis 0 : tensor<3x2xf32>, tensor<2xi64> -> tensor<2x2xf32>
  %y = graph.einsum "bk,nk->bn" %x, %h : tensor<2x2xf32>, tensor<3x2xf32> -> tensor<2x3xf32>
  %s = graph.reduce sum %y [0, 1] : tensor<2x3xf32> -> tensor<f32>
  return %s : tensor<f32>
}

// Two layers and the head read one weight: w0 w1 w2 with all three the same.
// SHARED: loss : tensor<f32> = 35
// SHARED: w : tensor<2xf32> = [12, 27]
func.func @shared() -> (tensor<f32> {graph.name = "loss"}) {
  %x = graph.constant dense<[1.0, 1.0]> : tensor<2xf32>
  %w = graph.parameter "w" {value = dense<[2.0, 3.0]> : tensor<2xf32>} : tensor<2xf32>
  %0 = call @layer(%x, %w) {graph.path = "layers.0"} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %1 = call @layer(%0, %w) {graph.path = "layers.1"} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %2 = graph.mul %1, %w : tensor<2xf32>
  %3 = graph.reduce sum %2 [0] : tensor<2xf32> -> tensor<f32>
  return %3 : tensor<f32>
}
func.func private @layer(%x: tensor<2xf32>, %w: tensor<2xf32> {graph.parameter = "w"}) -> tensor<2xf32> attributes {graph.layer = "layers"} {
  %0 = graph.mul %x, %w : tensor<2xf32>
  return %0 : tensor<2xf32>
}

// Pieces of a packed weight have gradients of their own.
// PACKED: loss : tensor<f32> = 11
// PACKED: qk : tensor<2xf32> = [3, 4]
// PACKED: qk : tensor<2xf32> = [1, 2]
func.func @packed() -> (tensor<f32> {graph.name = "loss"}) {
  %q = graph.parameter "qk" segment [0, 0, 2] of 4 {value = dense<[1.0, 2.0]> : tensor<2xf32>} : tensor<2xf32>
  %k = graph.parameter "qk" segment [0, 2, 2] of 4 {value = dense<[3.0, 4.0]> : tensor<2xf32>} : tensor<2xf32>
  %0 = graph.mul %q, %k : tensor<2xf32>
  %1 = graph.reduce sum %0 [0] : tensor<2xf32> -> tensor<f32>
  return %1 : tensor<f32>
}
