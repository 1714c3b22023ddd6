// RUN: shard-opt %s | shard-opt | FileCheck %s
// RUN: shard-opt %s --mlir-print-op-generic | shard-opt | FileCheck %s

// CHECK-LABEL: @unary
func.func @unary(%x: tensor<4xf32>, %i: tensor<4xui8>) -> tensor<4xf32> {
  // CHECK: graph.exp %{{.*}} : tensor<4xf32>
  %0 = graph.exp %x : tensor<4xf32>
  // CHECK: graph.gelu_tanh
  %1 = graph.gelu_tanh %0 : tensor<4xf32>
  // CHECK: graph.not %{{.*}} : tensor<4xui8>
  %2 = graph.not %i : tensor<4xui8>
  return %1 : tensor<4xf32>
}

// CHECK-LABEL: @binary
func.func @binary(%x: tensor<2x3xbf16>, %i: tensor<4xi64>) -> tensor<2x3xbf16> {
  // CHECK: graph.add %{{.*}}, %{{.*}} : tensor<2x3xbf16>
  %0 = graph.add %x, %x : tensor<2x3xbf16>
  // CHECK: graph.mod %{{.*}}, %{{.*}} : tensor<4xi64>
  %1 = graph.mod %i, %i : tensor<4xi64>
  return %0 : tensor<2x3xbf16>
}

// CHECK-LABEL: @choice
func.func @choice(%x: tensor<4xf16>, %y: tensor<4xf16>) -> (tensor<4xf16>, tensor<4xi32>) {
  // CHECK: graph.compare le %{{.*}}, %{{.*}} : tensor<4xf16> -> tensor<4xi1>
  %0 = graph.compare le %x, %y : tensor<4xf16> -> tensor<4xi1>
  // CHECK: graph.select %{{.*}}, %{{.*}}, %{{.*}} : tensor<4xi1>, tensor<4xf16>
  %1 = graph.select %0, %x, %y : tensor<4xi1>, tensor<4xf16>
  // CHECK: graph.cast %{{.*}} : tensor<4xf16> -> tensor<4xi32>
  %2 = graph.cast %1 : tensor<4xf16> -> tensor<4xi32>
  // CHECK: graph.is_nan %{{.*}} : tensor<4xf16> -> tensor<4xi1>
  %3 = graph.is_nan %x : tensor<4xf16> -> tensor<4xi1>
  // CHECK: graph.is_inf %{{.*}} {negative = false} : tensor<4xf16> -> tensor<4xi1>
  %4 = graph.is_inf %x {negative = false} : tensor<4xf16> -> tensor<4xi1>
  return %1, %2 : tensor<4xf16>, tensor<4xi32>
}
