// RUN: shard-opt %s --shard-differentiate="frozen=^layers.0|norm" --canonicalize --cse | FileCheck %s
// RUN: shard-opt %s --shard-differentiate="frozen=^layers.0|norm" | shard-opt --shard-interpret - | FileCheck %s --check-prefix=NUMBERS

// y = 2 x, then (y * w) * norm. A frozen layer that nothing trained precedes has no backward pass at all, and stays as it was. A weight that is
// frozen inside of a layer is read by the backward pass, and has no gradient.
// CHECK-LABEL: func.func @main(
// CHECK-SAME:    -> (tensor<f32> {graph.name = "loss"}, tensor<f32> {graph.name = "tokens"}, tensor<2xf32> {graph.gradient = "layers.1.w"})
// CHECK:         %[[Y:.*]] = call @layer(%{{.*}}) {graph.path = "layers.0"}
// CHECK:         call @[[FORWARD:.*]](%[[Y]], %{{.*}}) {graph.path = "layers.1"}
// CHECK:         %[[DW:.*]] = call @[[BACKWARD:.*]](%{{.*}}) {graph.path = "layers.1", shard.backward}
// CHECK-NOT:     call
// CHECK:         return %{{.*}}, %{{.*}}, %[[DW]]
// CHECK:       func.func private @[[BACKWARD]]({{.*}}{graph.parameter = "norm"}{{.*}}) -> tensor<2xf32>
// NUMBERS: loss : tensor<f32> = 86
// NUMBERS: layers.1.w : tensor<2xf32> = [10, 28]
func.func @main() -> (tensor<f32> {graph.name = "loss"}) {
  %x = graph.constant dense<[1.0, 2.0]> : tensor<2xf32>
  %w0 = graph.parameter "layers.0.w" {value = dense<[2.0, 2.0]> : tensor<2xf32>} : tensor<2xf32>
  %n0 = graph.parameter "layers.0.norm" {value = dense<[1.0, 1.0]> : tensor<2xf32>} : tensor<2xf32>
  %w1 = graph.parameter "layers.1.w" {value = dense<[3.0, 2.0]> : tensor<2xf32>} : tensor<2xf32>
  %n1 = graph.parameter "layers.1.norm" {value = dense<[5.0, 7.0]> : tensor<2xf32>} : tensor<2xf32>
  %0 = call @layer(%x, %w0, %n0) {graph.path = "layers.0"} : (tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %1 = call @layer(%0, %w1, %n1) {graph.path = "layers.1"} : (tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %2 = graph.reduce sum %1 [0] : tensor<2xf32> -> tensor<f32>
  return %2 : tensor<f32>
}
func.func private @layer(%x: tensor<2xf32>, %w: tensor<2xf32> {graph.parameter = "w"}, %n: tensor<2xf32> {graph.parameter = "norm"})
    -> tensor<2xf32> attributes {graph.layer = "layers"} {
  %0 = graph.mul %x, %w : tensor<2xf32>
  %1 = graph.mul %0, %n : tensor<2xf32>
  return %1 : tensor<2xf32>
}
