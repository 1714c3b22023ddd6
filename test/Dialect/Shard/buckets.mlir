// RUN: shard-opt %s | shard-opt | FileCheck %s
// RUN: shard-opt --shard-interpret %s | FileCheck %s --check-prefix=NUMBERS

// CHECK: shard.mesh
shard.mesh @mesh ["dp_shard" = 2, "tp" = 2]

// Length: elements of the whole buffer of one tensor-parallel rank.
// CHECK-NEXT: shard.bucket @layers.0 "layers.0" f32 length 256 over {"dp_shard"} of @mesh
// CHECK-SAME:   [{offset = 0 : i64, sharding = #shard.sharding<@mesh, [{"tp"}, {}]>, tensor = "layers.0.up", type = tensor<8x16xf32>},
// CHECK-SAME:    {offset = 64 : i64, segment = array<i64: 0, 4, 8>, tensor = "layers.0.norm", type = tensor<8xf32>}]
shard.bucket @layers.0 "layers.0" f32 length 256 over {"dp_shard"} of @mesh
    [{tensor = "layers.0.up", type = tensor<8x16xf32>, offset = 0, sharding = #shard.sharding<@mesh, [{"tp"}, {}]>},
     {tensor = "layers.0.norm", type = tensor<8xf32>, segment = array<i64: 0, 4, 8>, offset = 64}]
// CHECK-NEXT: shard.bucket @none "none" bf16 length 64 over {} of @mesh []
shard.bucket @none "none" bf16 length 64 over {} of @mesh []
// CHECK-NEXT: shard.state @"parameter/layers.0" "parameter" tensor<128xf32> of @layers.0 over {"dp_shard"}
shard.state @"parameter/layers.0" "parameter" tensor<128xf32> of @layers.0 over {"dp_shard"}
// CHECK-NEXT: shard.state @"gradient/layers.0" "gradient" tensor<256xbf16> of @layers.0
shard.state @"gradient/layers.0" "gradient" tensor<256xbf16> of @layers.0
// CHECK-NEXT: shard.state @"gradient/tokens" "gradient" tensor<f32>
shard.state @"gradient/tokens" "gradient" tensor<f32>

// CHECK-LABEL: @main
// NUMBERS: whole : tensor<8xf32> = [1, 2, 0, 0, 3, 4, 5, 0]
// NUMBERS: first : tensor<f32> = 1
// NUMBERS: second : tensor<3x1xf32> = {{\[\[}}3], [4], [5]]
func.func @main() -> (tensor<8xf32> {graph.name = "whole"}, tensor<f32> {graph.name = "first"}, tensor<3x1xf32> {graph.name = "second"}) {
  %a = graph.constant dense<[[1.0, 2.0]]> : tensor<1x2xf32>
  %b = graph.constant dense<[3.0, 4.0, 5.0]> : tensor<3xf32>
  // CHECK: %[[P:.*]] = shard.bucket_pack %{{.*}}, %{{.*}} at [0, 4] : tensor<1x2xf32>, tensor<3xf32> -> tensor<8xf32>
  %0 = shard.bucket_pack %a, %b at [0, 4] : tensor<1x2xf32>, tensor<3xf32> -> tensor<8xf32>
  // CHECK: shard.bucket_view %[[P]] at 0 : tensor<8xf32> -> tensor<f32>
  %1 = shard.bucket_view %0 at 0 : tensor<8xf32> -> tensor<f32>
  // CHECK: shard.bucket_view %[[P]] at 4 : tensor<8xf32> -> tensor<3x1xf32>
  %2 = shard.bucket_view %0 at 4 : tensor<8xf32> -> tensor<3x1xf32>
  return %0, %1, %2 : tensor<8xf32>, tensor<f32>, tensor<3x1xf32>
}
