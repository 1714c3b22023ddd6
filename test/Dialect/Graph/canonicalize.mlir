// RUN: shard-opt %s --canonicalize --validate-each | FileCheck %s

// CHECK-LABEL: @merge_reshapes
func.func @merge_reshapes(%x: tensor<2x3xf32>) -> tensor<3x2xf32> {
  // CHECK: %[[R:.*]] = graph.reshape %arg0 : tensor<2x3xf32> -> tensor<3x2xf32>
  // CHECK-NEXT: return %[[R]]
  %0 = graph.reshape %x : tensor<2x3xf32> -> tensor<6xf32>
  %1 = graph.reshape %0 : tensor<6xf32> -> tensor<3x2xf32>
  return %1 : tensor<3x2xf32>
}

// CHECK-LABEL: @merge_transposes
func.func @merge_transposes(%x: tensor<2x3x4xf32>) -> tensor<4x3x2xf32> {
  // CHECK: graph.transpose %arg0 [2, 1, 0]
  // CHECK-NOT: graph.transpose
  %0 = graph.transpose %x [1, 2, 0] : tensor<2x3x4xf32> -> tensor<3x4x2xf32>
  %1 = graph.transpose %0 [1, 0, 2] : tensor<3x4x2xf32> -> tensor<4x3x2xf32>
  return %1 : tensor<4x3x2xf32>
}

// CHECK-LABEL: @main
func.func @main(%x: tensor<4x2xf32>, %w: tensor<3x4xf32>) -> tensor<2x3xf32> {
  // CHECK: graph.einsum "km,nk->mn" %arg0, %arg1
  %0 = graph.transpose %x [1, 0] : tensor<4x2xf32> -> tensor<2x4xf32>
  %1 = graph.transpose %w [1, 0] : tensor<3x4xf32> -> tensor<4x3xf32>
  %2 = graph.einsum "mk,kn->mn" %0, %1 : tensor<2x4xf32>, tensor<4x3xf32> -> tensor<2x3xf32>
  return %2 : tensor<2x3xf32>
}

// CHECK-LABEL: @no_ops
func.func @no_ops(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  // CHECK-NEXT: return %arg0
  %0 = graph.cast %x : tensor<2x3xf32> -> tensor<2x3xf32>
  %1 = graph.slice %0 [0, 0] step [1, 1] : tensor<2x3xf32> -> tensor<2x3xf32>
  %2 = graph.concat %1 dim 0 : tensor<2x3xf32> -> tensor<2x3xf32>
  %3 = graph.broadcast %2 [0, 1] : tensor<2x3xf32> -> tensor<2x3xf32>
  %4 = graph.transpose %3 [0, 1] : tensor<2x3xf32> -> tensor<2x3xf32>
  return %4 : tensor<2x3xf32>
}
