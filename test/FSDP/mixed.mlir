// RUN: shard-opt %s --shard-fsdp="optimizer=sgd" --canonicalize --cse | FileCheck %s --check-prefixes=CHECK,WIDE
// RUN: shard-opt %s --shard-fsdp="optimizer=sgd reduce-dtype=bf16" --canonicalize --cse | FileCheck %s --check-prefixes=CHECK,NARROW
// RUN: shard-opt %s --shard-fsdp="optimizer=sgd zero=1" --canonicalize --cse | FileCheck %s --check-prefix=KEPT

// Parameters in f32, of which "a" is read narrow only: its shard is cast, and the narrow copy travels. "b" is read in both ways, and
// travels wide. They lie in different buckets.
shard.mesh @mesh ["dp_shard" = 2]

// CHECK: shard.bucket @head "head" f32 length 128 {{.*}} "a"
// CHECK: shard.bucket @"head/1" "head" f32 length 128 {{.*}} "b"
// CHECK: shard.state @"parameter/head" "parameter" tensor<64xf32>
// CHECK-LABEL: func.func @step(
// CHECK-SAME:    %[[A:[a-z0-9]*]]: tensor<64xf32> {{[^"]*"dp_shard"[^"]*}}"parameter/head"}
// CHECK:         shard.all_gather %arg2 {{.*}} : tensor<64xf32> -> tensor<128xf32>
// CHECK:         %[[SHARD:.*]] = graph.cast %[[A]] : tensor<64xf32> -> tensor<64xbf16>
// CHECK-NEXT:    %[[WHOLE:.*]] = shard.all_gather %[[SHARD]] {{.*}} : tensor<64xbf16> -> tensor<128xbf16>
// CHECK-NEXT:    shard.bucket_view %[[WHOLE]] at 0 : tensor<128xbf16> -> tensor<4xbf16>

// Gradients are reduced in the parameter's type, or in the one that is asked for: then what was widened before is packed narrow.
// WIDE:          %[[D:.*]] = graph.cast %{{.*}} : tensor<4xbf16> -> tensor<4xf32>
// WIDE-NEXT:     %[[G:.*]] = shard.bucket_pack %[[D]] at [0] : tensor<4xf32> -> tensor<128xf32>
// WIDE-NEXT:     shard.reduce_scatter %[[G]] {{.*}} -> tensor<64xf32>
// NARROW:        %[[D:.*]] = graph.mul {{.*}} : tensor<4xbf16>
// NARROW-NEXT:   %[[G:.*]] = shard.bucket_pack %[[D]] at [0] : tensor<4xbf16> -> tensor<128xbf16>
// NARROW-NEXT:   %[[S:.*]] = shard.reduce_scatter %[[G]] {{.*}} -> tensor<64xbf16>
// The norm and the update are computed in f32.
// NARROW-NEXT:   %[[W:.*]] = graph.cast %[[S]] : tensor<64xbf16> -> tensor<64xf32>
// CHECK:         graph.sub %[[A]], %{{.*}} : tensor<64xf32>

// A copy for the compute type is kept by ZeRO 1 and 2.
// KEPT: shard.state @"compute_parameter/head" "compute_parameter" tensor<128xbf16> of @head
// KEPT: shard.state @"compute_parameter/head/1" "compute_parameter" tensor<128xf32> of @"head/1"
func.func @main(%x: tensor<4xbf16> {graph.name = "x"})
    -> (tensor<f32> {graph.name = "loss"}, tensor<f32> {graph.name = "tokens"},
        tensor<4xf32> {graph.gradient = "a", shard.sharding = #shard.sharding<@mesh, [{}], partial = sum {"dp_shard"}>},
        tensor<4xf32> {graph.gradient = "b", shard.sharding = #shard.sharding<@mesh, [{}], partial = sum {"dp_shard"}>}) {
  %one = graph.constant dense<1.0> : tensor<f32>
  %a = graph.parameter "a" : tensor<4xf32>
  %b = graph.parameter "b" : tensor<4xf32>
  %a1 = graph.cast %a : tensor<4xf32> -> tensor<4xbf16>
  %b1 = graph.cast %b : tensor<4xf32> -> tensor<4xbf16>
  %0 = graph.mul %a1, %x : tensor<4xbf16>
  %da = graph.cast %0 : tensor<4xbf16> -> tensor<4xf32>
  %1 = graph.mul %b1, %x : tensor<4xbf16>
  %2 = graph.cast %1 : tensor<4xbf16> -> tensor<4xf32>
  %db = graph.mul %2, %b : tensor<4xf32>
  return %one, %one, %da, %db : tensor<f32>, tensor<f32>, tensor<4xf32>, tensor<4xf32>
}
