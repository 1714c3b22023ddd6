// RUN: shard-opt %s --shard-fsdp="optimizer=sgd" --canonicalize --cse | FileCheck %s

// A differentiated, partitioned program of two layers and a head; gradients pend over dp_shard.
shard.mesh @mesh ["dp_shard" = 2]

// A unit's parameters lie in one bucket, at multiples of 64 elements, as many as 2 ranks can share.
// CHECK:      shard.bucket @layers.0 "layers.0" f32 length 128 over {"dp_shard"} of @mesh
// CHECK-SAME:   [{offset = 0 : i64, tensor = "layers.0.w", type = tensor<2x4xf32>}, {offset = 64 : i64, tensor = "layers.0.b", type = tensor<2xf32>}]
// CHECK-NEXT: shard.bucket @layers.1 "layers.1" f32 length 128
// CHECK-NEXT: shard.bucket @head "head" f32 length 128 over {"dp_shard"} of @mesh [{offset = 0 : i64, tensor = "head", type = tensor<4xf32>}]
// CHECK-NEXT: shard.state @"parameter/layers.0" "parameter" tensor<64xf32> of @layers.0 over {"dp_shard"}
// CHECK-NEXT: shard.state @"parameter/layers.1" "parameter" tensor<64xf32> of @layers.1 over {"dp_shard"}
// CHECK-NEXT: shard.state @"parameter/head" "parameter" tensor<64xf32> of @head over {"dp_shard"}
// CHECK-NOT:  shard.state

// Inputs stay; the step's scalars and the states are arguments more. A state that changes is a result too.
// CHECK-LABEL: func.func @step(
// CHECK-SAME:    %[[X:[a-z0-9]*]]: tensor<3x4xf32> {graph.global_type = tensor<6x4xf32>, graph.name = "x"
// CHECK-SAME:    %[[P0:[a-z0-9]*]]: tensor<64xf32> {graph.global_type = tensor<128xf32>, shard.sharding = #shard.sharding<@mesh, [{"dp_shard"}]>, shard.state = "parameter/layers.0"}
// CHECK-SAME:    %[[P1:[a-z0-9]*]]: tensor<64xf32> {{[^"]*"dp_shard"[^"]*}}"parameter/layers.1"}
// CHECK-SAME:    %[[PH:[a-z0-9]*]]: tensor<64xf32> {{[^"]*"dp_shard"[^"]*}}"parameter/head"}
// CHECK-SAME:    %[[RATE:[a-z0-9]*]]: tensor<f32> {graph.name = "learning_rate", shard.sharding = #shard.sharding<@mesh, []>})
// CHECK-SAME:    -> (tensor<f32> {graph.name = "loss", {{[^}]*}}}, tensor<f32> {graph.name = "tokens", {{[^}]*}}}, tensor<f32> {graph.name = "grad_norm", {{[^}]*}}},
// CHECK-SAME:        tensor<64xf32> {{[^"]*"dp_shard"[^"]*}}"parameter/layers.0"}, tensor<64xf32> {{[^"]*"dp_shard"[^"]*}}"parameter/layers.1"}, tensor<64xf32> {{[^"]*"dp_shard"[^"]*}}"parameter/head"})

// Forward: each unit is gathered before it is used, and taken apart by views.
// CHECK:         %[[W0:.*]] = shard.all_gather %[[P0]] over {"dp_shard"} of @mesh dim 0 {shard.origin = "parameters of layers.0", shard.overlap} : tensor<64xf32> -> tensor<128xf32>
// CHECK-NEXT:    %[[VW0:.*]] = shard.bucket_view %[[W0]] at 0 : tensor<128xf32> -> tensor<2x4xf32>
// CHECK-NEXT:    %[[VB0:.*]] = shard.bucket_view %[[W0]] at 64 : tensor<128xf32> -> tensor<2xf32>
// CHECK-NEXT:    %[[Y0:.*]]:2 = call @layer_forward(%[[X]], %[[VW0]], %[[VB0]])
// CHECK-NEXT:    %[[W1:.*]] = shard.all_gather %[[P1]]
// CHECK:         call @layer_forward(%[[Y0]]#0, %{{.*}}, %{{.*}})
// CHECK-NEXT:    %[[WH:.*]] = shard.all_gather %[[PH]]

// Backward: the last layer of a list is still whole, the others are gathered again. A bucket's gradients are packed and reduced as soon as the
// last one is there, and without clipping its parameters are updated at once.
// CHECK:         %[[B1:.*]]:3 = call @layer_backward
// CHECK-NEXT:    %[[G1:.*]] = shard.bucket_pack %[[B1]]#1, %[[B1]]#2 at [0, 64] : tensor<2x4xf32>, tensor<2xf32> -> tensor<128xf32>
// CHECK-NEXT:    %[[S1:.*]] = shard.reduce_scatter %[[G1]] over {"dp_shard"} of @mesh sum dim 0 {shard.origin = "gradients of layers.1", shard.overlap} : tensor<128xf32> -> tensor<64xf32>
// CHECK:         %[[U1:.*]] = graph.mul %[[S1]], %{{.*}} : tensor<64xf32>
// CHECK:         %[[D1:.*]] = graph.mul %{{.*}}, %[[U1]]
// CHECK:         %[[N1:.*]] = graph.sub %[[P1]], %[[D1]]
// CHECK:         %[[AGAIN:.*]] = shard.all_gather %[[P0]] over {"dp_shard"} of @mesh dim 0 {shard.backward, shard.origin = "parameters of layers.0, backward", shard.overlap}
// CHECK-NEXT:    %[[VAGAIN:.*]] = shard.bucket_view %[[AGAIN]] at 0
// CHECK-NEXT:    %[[B0:.*]]:3 = call @layer_backward(%{{.*}}, %[[VAGAIN]], %{{.*}})
// CHECK-NEXT:    shard.bucket_pack %[[B0]]#1, %[[B0]]#2 at [0, 64]

// Norm: squares in rows of a shard, over the units, then over the ranks; of the gradient of the mean over tokens.
// CHECK:         %[[SUM:.*]] = shard.all_reduce %{{.*}} over {"dp_shard"} of @mesh sum {shard.origin = "norm of the gradient"} : tensor<1xf32> -> tensor<1xf32>
// CHECK:         %[[ROOT:.*]] = graph.sqrt
// CHECK-NEXT:    %[[NORM:.*]] = graph.div %[[ROOT]], %[[TOKENS:.*]] : tensor<f32>
// CHECK:         return %{{.*}}, %[[TOKENS]], %[[NORM]], %{{.*}}, %[[N1]], %{{.*}}
func.func @main(%x: tensor<3x4xf32> {graph.global_type = tensor<6x4xf32>, graph.name = "x", shard.sharding = #shard.sharding<@mesh, [{"dp_shard"}, {}]>})
    -> (tensor<f32> {graph.name = "loss"}, tensor<f32> {graph.name = "tokens"},
        tensor<2x4xf32> {graph.gradient = "layers.0.w", shard.sharding = #shard.sharding<@mesh, [{}, {}], partial = sum {"dp_shard"}>},
        tensor<2xf32> {graph.gradient = "layers.0.b", shard.sharding = #shard.sharding<@mesh, [{}], partial = sum {"dp_shard"}>},
        tensor<2x4xf32> {graph.gradient = "layers.1.w", shard.sharding = #shard.sharding<@mesh, [{}, {}], partial = sum {"dp_shard"}>},
        tensor<2xf32> {graph.gradient = "layers.1.b", shard.sharding = #shard.sharding<@mesh, [{}], partial = sum {"dp_shard"}>},
        tensor<4xf32> {graph.gradient = "head", shard.sharding = #shard.sharding<@mesh, [{}], partial = sum {"dp_shard"}>}) {
  %w0 = graph.parameter "layers.0.w" : tensor<2x4xf32>
  %b0 = graph.parameter "layers.0.b" : tensor<2xf32>
  %w1 = graph.parameter "layers.1.w" : tensor<2x4xf32>
  %b1 = graph.parameter "layers.1.b" : tensor<2xf32>
  %head = graph.parameter "head" : tensor<4xf32>
  %y0:2 = call @layer_forward(%x, %w0, %b0) {graph.path = "layers.0"} : (tensor<3x4xf32>, tensor<2x4xf32>, tensor<2xf32>) -> (tensor<3x4xf32>, tensor<3x2xf32>)
  %y1:2 = call @layer_forward(%y0#0, %w1, %b1) {graph.path = "layers.1"} : (tensor<3x4xf32>, tensor<2x4xf32>, tensor<2xf32>) -> (tensor<3x4xf32>, tensor<3x2xf32>)
  %z = graph.einsum "bk,k->b" %y1#0, %head : tensor<3x4xf32>, tensor<4xf32> -> tensor<3xf32>
  %own = graph.reduce sum %z [0] : tensor<3xf32> -> tensor<f32>
  %loss = shard.all_reduce %own over {"dp_shard"} of @mesh sum : tensor<f32> -> tensor<f32>
  %tokens = graph.constant dense<0.5> : tensor<f32>
  %one = graph.constant dense<1.0> : tensor<3xf32>
  %dhead = graph.einsum "b,bk->k" %one, %y1#0 : tensor<3xf32>, tensor<3x4xf32> -> tensor<4xf32>
  %dy = graph.einsum "b,k->bk" %one, %head : tensor<3xf32>, tensor<4xf32> -> tensor<3x4xf32>
  %d1:3 = call @layer_backward(%y0#0, %w1, %y1#1, %dy) {graph.path = "layers.1", shard.backward} : (tensor<3x4xf32>, tensor<2x4xf32>, tensor<3x2xf32>, tensor<3x4xf32>) -> (tensor<3x4xf32>, tensor<2x4xf32>, tensor<2xf32>)
  %d0:3 = call @layer_backward(%x, %w0, %y0#1, %d1#0) {graph.path = "layers.0", shard.backward} : (tensor<3x4xf32>, tensor<2x4xf32>, tensor<3x2xf32>, tensor<3x4xf32>) -> (tensor<3x4xf32>, tensor<2x4xf32>, tensor<2xf32>)
  return %loss, %tokens, %d0#1, %d0#2, %d1#1, %d1#2, %dhead : tensor<f32>, tensor<f32>, tensor<2x4xf32>, tensor<2xf32>, tensor<2x4xf32>, tensor<2xf32>, tensor<4xf32>
}

// h = x w^T, y = x + (h + b) w
func.func private @layer_forward(%x: tensor<3x4xf32>, %w: tensor<2x4xf32>, %b: tensor<2xf32>) -> (tensor<3x4xf32>, tensor<3x2xf32>) {
  %h = graph.einsum "bk,nk->bn" %x, %w : tensor<3x4xf32>, tensor<2x4xf32> -> tensor<3x2xf32>
  %0 = graph.broadcast %b [1] : tensor<2xf32> -> tensor<3x2xf32>
  %s = graph.add %h, %0 : tensor<3x2xf32>
  %1 = graph.einsum "bn,nk->bk" %s, %w : tensor<3x2xf32>, tensor<2x4xf32> -> tensor<3x4xf32>
  %y = graph.add %x, %1 : tensor<3x4xf32>
  return %y, %s : tensor<3x4xf32>, tensor<3x2xf32>
}
func.func private @layer_backward(%x: tensor<3x4xf32>, %w: tensor<2x4xf32>, %s: tensor<3x2xf32>, %dy: tensor<3x4xf32>)
    -> (tensor<3x4xf32>, tensor<2x4xf32>, tensor<2xf32>) {
  %ds = graph.einsum "bk,nk->bn" %dy, %w : tensor<3x4xf32>, tensor<2x4xf32> -> tensor<3x2xf32>
  %db = graph.reduce sum %ds [0] : tensor<3x2xf32> -> tensor<2xf32>
  %dw1 = graph.einsum "bn,bk->nk" %s, %dy : tensor<3x2xf32>, tensor<3x4xf32> -> tensor<2x4xf32>
  %dw2 = graph.einsum "bn,bk->nk" %ds, %x : tensor<3x2xf32>, tensor<3x4xf32> -> tensor<2x4xf32>
  %dw = graph.add %dw1, %dw2 : tensor<2x4xf32>
  %through = graph.einsum "bn,nk->bk" %ds, %w : tensor<3x2xf32>, tensor<2x4xf32> -> tensor<3x4xf32>
  %dx = graph.add %dy, %through : tensor<3x4xf32>
  return %dx, %dw, %db : tensor<3x4xf32>, tensor<2x4xf32>, tensor<2xf32>
}
