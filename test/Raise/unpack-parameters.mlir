// RUN: shard-opt %s --shard-unpack-parameters | FileCheck %s

// GPT-2: q, k and v of one weight and one bias.
// CHECK-LABEL: @packed_qkv
func.func @packed_qkv(%x: tensor<2x3x4xf32>) -> (tensor<2x3x4xf32>, tensor<2x3x4xf32>, tensor<2x3x4xf32>) {
  // CHECK-DAG: %[[WK:.*]] = graph.parameter "c_attn.weight" segment [1, 4, 4] of 12 : tensor<4x4xf32>
  // CHECK-DAG: %[[YK:.*]] = graph.einsum "bsk,kn->bsn" %arg0, %[[WK]]
  // CHECK-DAG: %[[BK:.*]] = graph.parameter "c_attn.bias" segment [0, 4, 4] of 12 : tensor<4xf32>
  // CHECK-DAG: %[[BB:.*]] = graph.broadcast %[[BK]] [2] : tensor<4xf32> -> tensor<2x3x4xf32>
  // CHECK-DAG: %[[K:.*]] = graph.add %[[YK]], %[[BB]]
  // CHECK-NOT: graph.slice
  // CHECK: return %{{.*}}, %[[K]], %{{.*}}
  %w = graph.parameter "c_attn.weight" : tensor<4x12xf32>
  %b = graph.parameter "c_attn.bias" : tensor<12xf32>
  %y = graph.einsum "bsk,kn->bsn" %x, %w : tensor<2x3x4xf32>, tensor<4x12xf32> -> tensor<2x3x12xf32>
  %bb = graph.broadcast %b [2] : tensor<12xf32> -> tensor<2x3x12xf32>
  %z = graph.add %y, %bb : tensor<2x3x12xf32>
  %q = graph.slice %z [0, 0, 0] step [1, 1, 1] : tensor<2x3x12xf32> -> tensor<2x3x4xf32>
  %k = graph.slice %z [0, 0, 4] step [1, 1, 1] : tensor<2x3x12xf32> -> tensor<2x3x4xf32>
  %v = graph.slice %z [0, 0, 8] step [1, 1, 1] : tensor<2x3x12xf32> -> tensor<2x3x4xf32>
  return %q, %k, %v : tensor<2x3x4xf32>, tensor<2x3x4xf32>, tensor<2x3x4xf32>
}

// Unequal pieces of a transposed weight; the value in the IR is cut too.
// CHECK-LABEL: @inline_value
// CHECK-DAG: graph.parameter "w" segment [0, 0, 1] of 3 {value = dense<{{\[\[}}1.000000e+00, 2.000000e+00]]> : tensor<1x2xf32>}
// CHECK-DAG: graph.parameter "w" segment [0, 1, 2] of 3 {value = dense<{{\[\[}}3.000000e+00, 4.000000e+00], [5.000000e+00, 6.000000e+00]]> : tensor<2x2xf32>}
func.func @inline_value(%x: tensor<4x2xf32>) -> (tensor<4x1xf32>, tensor<4x2xf32>) {
  %w = graph.parameter "w" {value = dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]> : tensor<3x2xf32>} : tensor<3x2xf32>
  %y = graph.einsum "mk,nk->mn" %x, %w : tensor<4x2xf32>, tensor<3x2xf32> -> tensor<4x3xf32>
  %a = graph.slice %y [0, 0] step [1, 1] : tensor<4x3xf32> -> tensor<4x1xf32>
  %b = graph.slice %y [0, 1] step [1, 1] : tensor<4x3xf32> -> tensor<4x2xf32>
  return %a, %b : tensor<4x1xf32>, tensor<4x2xf32>
}

// CHECK-LABEL: @experts
// CHECK-DAG: graph.parameter "gate_up_proj" segment [1, 0, 2] of 4 : tensor<3x2x8xf32>
// CHECK-DAG: graph.parameter "gate_up_proj" segment [1, 2, 2] of 4 : tensor<3x2x8xf32>
// CHECK-NOT: graph.slice
// CHECK: return
func.func @experts(%x: tensor<6x8xf32>, %ids: tensor<6xi64>) -> tensor<6x2xf32> {
  %w = graph.parameter "gate_up_proj" : tensor<3x4x8xf32>
  %y = graph.grouped_matmul %x, %w by %ids : tensor<6x8xf32>, tensor<3x4x8xf32>, tensor<6xi64> -> tensor<6x4xf32>
  %g = graph.slice %y [0, 0] step [1, 1] : tensor<6x4xf32> -> tensor<6x2xf32>
  %u = graph.slice %y [0, 2] step [1, 1] : tensor<6x4xf32> -> tensor<6x2xf32>
  %z = graph.mul %g, %u : tensor<6x2xf32>
  return %z : tensor<6x2xf32>
}

// [pieces, heads, features]: the pieces are outermost.
// CHECK-LABEL: @pieces_as_a_dimension
// CHECK-DAG: graph.parameter "w" segment [0, 0, 4] of 8 : tensor<4x5xf32>
// CHECK-DAG: graph.parameter "w" segment [0, 4, 4] of 8 : tensor<4x5xf32>
// CHECK-NOT: graph.slice
// CHECK: return
func.func @pieces_as_a_dimension(%x: tensor<3x5xf32>) -> (tensor<3x1x2x2xf32>, tensor<3x1x2x2xf32>) {
  %w = graph.parameter "w" : tensor<8x5xf32>
  %y = graph.einsum "mk,nk->mn" %x, %w : tensor<3x5xf32>, tensor<8x5xf32> -> tensor<3x8xf32>
  %r = graph.reshape %y : tensor<3x8xf32> -> tensor<3x2x2x2xf32>
  %a = graph.slice %r [0, 0, 0, 0] step [1, 1, 1, 1] : tensor<3x2x2x2xf32> -> tensor<3x1x2x2xf32>
  %b = graph.slice %r [0, 1, 0, 0] step [1, 1, 1, 1] : tensor<3x2x2x2xf32> -> tensor<3x1x2x2xf32>
  return %a, %b : tensor<3x1x2x2xf32>, tensor<3x1x2x2xf32>
}

// Pieces of each head stay: heads shard well as they are.
// CHECK-LABEL: @pieces_within_heads
// CHECK: graph.parameter "w" : tensor<8x5xf32>
// CHECK: graph.slice
func.func @pieces_within_heads(%x: tensor<3x5xf32>) -> (tensor<3x2x2xf32>, tensor<3x2x2xf32>) {
  %w = graph.parameter "w" : tensor<8x5xf32>
  %y = graph.einsum "mk,nk->mn" %x, %w : tensor<3x5xf32>, tensor<8x5xf32> -> tensor<3x8xf32>
  %r = graph.reshape %y : tensor<3x8xf32> -> tensor<3x2x4xf32>
  %a = graph.slice %r [0, 0, 0] step [1, 1, 1] : tensor<3x2x4xf32> -> tensor<3x2x2xf32>
  %b = graph.slice %r [0, 0, 2] step [1, 1, 1] : tensor<3x2x4xf32> -> tensor<3x2x2xf32>
  return %a, %b : tensor<3x2x2xf32>, tensor<3x2x2xf32>
}

// The whole product is used too, and overlapping slices are no pieces.
// CHECK-LABEL: @whole_is_used
// CHECK: graph.parameter "w" : tensor<8x5xf32>
// CHECK: graph.parameter "v" : tensor<8x5xf32>
func.func @whole_is_used(%x: tensor<3x5xf32>) -> (tensor<3x4xf32>, tensor<3x8xf32>, tensor<3x5xf32>, tensor<3x5xf32>) {
  %w = graph.parameter "w" : tensor<8x5xf32>
  %v = graph.parameter "v" : tensor<8x5xf32>
  %y = graph.einsum "mk,nk->mn" %x, %w : tensor<3x5xf32>, tensor<8x5xf32> -> tensor<3x8xf32>
  %a = graph.slice %y [0, 0] step [1, 1] : tensor<3x8xf32> -> tensor<3x4xf32>
  %z = graph.einsum "mk,nk->mn" %x, %v : tensor<3x5xf32>, tensor<8x5xf32> -> tensor<3x8xf32>
  %b = graph.slice %z [0, 0] step [1, 1] : tensor<3x8xf32> -> tensor<3x5xf32>
  %c = graph.slice %z [0, 3] step [1, 1] : tensor<3x8xf32> -> tensor<3x5xf32>
  return %a, %y, %b, %c : tensor<3x4xf32>, tensor<3x8xf32>, tensor<3x5xf32>, tensor<3x5xf32>
}
