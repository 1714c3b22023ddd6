// RUN: shard-opt %s --split-input-file --verify-diagnostics --shard-decompose=pieces=4
// RUN: not shard-opt %S/decompose.mlir --shard-decompose=pieces=1 2>&1 | FileCheck %s --check-prefix=PIECES
// RUN: not shard-opt %S/decompose.mlir --shard-decompose=costs=%t.none 2>&1 | FileCheck %s --check-prefix=COSTS
// RUN: shard-opt %S/decompose.mlir --shard-decompose 2>&1 | FileCheck %s --check-prefix=SIZE

// PIECES: error: pieces is 1, expected at least 2, or 0 for a number by costs or size
// COSTS: error: costs: {{.*}}none
// Latency would be most of so small a piece.
// SIZE: remark: all_gather is not cut into pieces: a piece is 512 bytes, less than 65536
// SIZE-NOT: shard.piece

// expected-error@+1 {{is not partitioned: there are no collectives to cut into pieces}}
module {}

// -----

// What stays whole says why.
module attributes {shard.partitioned} {
shard.mesh @mesh ["tp" = 2]
func.func @whole(%x: tensor<4x4x64xf32>, %w: tensor<64x64xf32>, %dy: tensor<4x8x64xf32>, %odd: tensor<1x7x64xf32>, %three: tensor<3x4x64xf32>, %few: tensor<4x1x64xf32>)
    -> (tensor<4x4x64xf32>, tensor<64xf32>, tensor<64x64xf32>, tensor<1x13x64xf32>, tensor<3x8x64xf32>, tensor<4x2x64xf32>) {
  // expected-remark@+1 {{all_gather is not cut into pieces: the products that read it sum over the tokens}}
  %0 = shard.all_gather %x over {"tp"} of @mesh dim 1 : tensor<4x4x64xf32> -> tensor<4x8x64xf32>
  %dw = graph.einsum "bsk,bsn->nk" %0, %dy : tensor<4x8x64xf32>, tensor<4x8x64xf32> -> tensor<64x64xf32>
  // expected-remark@+1 {{reduce_scatter is not cut into pieces: no product makes what it reduces}}
  %1 = shard.reduce_scatter %dy over {"tp"} of @mesh sum dim 1 : tensor<4x8x64xf32> -> tensor<4x4x64xf32>
  // expected-remark@+1 {{all_gather is not cut into pieces: no product reads it}}
  %2 = shard.all_gather %1 over {"tp"} of @mesh dim 1 : tensor<4x4x64xf32> -> tensor<4x8x64xf32>
  %3 = graph.reduce sum %2 [0, 1] : tensor<4x8x64xf32> -> tensor<64xf32>
  // expected-remark@+1 {{a sequence of 13 is no multiple of 2 ranks}}
  %4 = shard.all_gather %odd over {"tp"} of @mesh dim 1 : tensor<1x7x64xf32> -> tensor<1x13x64xf32>
  %5 = graph.einsum "bsk,nk->bsn" %4, %w : tensor<1x13x64xf32>, tensor<64x64xf32> -> tensor<1x13x64xf32>
  // expected-remark@+1 {{3 sequences are no multiple of 4 pieces, nor the other way round}}
  %6 = shard.all_gather %three over {"tp"} of @mesh dim 1 : tensor<3x4x64xf32> -> tensor<3x8x64xf32>
  %7 = graph.einsum "bsk,nk->bsn" %6, %w : tensor<3x8x64xf32>, tensor<64x64xf32> -> tensor<3x8x64xf32>
  // expected-remark@+1 {{a piece has 2 tokens, less than 8}}
  %8 = shard.all_gather %few over {"tp"} of @mesh dim 1 : tensor<4x1x64xf32> -> tensor<4x2x64xf32>
  %9 = graph.einsum "bsk,nk->bsn" %8, %w : tensor<4x2x64xf32>, tensor<64x64xf32> -> tensor<4x2x64xf32>
  return %1, %3, %dw, %5, %7, %9 : tensor<4x4x64xf32>, tensor<64xf32>, tensor<64x64xf32>, tensor<1x13x64xf32>, tensor<3x8x64xf32>, tensor<4x2x64xf32>
}
}

// -----

module attributes {shard.partitioned} {
shard.mesh @mesh ["tp" = 2]
func.func @three_tokens(%x: tensor<1x6x64xf32>, %w: tensor<64x64xf32>) -> tensor<1x12x64xf32> {
  // expected-remark@+1 {{a rank's 6 tokens of a sequence are no multiple of 4 pieces}}
  %0 = shard.all_gather %x over {"tp"} of @mesh dim 1 : tensor<1x6x64xf32> -> tensor<1x12x64xf32>
  %1 = graph.einsum "bsk,nk->bsn" %0, %w : tensor<1x12x64xf32>, tensor<64x64xf32> -> tensor<1x12x64xf32>
  return %1 : tensor<1x12x64xf32>
}
}
