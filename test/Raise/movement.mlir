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

// Falcon's packed heads: queries by a slice, the one key and value of all of them by indices of the
// transposed product.
// CHECK-LABEL: @packed_heads
// CHECK-NEXT: %[[Q:.*]] = graph.slice %arg0 [0, 0, 0] {{.*}} -> tensor<3x8x4xf32>
// CHECK-NEXT: %[[K:.*]] = graph.slice %arg0 [0, 8, 0] {{.*}} -> tensor<3x1x4xf32>
// CHECK-NEXT: %[[KT:.*]] = graph.transpose %[[K]] [1, 0, 2]
// CHECK-NEXT: %[[V:.*]] = graph.slice %arg0 [0, 9, 0] {{.*}} -> tensor<3x1x4xf32>
// CHECK-NEXT: %[[VT:.*]] = graph.transpose %[[V]] [1, 0, 2]
// CHECK-NEXT: return %[[Q]], %[[KT]], %[[VT]]
func.func @packed_heads(%x: tensor<3x10x4xf32>) -> (tensor<3x8x4xf32>, tensor<1x3x4xf32>, tensor<1x3x4xf32>) {
  %q = graph.slice %x [0, 0, 0] step [1, 1, 1] : tensor<3x10x4xf32> -> tensor<3x8x4xf32>
  %t = graph.transpose %x [1, 0, 2] : tensor<3x10x4xf32> -> tensor<10x3x4xf32>
  %i = graph.constant dense<8> : tensor<1xi64>
  %j = graph.constant dense<9> : tensor<1xi64>
  %k = graph.gather %t, %i axis 0 : tensor<10x3x4xf32>, tensor<1xi64> -> tensor<1x3x4xf32>
  %v = graph.gather %t, %j axis 0 : tensor<10x3x4xf32>, tensor<1xi64> -> tensor<1x3x4xf32>
  return %q, %k, %v : tensor<3x8x4xf32>, tensor<1x3x4xf32>, tensor<1x3x4xf32>
}

// Rows that do not follow each other, or lie outside, are gathered.
// CHECK-LABEL: @gathered_rows
// CHECK-COUNT-2: graph.gather
func.func @gathered_rows(%x: tensor<5x4xf32>) -> (tensor<2x4xf32>, tensor<1x4xf32>) {
  %i = graph.constant dense<[2, 1]> : tensor<2xi64>
  %j = graph.constant dense<5> : tensor<1xi64>
  %a = graph.gather %x, %i axis 0 : tensor<5x4xf32>, tensor<2xi64> -> tensor<2x4xf32>
  %b = graph.gather %x, %j axis 0 : tensor<5x4xf32>, tensor<1xi64> -> tensor<1x4xf32>
  return %a, %b : tensor<2x4xf32>, tensor<1x4xf32>
}
