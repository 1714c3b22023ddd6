// RUN: shard-opt %s | shard-opt | FileCheck %s
// RUN: shard-opt %s --mlir-print-op-generic | shard-opt | FileCheck %s

// CHECK-LABEL: @sources
func.func @sources() -> tensor<2x4xi64> {
  // CHECK: graph.parameter "w" : tensor<4x4xf32>
  %0 = graph.parameter "w" : tensor<4x4xf32>
  // CHECK: graph.parameter "qkv" segment [0, 4, 4] of 12 : tensor<4x4xf32>
  %1 = graph.parameter "qkv" segment [0, 4, 4] of 12 : tensor<4x4xf32>
  // CHECK: graph.constant dense<[1, 2]> : tensor<2xi32>
  %2 = graph.constant dense<[1, 2]> : tensor<2xi32>
  // CHECK: graph.iota dim 1 : tensor<2x4xi64>
  %3 = graph.iota dim 1 : tensor<2x4xi64>
  return %3 : tensor<2x4xi64>
}

// CHECK-LABEL: @views
func.func @views(%x: tensor<2x3xf32>) -> tensor<2x3x2xf32> {
  // CHECK: graph.reshape %{{.*}} : tensor<2x3xf32> -> tensor<6xf32>
  %0 = graph.reshape %x : tensor<2x3xf32> -> tensor<6xf32>
  // CHECK: graph.transpose %{{.*}} [1, 0] : tensor<2x3xf32> -> tensor<3x2xf32>
  %1 = graph.transpose %x [1, 0] : tensor<2x3xf32> -> tensor<3x2xf32>
  // CHECK: graph.slice %{{.*}} [0, 1] step [1, 2] : tensor<2x3xf32> -> tensor<2x1xf32>
  %2 = graph.slice %x [0, 1] step [1, 2] : tensor<2x3xf32> -> tensor<2x1xf32>
  // CHECK: graph.reverse %{{.*}} [0] : tensor<2x3xf32> -> tensor<2x3xf32>
  %3 = graph.reverse %x [0] : tensor<2x3xf32> -> tensor<2x3xf32>
  // CHECK: graph.pad %{{.*}} low [0, 1] high [0, 0] with 1.000000e+00 : f32 : tensor<2x3xf32> -> tensor<2x4xf32>
  %4 = graph.pad %x low [0, 1] high [0, 0] with 1.0 : f32 : tensor<2x3xf32> -> tensor<2x4xf32>
  // CHECK: graph.concat %{{.*}}, %{{.*}} dim 1 : tensor<2x3xf32>, tensor<2x4xf32> -> tensor<2x7xf32>
  %5 = graph.concat %x, %4 dim 1 : tensor<2x3xf32>, tensor<2x4xf32> -> tensor<2x7xf32>
  // CHECK: graph.broadcast %{{.*}} [1, 2] : tensor<3x2xf32> -> tensor<2x3x2xf32>
  %6 = graph.broadcast %1 [1, 2] : tensor<3x2xf32> -> tensor<2x3x2xf32>
  return %6 : tensor<2x3x2xf32>
}

// CHECK-LABEL: @indexed
func.func @indexed(%x: tensor<4x3xf32>, %i: tensor<2x2xi64>, %u: tensor<2x2xf32>, %v: tensor<2xf32>) {
  // CHECK: graph.gather %{{.*}}, %{{.*}} axis 0 : tensor<4x3xf32>, tensor<2x2xi64> -> tensor<2x2x3xf32>
  %0 = graph.gather %x, %i axis 0 : tensor<4x3xf32>, tensor<2x2xi64> -> tensor<2x2x3xf32>
  // CHECK: graph.gather_nd %{{.*}}, %{{.*}} batch 0 : tensor<4x3xf32>, tensor<2x2xi64> -> tensor<2xf32>
  %1 = graph.gather_nd %x, %i batch 0 : tensor<4x3xf32>, tensor<2x2xi64> -> tensor<2xf32>
  // CHECK: graph.gather_elements %{{.*}}, %{{.*}} axis 0 : tensor<4x3xf32>, tensor<2x2xi64> -> tensor<2x2xf32>
  %2 = graph.gather_elements %x, %i axis 0 : tensor<4x3xf32>, tensor<2x2xi64> -> tensor<2x2xf32>
  // CHECK: graph.scatter_elements sum %{{.*}}, %{{.*}}, %{{.*}} axis 1 : tensor<4x3xf32>, tensor<2x2xi64>, tensor<2x2xf32>
  %3 = graph.scatter_elements sum %x, %i, %u axis 1 : tensor<4x3xf32>, tensor<2x2xi64>, tensor<2x2xf32>
  // CHECK: graph.scatter_nd replace %{{.*}}, %{{.*}}, %{{.*}} : tensor<4x3xf32>, tensor<2x2xi64>, tensor<2xf32>
  %4 = graph.scatter_nd replace %x, %i, %v : tensor<4x3xf32>, tensor<2x2xi64>, tensor<2xf32>
  // CHECK: graph.scatter_sum %{{.*}} at %{{.*}} axis 0 : tensor<2x2x3xf32>, tensor<2x2xi64> -> tensor<4x3xf32>
  %5 = graph.scatter_sum %0 at %i axis 0 : tensor<2x2x3xf32>, tensor<2x2xi64> -> tensor<4x3xf32>
  return
}
