// RUN: shard-opt %s --shard-raise | FileCheck %s

// DeepSeek's keys: two parts scattered into zeros, features first.
// CHECK-LABEL: @scattered_features
// CHECK-NEXT: %[[C:.*]] = graph.concat %arg0, %arg1 dim 1 : tensor<5x2xf32>, tensor<5x3xf32> -> tensor<5x5xf32>
// CHECK-NEXT: return %[[C]]
func.func @scattered_features(%a: tensor<5x2xf32>, %b: tensor<5x3xf32>) -> tensor<5x5xf32> {
  %zeros = graph.constant dense<0.0> : tensor<5x5xf32>
  %first = graph.constant dense<[[0], [1]]> : tensor<2x1xi64>
  %second = graph.constant dense<[[2], [3], [4]]> : tensor<3x1xi64>
  %at = graph.transpose %a [1, 0] : tensor<5x2xf32> -> tensor<2x5xf32>
  %bt = graph.transpose %b [1, 0] : tensor<5x3xf32> -> tensor<3x5xf32>
  %s = graph.scatter_nd replace %zeros, %first, %at : tensor<5x5xf32>, tensor<2x1xi64>, tensor<2x5xf32>
  %t = graph.scatter_nd replace %s, %second, %bt : tensor<5x5xf32>, tensor<3x1xi64>, tensor<3x5xf32>
  %y = graph.transpose %t [1, 0] : tensor<5x5xf32> -> tensor<5x5xf32>
  return %y : tensor<5x5xf32>
}

// GPT-2 flattens batch and positions around each product.
// CHECK-LABEL: @flattened_rows
// CHECK-NEXT: %[[Y:.*]] = graph.einsum "abk,kn->abn" %arg0, %arg1
// CHECK-NEXT: %[[B:.*]] = graph.broadcast %arg2 [2] : tensor<5xf32> -> tensor<2x3x5xf32>
// CHECK-NEXT: %[[Z:.*]] = graph.add %[[Y]], %[[B]]
// CHECK-NEXT: return %[[Z]]
func.func @flattened_rows(%x: tensor<2x3x4xf32>, %w: tensor<4x5xf32>, %b: tensor<5xf32>) -> tensor<2x3x5xf32> {
  %f = graph.reshape %x : tensor<2x3x4xf32> -> tensor<6x4xf32>
  %y = graph.einsum "mk,kn->mn" %f, %w : tensor<6x4xf32>, tensor<4x5xf32> -> tensor<6x5xf32>
  %bb = graph.broadcast %b [1] : tensor<5xf32> -> tensor<6x5xf32>
  %z = graph.add %y, %bb : tensor<6x5xf32>
  %r = graph.reshape %z : tensor<6x5xf32> -> tensor<2x3x5xf32>
  return %r : tensor<2x3x5xf32>
}

// The other operand has rows of its own.
// CHECK-LABEL: @other_rows
// CHECK: graph.add %{{.*}}, %arg1 : tensor<6x4xf32>
func.func @other_rows(%x: tensor<2x3x4xf32>, %z: tensor<6x4xf32>) -> tensor<6x4xf32> {
  %f = graph.reshape %x : tensor<2x3x4xf32> -> tensor<6x4xf32>
  %y = graph.add %f, %z : tensor<6x4xf32>
  return %y : tensor<6x4xf32>
}
