// RUN: shard-opt %s --split-input-file --shard-propagate | FileCheck %s

// A bias follows its column-parallel weight; what nothing reaches is replicated; open dimensions are closed.
shard.mesh @mesh ["tp" = 2]
// CHECK-LABEL: @bias
// CHECK-SAME: %arg0: tensor<2x4xf32> {shard.sharding = #shard.sharding<@mesh, [{}, {}]>}
// CHECK-SAME: -> (tensor<2x6xf32> {shard.sharding = #shard.sharding<@mesh, [{}, {"tp"}]>})
func.func @bias(%x: tensor<2x4xf32>) -> tensor<2x6xf32> {
  %w = graph.parameter "w" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>]} : tensor<6x4xf32>
  // CHECK: graph.parameter "b" {shard.origin = "tp: parameter \22w\22 through graph.broadcast", shard.shardings = [#shard.sharding<@mesh, [{"tp"}]>]}
  %b = graph.parameter "b" : tensor<6xf32>
  %y = graph.einsum "mk,nk->mn" %x, %w : tensor<2x4xf32>, tensor<6x4xf32> -> tensor<2x6xf32>
  %bb = graph.broadcast %b [1] : tensor<6xf32> -> tensor<2x6xf32>
  %z = graph.add %y, %bb : tensor<2x6xf32>
  return %z : tensor<2x6xf32>
}

// -----

// One constant for two uses would tie them together: each gets its own.
shard.mesh @mesh ["tp" = 2]
// CHECK-LABEL: @constants
func.func @constants(%x: tensor<4x4xf32> {shard.sharding = #shard.sharding<@mesh, [{"tp"}, {?}]>},
                     %y: tensor<4x4xf32>) -> (tensor<4x4xf32>, tensor<4x4xf32>) {
  %c = graph.constant dense<1.0> : tensor<f32>
  %b = graph.broadcast %c [] : tensor<f32> -> tensor<4x4xf32>
  // CHECK: graph.add %arg0, {{.*}}[{"tp"}, {}]
  // CHECK: graph.add %arg1, {{.*}}[{}, {}]
  %0 = graph.add %x, %b : tensor<4x4xf32>
  %1 = graph.add %y, %b : tensor<4x4xf32>
  return %0, %1 : tensor<4x4xf32>, tensor<4x4xf32>
}

// -----

// Two query heads a group, two key/value heads, four devices: groups of devices share a head.
shard.mesh @mesh ["tp" = 4]
// CHECK-LABEL: @grouped_query
// CHECK-SAME: %arg1: tensor<1x2x3x2xf32> {shard.sharding = #shard.sharding<@mesh, [{}, {"tp":(1)2}, {}, {}]>}
func.func @grouped_query(%q: tensor<1x4x3x2xf32> {shard.sharding = #shard.sharding<@mesh, [{}, {"tp"}, {}, {}]>},
                         %k: tensor<1x2x3x2xf32>, %v: tensor<1x2x3x2xf32>) -> tensor<1x4x3x2xf32> {
  // CHECK: graph.attention {{.*}}[{}, {"tp"}, {}, {}]
  %0 = graph.attention %q, %k, %v scale 1.0 : tensor<1x4x3x2xf32>, tensor<1x2x3x2xf32>, tensor<1x2x3x2xf32> -> tensor<1x4x3x2xf32>
  return %0 : tensor<1x4x3x2xf32>
}

// -----

// Two shardings meet: the first of smaller priority wins, and the other is told.
shard.mesh @mesh ["a" = 2, "b" = 2]
// CHECK-LABEL: @priorities
func.func @priorities(%x: tensor<4x4xf32> {shard.sharding = #shard.sharding<@mesh, [{"a", ?}p1, {?}]>},
                      %y: tensor<4x4xf32> {shard.sharding = #shard.sharding<@mesh, [{"b"}, {?}]>}) -> tensor<4x4xf32> {
  // CHECK: graph.add {{.*}}shard.conflicts = [{{.*}}operand 0 has {a}, operand 1 has {b}"], {{.*}}[{"b"}, {}]
  %0 = graph.add %x, %y : tensor<4x4xf32>
  return %0 : tensor<4x4xf32>
}

// -----

// The residual stream is cut along the sequence, but not where a weight has taken the axis for the features.
shard.mesh @mesh ["tp" = 2]
// CHECK-LABEL: @weights_first
func.func @weights_first(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
  %up = graph.parameter "up" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>]} : tensor<6x4xf32>
  %down = graph.parameter "down" {shard.shardings = [#shard.sharding<@mesh, [{}, {"tp"}]>]} : tensor<4x6xf32>
  // CHECK: %[[X:.*]] = shard.constraint {{.*}}[{"tp"}, {}]
  %c = shard.constraint %x : tensor<4x4xf32> to <@mesh, [{"tp"}, {}]>
  // CHECK: graph.einsum "sk,nk->sn" %[[X]], {{.*}}[{}, {"tp"}]
  %h = graph.einsum "sk,nk->sn" %c, %up : tensor<4x4xf32>, tensor<6x4xf32> -> tensor<4x6xf32>
  // CHECK: graph.einsum {{.*}}[{"tp"}, {}]
  %y = graph.einsum "sk,nk->sn" %h, %down : tensor<4x6xf32>, tensor<4x6xf32> -> tensor<4x4xf32>
  %z = shard.constraint %y : tensor<4x4xf32> to <@mesh, [{"tp"}, {}]>
  return %z : tensor<4x4xf32>
}

// -----

// Calls with other shardings of a parameter go to a function of their own.
shard.mesh @mesh ["tp" = 2]
// CHECK-LABEL: @linear_0(
// CHECK-SAME: %arg1: tensor<4x4xf32> {shard.sharding = #shard.sharding<@mesh, [{}, {}]>}
// CHECK-LABEL: @linear(
// CHECK-SAME: %arg1: tensor<4x4xf32> {shard.sharding = #shard.sharding<@mesh, [{"tp"}, {}]>}
func.func private @linear(%x: tensor<2x4xf32>, %w: tensor<4x4xf32>) -> tensor<2x4xf32> {
  %y = graph.einsum "mk,nk->mn" %x, %w : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}
// CHECK-LABEL: @main
func.func @main(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {
  %a = graph.parameter "a" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>]} : tensor<4x4xf32>
  %b = graph.parameter "b" {shard.shardings = [#shard.sharding<@mesh, [{}, {}]>]} : tensor<4x4xf32>
  %c = graph.parameter "c" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>]} : tensor<4x4xf32>
  // CHECK: call @linear(
  // CHECK: call @linear_0(
  // CHECK: call @linear(
  %0 = call @linear(%x, %a) : (tensor<2x4xf32>, tensor<4x4xf32>) -> tensor<2x4xf32>
  %1 = call @linear(%0, %b) : (tensor<2x4xf32>, tensor<4x4xf32>) -> tensor<2x4xf32>
  %2 = call @linear(%1, %c) : (tensor<2x4xf32>, tensor<4x4xf32>) -> tensor<2x4xf32>
  return %2 : tensor<2x4xf32>
}

// -----

// What replaces an input is cut as that is, whatever the op that makes it would like.
shard.mesh @mesh ["tp" = 2]
// CHECK-LABEL: @alias
// CHECK-SAME: %arg0: tensor<4x2xf32> {graph.name = "past", shard.sharding = #shard.sharding<@mesh, [{}, {"tp"}]>}
// CHECK-SAME: -> (tensor<4x2xf32> {graph.alias = "past", graph.name = "present", shard.sharding = #shard.sharding<@mesh, [{}, {"tp"}]>})
func.func @alias(%past: tensor<4x2xf32> {graph.name = "past", shard.sharding = #shard.sharding<@mesh, [{}, {"tp"}]>})
    -> (tensor<4x2xf32> {graph.alias = "past", graph.name = "present"}) {
  %w = graph.parameter "w" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>]} : tensor<4x2xf32>
  %y = graph.einsum "sk,sk->sk" %past, %w : tensor<4x2xf32>, tensor<4x2xf32> -> tensor<4x2xf32>
  return %y : tensor<4x2xf32>
}
