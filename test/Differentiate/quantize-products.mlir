// RUN: shard-opt %s --shard-quantize-products | FileCheck %s
// RUN: shard-opt %s --shard-quantize-products="recipe=hybrid skip=up print" | FileCheck %s --check-prefix=HYBRID
// RUN: shard-opt %s --shard-quantize-products="train print" -o /dev/null | FileCheck %s --check-prefix=TRAIN

// What q and k read is quantized once, each weight too; the head, and what has a size that is no multiple of 16, stays.
// CHECK-LABEL: func.func @main
// CHECK:      %[[Q:.*]] = graph.parameter "layers.0.q"
// CHECK:      %[[ABS:.*]] = graph.abs %arg0 {{.*}} : tensor<2x4x16xbf16>
// CHECK-NEXT: %[[ROWS:.*]] = graph.reduce max %[[ABS]] [2]
// CHECK-NEXT: %[[MAX:.*]] = graph.reduce max %[[ROWS]] [0, 1] {{.*}} : tensor<2x4xbf16> -> tensor<bf16>
// CHECK-NEXT: %[[WIDE:.*]] = graph.cast %[[MAX]] {{.*}} : tensor<bf16> -> tensor<f32>
// CHECK:      %[[SAFE:.*]] = graph.max %[[WIDE]], %{{.*}}
// CHECK:      %[[SCALE:.*]] = graph.div %{{.*}}, %[[SAFE]]
// CHECK-NEXT: %[[UNIT:.*]] = graph.reciprocal %[[SCALE]]
// CHECK-NEXT: %[[SPREAD:.*]] = graph.broadcast %[[SCALE]]
// CHECK-NEXT: %[[X8:.*]] = graph.quantize %arg0, %[[SPREAD]] {graph.path = "layers.0.q"} : tensor<2x4x16xbf16>, tensor<2x4x16xf32> -> tensor<2x4x16xf8E4M3FN>
// CHECK:      %[[Q8:.*]] = graph.quantize %[[Q]]
// CHECK:      graph.scaled_einsum "bsk,nk->bsn" %[[X8]], %[[Q8]] scales %[[UNIT]], %{{.*}} {gradient = f8E4M3FN, graph.path = "layers.0.q", graph.role = "q_proj"}
// CHECK-SAME:     -> tensor<2x4x32xbf16>
// CHECK-NOT:  graph.quantize %arg0
// CHECK:      %[[K8:.*]] = graph.quantize
// CHECK:      graph.scaled_einsum "bsk,nk->bsn" %[[X8]], %[[K8]]
// CHECK:      graph.einsum {{.*}} {graph.role = "up_proj"}
// CHECK:      graph.einsum {{.*}} {graph.role = "lm_head"}

// HYBRID:     layers.0.q {{ *}}fp8 hybrid
// HYBRID:     layers.0.up {{ *}}not in fp8: is skipped
// HYBRID:     graph.scaled_einsum {{.*}} {gradient = f8E5M2

// A gradient is summed over positions: 8 of them are too few.
// TRAIN:      layers.0.q {{ *}}not in fp8: 8 positions, which is no multiple of 16
// TRAIN:      layers.0.up {{ *}}not in fp8: 24 output features, which is no multiple of 16
func.func @main(%x: tensor<2x4x16xbf16>) -> (tensor<2x4x32xbf16>, tensor<2x4x32xbf16>, tensor<2x4x24xbf16>, tensor<2x4x32xbf16>) {
  %q = graph.parameter "layers.0.q" : tensor<32x16xbf16>
  %k = graph.parameter "layers.0.k" : tensor<32x16xbf16>
  %u = graph.parameter "layers.0.up" : tensor<24x16xbf16>
  %h = graph.parameter "head" : tensor<32x16xbf16>
  %0 = graph.einsum "bsk,nk->bsn" %x, %q {graph.role = "q_proj", graph.path = "layers.0.q"} : tensor<2x4x16xbf16>, tensor<32x16xbf16> -> tensor<2x4x32xbf16>
  %1 = graph.einsum "bsk,nk->bsn" %x, %k {graph.role = "k_proj", graph.path = "layers.0.k"} : tensor<2x4x16xbf16>, tensor<32x16xbf16> -> tensor<2x4x32xbf16>
  %2 = graph.einsum "bsk,nk->bsn" %x, %u {graph.role = "up_proj"} : tensor<2x4x16xbf16>, tensor<24x16xbf16> -> tensor<2x4x24xbf16>
  %3 = graph.einsum "bsk,nk->bsn" %x, %h {graph.role = "lm_head"} : tensor<2x4x16xbf16>, tensor<32x16xbf16> -> tensor<2x4x32xbf16>
  return %0, %1, %2, %3 : tensor<2x4x32xbf16>, tensor<2x4x32xbf16>, tensor<2x4x24xbf16>, tensor<2x4x32xbf16>
}
