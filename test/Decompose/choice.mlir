// RUN: shard-opt %s --shard-decompose | FileCheck %s

// By size: four pieces of at least 64 KiB, else two; a batch of an odd number of sequences is cut into these.
module attributes {shard.partitioned} {
shard.mesh @mesh ["tp" = 2]
// CHECK-LABEL: func.func @four
// CHECK-COUNT-4: shard.all_gather {{.*}} {shard.piece} : tensor<1x128x64xf32> -> tensor<1x256x64xf32>
// CHECK-NOT:     shard.all_gather
func.func @four(%x: tensor<4x128x64xf32>, %w: tensor<64x64xf32>) -> tensor<4x256x64xf32> {
  %0 = shard.all_gather %x over {"tp"} of @mesh dim 1 : tensor<4x128x64xf32> -> tensor<4x256x64xf32>
  %1 = graph.einsum "bsk,nk->bsn" %0, %w : tensor<4x256x64xf32>, tensor<64x64xf32> -> tensor<4x256x64xf32>
  return %1 : tensor<4x256x64xf32>
}

// CHECK-LABEL: func.func @two
// CHECK-COUNT-2: shard.all_gather {{.*}} {shard.piece} : tensor<2x64x64xf32> -> tensor<2x128x64xf32>
// CHECK-NOT:     shard.all_gather
func.func @two(%x: tensor<4x64x64xf32>, %w: tensor<64x64xf32>) -> tensor<4x128x64xf32> {
  %0 = shard.all_gather %x over {"tp"} of @mesh dim 1 : tensor<4x64x64xf32> -> tensor<4x128x64xf32>
  %1 = graph.einsum "bsk,nk->bsn" %0, %w : tensor<4x128x64xf32>, tensor<64x64xf32> -> tensor<4x128x64xf32>
  return %1 : tensor<4x128x64xf32>
}

// CHECK-LABEL: func.func @three
// CHECK-COUNT-3: shard.reduce_scatter {{.*}} {shard.piece} : tensor<1x256x64xf32> -> tensor<1x128x64xf32>
// CHECK-NOT:     shard.reduce_scatter
func.func @three(%x: tensor<3x256x64xf32>, %w: tensor<64x64xf32>) -> tensor<3x128x64xf32> {
  %0 = graph.einsum "bsk,nk->bsn" %x, %w : tensor<3x256x64xf32>, tensor<64x64xf32> -> tensor<3x256x64xf32>
  %1 = shard.reduce_scatter %0 over {"tp"} of @mesh sum dim 1 : tensor<3x256x64xf32> -> tensor<3x128x64xf32>
  return %1 : tensor<3x128x64xf32>
}
}
