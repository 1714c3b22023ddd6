// RUN: shard-opt %s --shard-quantize-products=recipe=hybrid --shard-differentiate --canonicalize --cse | FileCheck %s

// The cotangent of a product in 8 bits is quantized once, in the type for gradients, for the products of both factors. Their results are the
// cotangents of what was quantized: nothing goes through the scales.

// CHECK-LABEL: func.func @main
// CHECK:       %[[X8:.*]] = graph.quantize {{.*}} -> tensor<16x16xf8E4M3FN>
// CHECK:       %[[W8:.*]] = graph.quantize {{.*}} -> tensor<32x16xf8E4M3FN>
// CHECK:       graph.scaled_einsum "mk,nk->mn" %[[X8]], %[[W8]]
// CHECK:       %[[DY8:.*]] = graph.quantize {{.*}} -> tensor<16x32xf8E5M2>
// CHECK-DAG:   %[[DX:.*]] = graph.scaled_einsum "mn,nk->mk" %[[DY8]], %[[W8]] {{.*}} -> tensor<16x16xf32>
// CHECK-DAG:   %[[DW:.*]] = graph.scaled_einsum "mn,mk->nk" %[[DY8]], %[[X8]] {{.*}} -> tensor<32x16xf32>
// CHECK:       return {{.*}}%[[DW]]
func.func @main(%x: tensor<16x16xf32> {graph.name = "x"}) -> (tensor<f32> {graph.name = "loss"}) {
  %e = graph.parameter "embed" : tensor<16x16xf32>
  %u = graph.parameter "up" : tensor<32x16xf32>
  %0 = graph.mul %x, %e : tensor<16x16xf32>
  %1 = graph.einsum "mk,nk->mn" %0, %u {graph.role = "up_proj"} : tensor<16x16xf32>, tensor<32x16xf32> -> tensor<16x32xf32>
  %2 = graph.relu %1 : tensor<16x32xf32>
  %3 = graph.reduce sum %2 [0, 1] : tensor<16x32xf32> -> tensor<f32>
  return %3 : tensor<f32>
}
