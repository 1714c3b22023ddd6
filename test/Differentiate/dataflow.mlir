// RUN: shard-opt %s --shard-differentiate --canonicalize --cse --verify-diagnostics | FileCheck %s
// RUN: shard-opt %s --shard-differentiate --verify-diagnostics | shard-opt --shard-interpret - | FileCheck %s --check-prefix=NUMBERS

// What is not on the way from a weight to the loss: integers that a layer passes on, a result of a layer that nobody needs, an output beside the
// loss with the layer that makes it, a weight that only decides. A weight without a derivative is not trained (weight decay would change it); one
// without any influence is nowhere.
// CHECK-LABEL: func.func @main(
// CHECK-SAME:    -> (tensor<f32> {graph.name = "loss"}, tensor<f32> {graph.name = "tokens"}, tensor<3x2xf32> {graph.gradient = "embed"},
// CHECK-SAME:        tensor<2xf32> {graph.gradient = "layers.0.w"}, tensor<2xf32> {graph.gradient = "layers.1.w"})
// CHECK:         call @{{.*}} {graph.path = "layers.0"}
// CHECK:         call @{{.*}} {graph.path = "layers.1"}
// CHECK-NOT:     graph.path = "layers.2"
// CHECK:         call @{{.*}} {graph.path = "layers.1", shard.backward} : ({{.*}}) -> (tensor<2x2xf32>, tensor<2xf32>)
// NUMBERS: loss : tensor<f32> = 780
// NUMBERS: embed : tensor<3x2xf32> = {{\[\[}}0, 0], [0, 0], [48, 90]]
// NUMBERS: layers.0.w : tensor<2xf32> = [120, 180]
// NUMBERS: layers.1.w : tensor<2xf32> = [60, 108]
// NUMBERS-NOT: gate
func.func @main(%ids: tensor<2xi64> {graph.name = "ids"}) -> (tensor<f32> {graph.name = "loss"}, tensor<2x2xf32> {graph.name = "other"}) {
  %e = graph.parameter "embed" {value = dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]> : tensor<3x2xf32>} : tensor<3x2xf32>
  %w0 = graph.parameter "layers.0.w" {value = dense<[2.0, 3.0]> : tensor<2xf32>} : tensor<2xf32>
  %w1 = graph.parameter "layers.1.w" {value = dense<[4.0, 5.0]> : tensor<2xf32>} : tensor<2xf32>
  // expected-warning@+1 {{"layers.2.w" has no influence on the loss: it is in no checkpoint}}
  %w2 = graph.parameter "layers.2.w" {value = dense<[4.0, 5.0]> : tensor<2xf32>} : tensor<2xf32>
  %gate = graph.parameter "gate" {value = dense<[[1.0, -1.0], [1.0, 1.0]]> : tensor<2x2xf32>} : tensor<2x2xf32>
  %table = graph.parameter "table" {value = dense<[2, 0]> : tensor<2xi64>} : tensor<2xi64>
  %zero = graph.constant dense<0.0> : tensor<2x2xf32>
  %x = graph.gather %e, %table axis 0 : tensor<3x2xf32>, tensor<2xi64> -> tensor<2x2xf32>
  %0:3 = call @layer(%x, %table, %w0) {graph.path = "layers.0"} : (tensor<2x2xf32>, tensor<2xi64>, tensor<2xf32>) -> (tensor<2x2xf32>, tensor<2xi64>, tensor<2x2xf32>)
  %1:3 = call @layer(%0#0, %0#1, %w1) {graph.path = "layers.1"} : (tensor<2x2xf32>, tensor<2xi64>, tensor<2xf32>) -> (tensor<2x2xf32>, tensor<2xi64>, tensor<2x2xf32>)
  %2:3 = call @layer(%1#0, %0#1, %w2) {graph.path = "layers.2"} : (tensor<2x2xf32>, tensor<2xi64>, tensor<2xf32>) -> (tensor<2x2xf32>, tensor<2xi64>, tensor<2x2xf32>)
  %isOpen = graph.compare gt %gate, %zero : tensor<2x2xf32> -> tensor<2x2xi1>
  %open = graph.cast %isOpen : tensor<2x2xi1> -> tensor<2x2xf32>
  %minus = graph.mul %open, %zero : tensor<2x2xf32>
  %y = graph.add %1#0, %minus : tensor<2x2xf32>
  %loss = graph.reduce sum %y [0, 1] : tensor<2x2xf32> -> tensor<f32>
  return %loss, %2#2 : tensor<f32>, tensor<2x2xf32>
}
func.func private @layer(%x: tensor<2x2xf32>, %i: tensor<2xi64>, %w: tensor<2xf32> {graph.parameter = "w"})
    -> (tensor<2x2xf32>, tensor<2xi64>, tensor<2x2xf32>) attributes {graph.layer = "layers"} {
  %b = graph.broadcast %w [1] : tensor<2xf32> -> tensor<2x2xf32>
  %y = graph.mul %x, %b : tensor<2x2xf32>
  %f = graph.cast %i : tensor<2xi64> -> tensor<2xf32>
  %g = graph.broadcast %f [0] : tensor<2xf32> -> tensor<2x2xf32>
  %z = graph.mul %y, %g : tensor<2x2xf32>
  %one = graph.constant dense<1> : tensor<2xi64>
  %j = graph.add %i, %one : tensor<2xi64>
  return %z, %j, %x : tensor<2x2xf32>, tensor<2xi64>, tensor<2x2xf32>
}
