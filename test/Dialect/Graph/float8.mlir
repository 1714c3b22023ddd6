// RUN: shard-opt %s | shard-opt | FileCheck %s
// RUN: shard-opt %s --mlir-print-op-generic | shard-opt | FileCheck %s

// 8-bit floats are stored, moved, compared, cast and multiplied.
// CHECK-LABEL: @storage
func.func @storage(%x: tensor<2x4xf32>) -> tensor<4x2xf8E5M2> {
  // CHECK: graph.constant dense<1.500000e+00> : tensor<2x4xf8E4M3FN>
  %c = graph.constant dense<1.5> : tensor<2x4xf8E4M3FN>
  // CHECK: graph.cast %{{.*}} : tensor<2x4xf32> -> tensor<2x4xf8E4M3FN>
  %0 = graph.cast %x : tensor<2x4xf32> -> tensor<2x4xf8E4M3FN>
  // CHECK: graph.compare lt %{{.*}} : tensor<2x4xf8E4M3FN> -> tensor<2x4xi1>
  %1 = graph.compare lt %0, %c : tensor<2x4xf8E4M3FN> -> tensor<2x4xi1>
  // CHECK: graph.cast %{{.*}} {saturate} : tensor<2x4xf8E4M3FN> -> tensor<2x4xf8E5M2>
  %2 = graph.cast %0 {saturate} : tensor<2x4xf8E4M3FN> -> tensor<2x4xf8E5M2>
  // CHECK: graph.transpose %{{.*}} [1, 0] : tensor<2x4xf8E5M2> -> tensor<4x2xf8E5M2>
  %3 = graph.transpose %2 [1, 0] : tensor<2x4xf8E5M2> -> tensor<4x2xf8E5M2>
  return %3 : tensor<4x2xf8E5M2>
}

// CHECK-LABEL: @products
func.func @products(%x: tensor<2x4xbf16>, %w: tensor<3x4xf8E5M2>, %s: tensor<2x4xf32>, %u: tensor<f32>) {
  // CHECK: graph.quantize %{{.*}}, %{{.*}} : tensor<2x4xbf16>, tensor<2x4xf32> -> tensor<2x4xf8E4M3FN>
  %q = graph.quantize %x, %s : tensor<2x4xbf16>, tensor<2x4xf32> -> tensor<2x4xf8E4M3FN>
  // CHECK: graph.einsum "mk,nk->mn" %{{.*}} : tensor<2x4xf8E4M3FN>, tensor<3x4xf8E5M2> -> tensor<2x3xf32>
  %0 = graph.einsum "mk,nk->mn" %q, %w : tensor<2x4xf8E4M3FN>, tensor<3x4xf8E5M2> -> tensor<2x3xf32>
  // CHECK: graph.scaled_einsum "mk,nk->mn" %{{.*}}, %{{.*}} scales %{{.*}}, %{{.*}} {gradient = f8E5M2} : tensor<2x4xf8E4M3FN>, tensor<3x4xf8E5M2>, tensor<f32>, tensor<f32> -> tensor<2x3xbf16>
  %1 = graph.scaled_einsum "mk,nk->mn" %q, %w scales %u, %u {gradient = f8E5M2}
      : tensor<2x4xf8E4M3FN>, tensor<3x4xf8E5M2>, tensor<f32>, tensor<f32> -> tensor<2x3xbf16>
  return
}
