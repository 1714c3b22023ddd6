// RUN: shard-opt %s --shard-fsdp="optimizer=sgd no-decay=norm" | FileCheck %s

// Which parameter lies where. Units: layers; "embedding": what is used before them, or by several; "head": what is used behind them only. Inside of a unit a
// bucket for each element type, trainability, weight decay, and part of the tensor-parallel axes over which parameters are whole: the norm
// of the gradient counts those ranks once.
shard.mesh @mesh ["dp_shard" = 2, "tp" = 4]

// CHECK: shard.bucket @embedding "embedding" f32 length 128 over {"dp_shard"} of @mesh
// CHECK-SAME: [{offset = 0 : i64, tensor = "embed", type = tensor<8x4xf32>}, {offset = 64 : i64, tensor = "shared", type = tensor<4xf32>}]
// The items of a bucket are this rank's parts: offsets follow from 2 of 8 rows.
// CHECK-NEXT: shard.bucket @layers.0 "layers.0" f32 length 256 over {"dp_shard"} of @mesh
// CHECK-SAME: [{offset = 0 : i64, segment = array<i64: 0, 0, 8>, sharding = #shard.sharding<@mesh, [{"tp"}, {}]>, tensor = "layers.0.qk", type = tensor<8x40xf32>},
// CHECK-SAME:  {offset = 128 : i64, sharding = #shard.sharding<@mesh, [{"tp"}]>, tensor = "layers.0.bias", type = tensor<8xf32>}]
// Two pairs of ranks share a k head: another bucket.
// CHECK-NEXT: shard.bucket @"layers.0/1" "layers.0" f32 length 128
// CHECK-SAME:   sharding = #shard.sharding<@mesh, [{"tp":(1)2}, {}]>, tensor = "layers.0.qk"
// CHECK-NEXT: shard.bucket @"layers.0/2" "layers.0" f32 length 128 {{.*}} "layers.0.norm"
// CHECK-NEXT: shard.bucket @"layers.0/3" "layers.0" bf16 length 128 {{.*}} "layers.0.half"
// CHECK-NEXT: shard.bucket @"layers.0/4" "layers.0" f32 length 128 {{.*}} "layers.0.frozen"
// CHECK-NEXT: shard.bucket @head "head" f32 length 128 {{.*}} "head"
// CHECK-NOT: shard.bucket

// A state is cut over the ranks that hold different parts.
// CHECK-LABEL: func.func @step(
// CHECK-SAME: graph.global_type = tensor<256xf32>, shard.sharding = #shard.sharding<@mesh, [{"tp":(1)2, "dp_shard"}]>, shard.state = "parameter/layers.0/1"}
// What is integer is no business of buckets.
// CHECK: graph.parameter "table" : tensor<2xi64>
func.func @main(%x: tensor<4xf32> {graph.name = "x"})
    -> (tensor<f32> {graph.name = "loss"}, tensor<f32> {graph.name = "tokens"}, tensor<8x4xf32> {graph.gradient = "embed"}, tensor<4xf32> {graph.gradient = "shared"},
        tensor<2x40xf32> {graph.gradient = "layers.0.qk", graph.segment = array<i64: 0, 0, 8>}, tensor<2xf32> {graph.gradient = "layers.0.bias"},
        tensor<2x40xf32> {graph.gradient = "layers.0.qk", graph.segment = array<i64: 0, 8, 4>}, tensor<4xf32> {graph.gradient = "layers.0.norm"},
        tensor<4xbf16> {graph.gradient = "layers.0.half"}, tensor<4xf32> {graph.gradient = "head"}) {
  %one = graph.constant dense<1.0> : tensor<f32>
  %table = graph.parameter "table" : tensor<2xi64>
  %embed = graph.parameter "embed" : tensor<8x4xf32>
  %shared = graph.parameter "shared" : tensor<4xf32>
  %q = graph.parameter "layers.0.qk" segment [0, 0, 8] of 12 {graph.global_type = tensor<8x40xf32>, shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>]} : tensor<2x40xf32>
  %bias = graph.parameter "layers.0.bias" {graph.global_type = tensor<8xf32>, shard.shardings = [#shard.sharding<@mesh, [{"tp"}]>]} : tensor<2xf32>
  %k = graph.parameter "layers.0.qk" segment [0, 8, 4] of 12 {graph.global_type = tensor<4x40xf32>, shard.shardings = [#shard.sharding<@mesh, [{"tp":(1)2}, {}]>]} : tensor<2x40xf32>
  %norm = graph.parameter "layers.0.norm" : tensor<4xf32>
  %half = graph.parameter "layers.0.half" : tensor<4xbf16>
  %frozen = graph.parameter "layers.0.frozen" : tensor<4xf32>
  %head = graph.parameter "head" : tensor<4xf32>
  %0 = graph.gather %embed, %table axis 0 : tensor<8x4xf32>, tensor<2xi64> -> tensor<2x4xf32>
  call @layer(%x, %q, %bias, %k, %norm, %half, %frozen, %shared) {graph.path = "layers.0"}
      : (tensor<4xf32>, tensor<2x40xf32>, tensor<2xf32>, tensor<2x40xf32>, tensor<4xf32>, tensor<4xbf16>, tensor<4xf32>, tensor<4xf32>) -> ()
  %1 = graph.mul %head, %shared : tensor<4xf32>
  %2 = graph.reduce sum %1 [0] : tensor<4xf32> -> tensor<f32>
  %3 = graph.reduce sum %0 [0, 1] : tensor<2x4xf32> -> tensor<f32>
  %loss = graph.add %2, %3 : tensor<f32>
  %d8x4 = graph.constant dense<1.0> : tensor<8x4xf32>
  %d4 = graph.constant dense<1.0> : tensor<4xf32>
  %d2x40 = graph.constant dense<1.0> : tensor<2x40xf32>
  %d2 = graph.constant dense<1.0> : tensor<2xf32>
  %dhalf = graph.constant dense<1.0> : tensor<4xbf16>
  return %loss, %one, %d8x4, %d4, %d2x40, %d2, %d2x40, %d4, %dhalf, %d4
      : tensor<f32>, tensor<f32>, tensor<8x4xf32>, tensor<4xf32>, tensor<2x40xf32>, tensor<2xf32>, tensor<2x40xf32>, tensor<4xf32>, tensor<4xbf16>, tensor<4xf32>
}
func.func private @layer(%x: tensor<4xf32>, %q: tensor<2x40xf32>, %bias: tensor<2xf32>, %k: tensor<2x40xf32>, %norm: tensor<4xf32>, %half: tensor<4xbf16>,
                         %frozen: tensor<4xf32>, %shared: tensor<4xf32>) {
  return
}
