// RUN: shard-opt %s --split-input-file --shard-outline | FileCheck %s

// Two layers of one kind: one function, weights as arguments, paths relative to the layer.
// CHECK: func.func private @layer_0(%[[X:.*]]: tensor<4xf32>, %[[W:.*]]: tensor<4xf32> {graph.parameter = "mlp.weight"}) -> tensor<4xf32> attributes {graph.layer = "model.layers"}
// CHECK-NEXT: graph.mul %[[X]], %[[W]] {graph.path = "mlp"}
// CHECK-NEXT: graph.tanh
// CHECK-NOT: @layer_1
// CHECK-LABEL: @main
// CHECK: %[[A:.*]] = call @layer_0(%{{.*}}, %{{.*}}) {graph.path = "model.layers.0"}
// CHECK: %[[B:.*]] = call @layer_0(%[[A]], %{{.*}}) {graph.path = "model.layers.1"}
// CHECK: graph.neg %[[B]]
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %w0 = graph.parameter "model.layers.0.mlp.weight" : tensor<4xf32>
  %w1 = graph.parameter "model.layers.1.mlp.weight" : tensor<4xf32>
  %0 = graph.mul %x, %w0 {graph.path = "model.layers.0.mlp"} : tensor<4xf32>
  %1 = graph.tanh %0 {graph.path = "model.layers.0.act"} : tensor<4xf32>
  %2 = graph.mul %1, %w1 {graph.path = "model.layers.1.mlp"} : tensor<4xf32>
  %3 = graph.tanh %2 {graph.path = "model.layers.1.act"} : tensor<4xf32>
  %4 = graph.neg %3 {graph.path = "model.norm"} : tensor<4xf32>
  return %4 : tensor<4xf32>
}

// -----

// A constant that differs between layers is an argument; an equal one is inside.
// CHECK: func.func private @layer_0(%{{.*}}: tensor<2xf32>, %{{.*}}: tensor<2xf32>)
// CHECK-NEXT: graph.constant dense<3.0
// CHECK-LABEL: @main
// CHECK-COUNT-2: call @layer_0(
func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
  %a = graph.constant dense<1.0> : tensor<2xf32>
  %b = graph.constant dense<2.0> : tensor<2xf32>
  %c = graph.constant dense<3.0> : tensor<2xf32>
  %0 = graph.mul %x, %a {graph.path = "h.0.x"} : tensor<2xf32>
  %1 = graph.add %0, %c {graph.path = "h.0.x"} : tensor<2xf32>
  %2 = graph.mul %1, %b {graph.path = "h.1.x"} : tensor<2xf32>
  %3 = graph.add %2, %c {graph.path = "h.1.x"} : tensor<2xf32>
  return %3 : tensor<2xf32>
}

// -----

// Another structure is another kind.
// CHECK: func.func private @layer_0
// CHECK: func.func private @layer_1
// CHECK-LABEL: @main
func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = graph.exp %x {graph.path = "layers.0.x"} : tensor<2xf32>
  %1 = graph.log %0 {graph.path = "layers.1.x"} : tensor<2xf32>
  return %1 : tensor<2xf32>
}

// -----

// An op without a path between two ops of a layer joins it.
// CHECK: func.func private @layer_0
// CHECK: graph.exp
// CHECK-NEXT: graph.neg
// CHECK-NEXT: graph.log
// CHECK-LABEL: @main
func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = graph.exp %x {graph.path = "m.layers.0.x"} : tensor<2xf32>
  %1 = graph.neg %0 {graph.path = "m.other"} : tensor<2xf32>
  %2 = graph.log %1 {graph.path = "m.layers.0.x"} : tensor<2xf32>
  return %2 : tensor<2xf32>
}

// -----

// No paths at all: the repeated structure is found, cut where only the residual crosses.
// CHECK: func.func private @layer_0(%{{.*}}: tensor<4xf32>, %{{.*}}: tensor<4xf32> {graph.parameter = "p0"}) -> tensor<4xf32>
// CHECK-LABEL: @main
// CHECK: graph.sqrt
// CHECK-COUNT-3: call @layer_0
// CHECK: graph.cos
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %w0 = graph.parameter "p0" : tensor<4xf32>
  %w1 = graph.parameter "p1" : tensor<4xf32>
  %w2 = graph.parameter "p2" : tensor<4xf32>
  %s = graph.sqrt %x : tensor<4xf32>
  %a0 = graph.mul %s, %w0 : tensor<4xf32>
  %a1 = graph.tanh %a0 : tensor<4xf32>
  %a2 = graph.neg %a1 : tensor<4xf32>
  %a3 = graph.exp %a2 : tensor<4xf32>
  %a4 = graph.sin %a3 : tensor<4xf32>
  %a5 = graph.add %a4, %s : tensor<4xf32>
  %b0 = graph.mul %a5, %w1 : tensor<4xf32>
  %b1 = graph.tanh %b0 : tensor<4xf32>
  %b2 = graph.neg %b1 : tensor<4xf32>
  %b3 = graph.exp %b2 : tensor<4xf32>
  %b4 = graph.sin %b3 : tensor<4xf32>
  %b5 = graph.add %b4, %a5 : tensor<4xf32>
  %c0 = graph.mul %b5, %w2 : tensor<4xf32>
  %c1 = graph.tanh %c0 : tensor<4xf32>
  %c2 = graph.neg %c1 : tensor<4xf32>
  %c3 = graph.exp %c2 : tensor<4xf32>
  %c4 = graph.sin %c3 : tensor<4xf32>
  %c5 = graph.add %c4, %b5 : tensor<4xf32>
  %o = graph.cos %c5 : tensor<4xf32>
  return %o : tensor<4xf32>
}

// -----

// The cast of a weight under mixed precision is the caller's, who gathers what is narrow.
// CHECK: func.func private @layer_0(%{{.*}}: tensor<4xbf16>, %{{.*}}: tensor<4xbf16> {graph.parameter = "mlp.weight"}) -> tensor<4xbf16>
// CHECK-NOT: graph.cast
// CHECK-LABEL: @main
// CHECK-COUNT-2: graph.cast
func.func @main(%x: tensor<4xbf16>) -> tensor<4xbf16> {
  %w0 = graph.parameter "model.layers.0.mlp.weight" : tensor<4xf32>
  %w1 = graph.parameter "model.layers.1.mlp.weight" : tensor<4xf32>
  %c0 = graph.cast %w0 : tensor<4xf32> -> tensor<4xbf16>
  %c1 = graph.cast %w1 : tensor<4xf32> -> tensor<4xbf16>
  %0 = graph.mul %x, %c0 {graph.path = "model.layers.0.mlp"} : tensor<4xbf16>
  %1 = graph.mul %0, %c1 {graph.path = "model.layers.1.mlp"} : tensor<4xbf16>
  return %1 : tensor<4xbf16>
}
