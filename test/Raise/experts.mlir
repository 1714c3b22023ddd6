// RUN: shard-opt %s --shard-raise | FileCheck %s

// CHECK-LABEL: @gather
// CHECK-NEXT: %[[Y:.*]] = graph.grouped_matmul %arg0, %arg1 by %arg2
// CHECK-NEXT: return %[[Y]] : tensor<6x4xf32>
func.func @gather(%x: tensor<6x8xf32>, %w: tensor<3x4x8xf32>, %ids: tensor<6xi64>) -> tensor<6x4xf32> {
  %m = graph.gather %w, %ids axis 0 : tensor<3x4x8xf32>, tensor<6xi64> -> tensor<6x4x8xf32>
  %c = graph.reshape %x : tensor<6x8xf32> -> tensor<6x8x1xf32>
  %y = graph.einsum "amk,akn->amn" %m, %c : tensor<6x4x8xf32>, tensor<6x8x1xf32> -> tensor<6x4x1xf32>
  %z = graph.reshape %y : tensor<6x4x1xf32> -> tensor<6x4xf32>
  return %z : tensor<6x4xf32>
}

// Matrices stored the other way round, the row first.
// CHECK-LABEL: @transposed_gather_nd
// CHECK: %[[W:.*]] = graph.transpose %arg1 [0, 2, 1]
// CHECK: graph.grouped_matmul %arg0, %[[W]] by %{{.*}}
func.func @transposed_gather_nd(%x: tensor<6x8xf32>, %w: tensor<3x8x4xf32>, %ids: tensor<6xi64>) -> tensor<6x4xf32> {
  %i = graph.reshape %ids : tensor<6xi64> -> tensor<6x1xi64>
  %m = graph.gather_nd %w, %i batch 0 : tensor<3x8x4xf32>, tensor<6x1xi64> -> tensor<6x8x4xf32>
  %y = graph.einsum "ak,akn->an" %x, %m : tensor<6x8xf32>, tensor<6x8x4xf32> -> tensor<6x4xf32>
  return %y : tensor<6x4xf32>
}

// Two experts a token: ids have two dimensions.
// CHECK-LABEL: @two_dimensions_of_rows
// CHECK-DAG: %[[X:.*]] = graph.reshape %arg0 : tensor<3x2x8xf32> -> tensor<6x8xf32>
// CHECK-DAG: %[[I:.*]] = graph.reshape %arg2 : tensor<3x2xi64> -> tensor<6xi64>
// CHECK: %[[Y:.*]] = graph.grouped_matmul %[[X]], %arg1 by %[[I]]
// CHECK: graph.reshape %[[Y]] : tensor<6x4xf32> -> tensor<3x2x4xf32>
func.func @two_dimensions_of_rows(%x: tensor<3x2x8xf32>, %w: tensor<5x4x8xf32>, %ids: tensor<3x2xi64>) -> tensor<3x2x4xf32> {
  %m = graph.gather %w, %ids axis 0 : tensor<5x4x8xf32>, tensor<3x2xi64> -> tensor<3x2x4x8xf32>
  %y = graph.einsum "tkh,tknh->tkn" %x, %m : tensor<3x2x8xf32>, tensor<3x2x4x8xf32> -> tensor<3x2x4xf32>
  return %y : tensor<3x2x4xf32>
}

// All rows with all matrices: no row has its own.
// CHECK-LABEL: @every_matrix_for_every_row
// CHECK-NOT: grouped_matmul
// CHECK: return
func.func @every_matrix_for_every_row(%x: tensor<6x8xf32>, %w: tensor<3x4x8xf32>, %ids: tensor<6xi64>) -> tensor<6x6x4xf32> {
  %m = graph.gather %w, %ids axis 0 : tensor<3x4x8xf32>, tensor<6xi64> -> tensor<6x4x8xf32>
  %y = graph.einsum "tk,ank->tan" %x, %m : tensor<6x8xf32>, tensor<6x4x8xf32> -> tensor<6x6x4xf32>
  return %y : tensor<6x6x4xf32>
}
