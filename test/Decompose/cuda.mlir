// RUN: shard-opt %s --shard-decompose="pieces=2 target=cuda" --verify-diagnostics | FileCheck %s

// NCCL gathers what is one block on each rank: a piece is at most one sequence, also where fewer pieces are asked for.
module attributes {shard.partitioned} {
shard.mesh @mesh ["tp" = 2]
// CHECK-LABEL: func.func @sequences
// CHECK-COUNT-4: shard.all_gather {{.*}} {shard.piece} : tensor<1x4x64xf32> -> tensor<1x8x64xf32>
// CHECK-NOT:     shard.all_gather
func.func @sequences(%x: tensor<4x4x64xf32>, %w: tensor<64x64xf32>) -> tensor<4x8x64xf32> {
  %0 = shard.all_gather %x over {"tp"} of @mesh dim 1 : tensor<4x4x64xf32> -> tensor<4x8x64xf32>
  %1 = graph.einsum "bsk,nk->bsn" %0, %w : tensor<4x8x64xf32>, tensor<64x64xf32> -> tensor<4x8x64xf32>
  return %1 : tensor<4x8x64xf32>
}

// CHECK-LABEL: func.func @too_many
// CHECK-NOT:     shard.piece
func.func @too_many(%x: tensor<66x4x64xf32>, %w: tensor<64x64xf32>) -> tensor<66x8x64xf32> {
  // expected-remark@+1 {{all_gather is not cut into pieces: a piece of 33 sequences goes through the staging area, which completes where it stands}}
  %0 = shard.all_gather %x over {"tp"} of @mesh dim 1 : tensor<66x4x64xf32> -> tensor<66x8x64xf32>
  %1 = graph.einsum "bsk,nk->bsn" %0, %w : tensor<66x8x64xf32>, tensor<64x64xf32> -> tensor<66x8x64xf32>
  return %1 : tensor<66x8x64xf32>
}
}
