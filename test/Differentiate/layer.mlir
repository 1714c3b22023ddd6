// RUN: shard-opt %s --shard-differentiate --canonicalize --cse | FileCheck %s
// RUN: shard-opt %s --shard-differentiate | shard-opt --shard-interpret - | FileCheck %s --check-prefix=NUMBERS

// x + down(relu(up(x))), twice. A layer keeps what its backward part cannot compute by cheap ops, as far on as bytes allow:
// the relu of `up`'s product, which also says where its derivative is not zero.
// Nothing before the first layer is trained: its backward part gives no cotangent of x, and is a function of its own.

// CHECK-LABEL: func.func @main(%arg0: tensor<2x2xf32> {graph.name = "x"})
// CHECK-SAME:    -> (tensor<f32> {graph.name = "loss"}, tensor<f32> {graph.name = "tokens"}, tensor<2x2xf32> {graph.gradient = "layers.0.up"},
// CHECK-SAME:        tensor<2x2xf32> {graph.gradient = "layers.0.down"}, tensor<2x2xf32> {graph.gradient = "layers.1.up"}, tensor<2x2xf32> {graph.gradient = "layers.1.down"})
// CHECK-DAG:   %[[UP0:.*]] = graph.parameter "layers.0.up"
// CHECK-DAG:   %[[DOWN0:.*]] = graph.parameter "layers.0.down"
// CHECK-DAG:   %[[UP1:.*]] = graph.parameter "layers.1.up"
// CHECK-DAG:   %[[DOWN1:.*]] = graph.parameter "layers.1.down"
// CHECK:       %[[Y0:.*]]:2 = call @[[FORWARD0:.*]](%{{.*}}, %[[UP0]], %[[DOWN0]]) {graph.path = "layers.0"}
// CHECK:       %[[Y1:.*]]:2 = call @[[FORWARD1:.*]](%[[Y0]]#0, %[[UP1]], %[[DOWN1]]) {graph.path = "layers.1"}
// CHECK:       %[[LOSS:.*]] = graph.reduce sum %[[Y1]]#0
// CHECK:       %[[DY:.*]] = graph.broadcast
// CHECK:       %[[D1:.*]]:3 = call @[[BACKWARD1:.*]](%[[Y0]]#0, %[[UP1]], %[[DOWN1]], %[[DY]], %[[Y1]]#1) {graph.path = "layers.1", shard.backward}
// CHECK:       %[[D0:.*]]:2 = call @[[BACKWARD0:.*]](%{{.*}}, %[[DOWN0]], %[[D1]]#0, %[[Y0]]#1) {graph.path = "layers.0", shard.backward}
// CHECK:       return %[[LOSS]], %{{.*}}, %[[D0]]#0, %[[D0]]#1, %[[D1]]#1, %[[D1]]#2
func.func @main(%x: tensor<2x2xf32> {graph.name = "x"}) -> (tensor<f32> {graph.name = "loss"}) {
  %x0 = graph.constant dense<[[1.0, 2.0], [3.0, -1.0]]> : tensor<2x2xf32>
  %up0 = graph.parameter "layers.0.up" {value = dense<[[1.0, 0.0], [0.0, 1.0]]> : tensor<2x2xf32>} : tensor<2x2xf32>
  %down0 = graph.parameter "layers.0.down" {value = dense<[[2.0, 0.0], [1.0, 1.0]]> : tensor<2x2xf32>} : tensor<2x2xf32>
  %up1 = graph.parameter "layers.1.up" {value = dense<[[1.0, 1.0], [1.0, -1.0]]> : tensor<2x2xf32>} : tensor<2x2xf32>
  %down1 = graph.parameter "layers.1.down" {value = dense<[[1.0, 0.0], [0.0, 1.0]]> : tensor<2x2xf32>} : tensor<2x2xf32>
  %0 = call @layer(%x0, %up0, %down0) {graph.path = "layers.0"} : (tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
  %1 = call @layer(%0, %up1, %down1) {graph.path = "layers.1"} : (tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
  %2 = graph.reduce sum %1 [0, 1] : tensor<2x2xf32> -> tensor<f32>
  return %2 : tensor<f32>
}

// CHECK:       func.func private @[[BACKWARD0]](%[[X:.*]]: tensor<2x2xf32>, %[[DOWN:.*]]: tensor<2x2xf32> {graph.parameter = "down"}, %[[DY:.*]]: tensor<2x2xf32>, %[[H:.*]]: tensor<2x2xf32>)
// CHECK:       func.func private @[[FORWARD0]]
// CHECK:       func.func private @[[BACKWARD1]]
// CHECK-SAME:    (%[[X:.*]]: tensor<2x2xf32>, %[[UP:.*]]: tensor<2x2xf32> {graph.parameter = "up"}, %[[DOWN:.*]]: tensor<2x2xf32> {graph.parameter = "down"},
// CHECK-SAME:     %[[DY:.*]]: tensor<2x2xf32>, %[[H:.*]]: tensor<2x2xf32>) -> (tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>) attributes {graph.layer = "layers"}
// CHECK-NOT:     graph.relu
// CHECK:         %[[DR:.*]] = graph.einsum "bn,nk->bk" %[[DY]], %[[DOWN]]
// CHECK:         %[[DDOWN:.*]] = graph.einsum "bn,bk->nk" %[[DY]], %[[H]]
// CHECK:         %[[DH:.*]] = graph.select %{{.*}}, %[[DR]], %{{.*}}
// CHECK:         %[[THROUGH:.*]] = graph.einsum "bn,nk->bk" %[[DH]], %[[UP]]
// CHECK:         %[[DUP:.*]] = graph.einsum "bn,bk->nk" %[[DH]], %[[X]]
// CHECK:         %[[DX:.*]] = graph.add %[[DY]], %[[THROUGH]]
// CHECK:         return %[[DX]], %[[DUP]], %[[DDOWN]]
// CHECK:       func.func private @[[FORWARD1]](%[[X:.*]]: tensor<2x2xf32>, %[[UP:.*]]: tensor<2x2xf32> {graph.parameter = "up"}, %[[DOWN:.*]]: tensor<2x2xf32> {graph.parameter = "down"})
// CHECK:         %[[H:.*]] = graph.einsum "bk,nk->bn" %[[X]], %[[UP]]
// CHECK:         %[[R:.*]] = graph.relu %[[H]]
// CHECK:         %[[Y:.*]] = graph.add
// CHECK:         return %[[Y]], %[[R]]
// CHECK-NOT:   func.func
func.func private @layer(%x: tensor<2x2xf32>, %up: tensor<2x2xf32> {graph.parameter = "up"}, %down: tensor<2x2xf32> {graph.parameter = "down"})
    -> tensor<2x2xf32> attributes {graph.layer = "layers"} {
  %h = graph.einsum "bk,nk->bn" %x, %up : tensor<2x2xf32>, tensor<2x2xf32> -> tensor<2x2xf32>
  %r = graph.relu %h : tensor<2x2xf32>
  %d = graph.einsum "bk,nk->bn" %r, %down : tensor<2x2xf32>, tensor<2x2xf32> -> tensor<2x2xf32>
  %y = graph.add %x, %d : tensor<2x2xf32>
  return %y : tensor<2x2xf32>
}

// A model with a loss of its own has no tokens to count.
// NUMBERS: loss : tensor<f32> = 45
// NUMBERS: tokens : tensor<f32> = 1
// NUMBERS: layers.0.up : tensor<2x2xf32> = {{\[\[}}27, 5], [2, 4]]
// NUMBERS: layers.0.down : tensor<2x2xf32> = {{\[\[}}11, 4], [5, 4]]
// NUMBERS: layers.1.up : tensor<2x2xf32> = {{\[\[}}12, 7], [9, 2]]
// NUMBERS: layers.1.down : tensor<2x2xf32> = {{\[\[}}19, 7], [19, 7]]
