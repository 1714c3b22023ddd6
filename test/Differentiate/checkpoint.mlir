// RUN: shard-opt %s --shard-differentiate=checkpoint=none --canonicalize --cse | FileCheck %s --check-prefixes=CHECK,NONE
// RUN: shard-opt %s --shard-differentiate=checkpoint=selective --canonicalize --cse | FileCheck %s --check-prefixes=CHECK,SELECTIVE
// RUN: shard-opt %s --shard-differentiate=checkpoint=full --canonicalize --cse | FileCheck %s --check-prefixes=CHECK,FULL
// RUN: shard-opt %s --shard-differentiate="checkpoint=full checkpoint-layers=1" --canonicalize --cse | FileCheck %s --check-prefixes=CHECK,FIRST
// Whatever is computed again, the numbers are the same.
// RUN: shard-opt %s --shard-differentiate=checkpoint=none | shard-opt --shard-interpret - > %t.none
// RUN: FileCheck %s --check-prefix=NUMBERS < %t.none
// RUN: shard-opt %s --shard-differentiate=checkpoint=selective | shard-opt --shard-interpret - | diff %t.none -
// RUN: shard-opt %s --shard-differentiate=checkpoint=full | shard-opt --shard-interpret - | diff %t.none -
// RUN: shard-opt %s --shard-differentiate="checkpoint=full checkpoint-layers=1" | shard-opt --shard-interpret - | diff %t.none -

// Two products, and of their product what the routing chose once more. The backward pass needs the products, and whom the routing chose.
// NUMBERS: loss : tensor<f32> = 5952
// NUMBERS: layers.0.a : tensor<2x2xf32> = {{\[\[}}12224, -3776], [624, -320]]

// CHECK-LABEL: func.func @main
// All that the cut asks for is kept.
// NONE:      %[[Y0:.*]]:4 = call @[[FORWARD:.*]](%{{.*}}) {graph.path = "layers.0"}
// NONE:      %[[Y1:.*]]:4 = call @{{.*}} {graph.path = "layers.1"}
// NONE-NOT:  shard.recompute
// NONE:      call @{{.*}} {graph.path = "layers.1", shard.backward}
// NONE:      call @{{.*}} {graph.path = "layers.0", shard.backward}

// Every second product is made again, out of the layer's arguments.
// SELECTIVE: %[[Y0:.*]]:3 = call @[[FORWARD:.*]](%[[X:.*]], %{{.*}}, %[[B:.*]]) {graph.path = "layers.0"}
// SELECTIVE: %[[AGAIN1:.*]] = call @{{.*}} {graph.path = "layers.1", shard.recompute}
// SELECTIVE: call @{{.*}}%[[AGAIN1]]{{.*}} {graph.path = "layers.1", shard.backward}
// SELECTIVE: %[[AGAIN0:.*]] = call @[[RECOMPUTE:.*]](%[[X]], %[[B]]) {graph.path = "layers.0", shard.recompute}
// SELECTIVE: call @{{.*}}%[[AGAIN0]]{{.*}} {graph.path = "layers.0", shard.backward}
// SELECTIVE: func.func private @[[RECOMPUTE]](
// SELECTIVE:   %[[P:.*]] = graph.einsum
// SELECTIVE-NEXT: return %[[P]]

// Everything is made again, but for the routing: ties might fall otherwise the second time.
// FULL:      %[[Y0:.*]]:2 = call @[[FORWARD:.*]](%[[X:.*]], %[[A:.*]], %[[B:.*]]) {graph.path = "layers.0"} : ({{.*}}) -> (tensor<2x2xf32>, tensor<2x1xi64>)
// FULL:      %[[AGAIN1:.*]]:2 = call @{{.*}} {graph.path = "layers.1", shard.recompute}
// FULL:      call @{{.*}} {graph.path = "layers.1", shard.backward}
// FULL:      %[[AGAIN0:.*]]:2 = call @[[RECOMPUTE:.*]](%[[X]], %[[A]], %[[B]]) {graph.path = "layers.0", shard.recompute}
// FULL:      call @{{.*}}%[[Y0]]#1, %[[AGAIN0]]#0, %[[AGAIN0]]#1) {graph.path = "layers.0", shard.backward}
// FULL:      func.func private @[[RECOMPUTE]](
// FULL-NOT:    graph.topk
// FULL:        return

// Or only in so many layers, from the first.
// FIRST:     call @{{.*}} {graph.path = "layers.0"} : ({{.*}}) -> (tensor<2x2xf32>, tensor<2x1xi64>)
// FIRST:     call @{{.*}} {graph.path = "layers.1"} : ({{.*}}) -> (tensor<2x2xf32>, {{.*}}, {{.*}}, {{.*}})
// FIRST-NOT: graph.path = "layers.1", shard.recompute
// FIRST:     graph.path = "layers.0", shard.recompute
func.func @main() -> (tensor<f32> {graph.name = "loss"}) {
  %x = graph.constant dense<[[1.0, 2.0], [3.0, -1.0]]> : tensor<2x2xf32>
  %a0 = graph.parameter "layers.0.a" {value = dense<[[1.0, 0.0], [0.0, 1.0]]> : tensor<2x2xf32>} : tensor<2x2xf32>
  %b0 = graph.parameter "layers.0.b" {value = dense<[[2.0, 0.0], [1.0, 1.0]]> : tensor<2x2xf32>} : tensor<2x2xf32>
  %a1 = graph.parameter "layers.1.a" {value = dense<[[1.0, 1.0], [1.0, -1.0]]> : tensor<2x2xf32>} : tensor<2x2xf32>
  %b1 = graph.parameter "layers.1.b" {value = dense<[[1.0, 0.0], [0.0, 1.0]]> : tensor<2x2xf32>} : tensor<2x2xf32>
  %0 = call @layer(%x, %a0, %b0) {graph.path = "layers.0"} : (tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
  %1 = call @layer(%0, %a1, %b1) {graph.path = "layers.1"} : (tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
  %2 = graph.reduce sum %1 [0, 1] : tensor<2x2xf32> -> tensor<f32>
  return %2 : tensor<f32>
}
func.func private @layer(%x: tensor<2x2xf32>, %a: tensor<2x2xf32> {graph.parameter = "a"}, %b: tensor<2x2xf32> {graph.parameter = "b"})
    -> tensor<2x2xf32> attributes {graph.layer = "layers"} {
  %p = graph.einsum "bk,nk->bn" %x, %a : tensor<2x2xf32>, tensor<2x2xf32> -> tensor<2x2xf32>
  %q = graph.einsum "bk,nk->bn" %x, %b : tensor<2x2xf32>, tensor<2x2xf32> -> tensor<2x2xf32>
  %m = graph.mul %p, %q : tensor<2x2xf32>
  %v, %i = graph.topk %x dim 1 largest true : tensor<2x2xf32> -> tensor<2x1xf32>, tensor<2x1xi64>
  %g = graph.gather_elements %m, %i axis 1 : tensor<2x2xf32>, tensor<2x1xi64> -> tensor<2x1xf32>
  %s = graph.reshape %g : tensor<2x1xf32> -> tensor<2xf32>
  %t = graph.broadcast %s [0] : tensor<2xf32> -> tensor<2x2xf32>
  %y = graph.add %m, %t : tensor<2x2xf32>
  return %y : tensor<2x2xf32>
}
