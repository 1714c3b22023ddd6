// RUN: shard-opt %s --split-input-file --shard-propagate --shard-partition --canonicalize --cse | FileCheck %s

// Two axes: the batch over dp, columns and rows over tp.
shard.mesh @mesh ["dp" = 2, "tp" = 2]
// CHECK-LABEL: @two_axes
// CHECK-SAME: (%arg0: tensor<1x4xf32>
// CHECK-SAME: -> (tensor<1x4xf32>
func.func @two_axes(%x: tensor<2x4xf32> {shard.sharding = #shard.sharding<@mesh, [{"dp"}, {?}]>}) -> tensor<2x4xf32> {
  %up = graph.parameter "up" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>]} : tensor<6x4xf32>
  %down = graph.parameter "down" {shard.shardings = [#shard.sharding<@mesh, [{}, {"tp"}]>]} : tensor<4x6xf32>
  // CHECK: graph.einsum {{.*}} -> tensor<1x3xf32>
  %h = graph.einsum "bk,nk->bn" %x, %up : tensor<2x4xf32>, tensor<6x4xf32> -> tensor<2x6xf32>
  // CHECK: graph.einsum
  // CHECK-NEXT: shard.all_reduce {{.*}} over {"tp"} of @mesh sum
  // CHECK-NOT: shard.all
  %y = graph.einsum "bk,nk->bn" %h, %down : tensor<2x6xf32>, tensor<4x6xf32> -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}

// -----

// A loss over the sharded vocabulary is needed twice whole: gathered once.
shard.mesh @mesh ["tp" = 2]
// CHECK-LABEL: @gathered_once
func.func @gathered_once(%x: tensor<3x4xf32> {shard.sharding = #shard.sharding<@mesh, [{}, {"tp"}]>})
    -> (tensor<3x4xf32>, tensor<3x4xf32>) {
  // CHECK: %[[X:.*]] = shard.all_gather %arg0
  // CHECK-SAME: for = "operand 0 of graph.softmax", from = "[{}, {tp}]", {{.*}}to = "[{}, {}]"
  // CHECK-NOT: shard.all_gather
  // CHECK: graph.softmax %[[X]]
  // CHECK: graph.cumsum %[[X]]
  %0 = graph.softmax %x dim 1 {shard.shardings = [#shard.sharding<@mesh, [{}, {}]>]} : tensor<3x4xf32>
  %1 = graph.cumsum %x dim 1 {shard.shardings = [#shard.sharding<@mesh, [{}, {}]>]} : tensor<3x4xf32>
  return %0, %1 : tensor<3x4xf32>, tensor<3x4xf32>
}

// -----

// A constant is cut where it is used; one with equal elements is made anew.
shard.mesh @mesh ["tp" = 2]
// CHECK-LABEL: @constants
func.func @constants(%x: tensor<4xf32> {shard.sharding = #shard.sharding<@mesh, [{"tp"}]>}) -> tensor<4xf32> {
  // CHECK-DAG: %[[ONE:.*]] = graph.constant dense<1.000000e+00> : tensor<2xf32>
  // CHECK-DAG: %[[C:.*]] = graph.constant dense<[1.000000e+00, 2.000000e+00, 3.000000e+00, 4.000000e+00]> : tensor<4xf32>
  // CHECK: graph.add %arg0, %[[ONE]]
  // CHECK: %[[S:.*]] = shard.slice %[[C]] over {"tp"} of @mesh dim 0
  // CHECK: graph.mul %{{.*}}, %[[S]] : tensor<2xf32>
  %one = graph.constant dense<1.0> : tensor<4xf32>
  %c = graph.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>
  %0 = graph.add %x, %one : tensor<4xf32>
  %1 = graph.mul %0, %c : tensor<4xf32>
  return %1 : tensor<4xf32>
}

// -----

// (A slow mesh without latency: summing parts is cheaper than gathering.)
// The tail of an uneven dimension is made neutral before it is summed, and dropped when it is gathered.
shard.mesh @mesh ["tp" = 2] {bandwidth = array<f64: 0.001>, latency = array<f64: 0.0>}
// CHECK-LABEL: @uneven
func.func @uneven(%x: tensor<5xf32> {shard.sharding = #shard.sharding<@mesh, [{"tp"}]>})
    -> (tensor<f32>, tensor<5xf32> {shard.sharding = #shard.sharding<@mesh, [{}]>}) {
  // CHECK: %[[E:.*]] = graph.exp %arg0 : tensor<3xf32>
  %e = graph.exp %x : tensor<5xf32>
  // CHECK: shard.axis_index
  // CHECK: %[[M:.*]] = graph.select %{{.*}}, %[[E]], %{{.*}} : tensor<3xi1>, tensor<3xf32>
  // CHECK: %[[P:.*]] = graph.reduce sum %[[M]] [0]
  // CHECK: shard.all_reduce %[[P]]
  %s = graph.reduce sum %e [0] : tensor<5xf32> -> tensor<f32>
  // CHECK: shard.all_gather %[[E]] {{.*}} : tensor<3xf32> -> tensor<5xf32>
  return %s, %e : tensor<f32>, tensor<5xf32>
}

// -----

// A sum that is wanted pending stays so: FSDP resolves it later.
shard.mesh @mesh ["dp" = 2]
// CHECK-LABEL: @pending
// CHECK-NOT: shard.all
func.func @pending(%x: tensor<4x2xf32> {shard.sharding = #shard.sharding<@mesh, [{"dp"}, {}]>},
                   %g: tensor<4x3xf32> {shard.sharding = #shard.sharding<@mesh, [{"dp"}, {}]>})
    -> (tensor<3x2xf32> {shard.sharding = #shard.sharding<@mesh, [{}, {}], partial = sum {"dp"}>}) {
  // CHECK: graph.einsum {{.*}} : tensor<2x3xf32>, tensor<2x2xf32> -> tensor<3x2xf32>
  %w = graph.einsum "bn,bk->nk" %g, %x {shard.shardings = [#shard.sharding<@mesh, [{}, {}], partial = sum {"dp"}>]}
      : tensor<4x3xf32>, tensor<4x2xf32> -> tensor<3x2xf32>
  return %w : tensor<3x2xf32>
}
