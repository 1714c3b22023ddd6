// RUN: shard-opt %s --shard-decompose=pieces=2 | FileCheck %s
// Bit for bit the numbers of the whole, and so is what is scheduled.
// RUN: shard-opt --shard-interpret %s --entry gated > %t.whole
// RUN: shard-opt %s --shard-decompose=pieces=2 | shard-opt --shard-interpret - --entry gated > %t.pieces
// RUN: diff %t.whole %t.pieces
// RUN: shard-opt --shard-interpret %s --entry one_sequence > %t.whole
// RUN: shard-opt %s --shard-decompose=pieces=2 | shard-opt --shard-interpret - --entry one_sequence > %t.pieces
// RUN: diff %t.whole %t.pieces
// RUN: shard-opt %s --shard-decompose=pieces=2 --shard-fuse --shard-schedule | FileCheck %s --check-prefix=EXEC

module attributes {shard.partitioned} {
shard.mesh @mesh ["tp" = 2]

// What one gather brings goes through a gated activation to the reduce-scatter piece by piece: a piece is a sequence here. All gathers come first,
// as their source is there; the reduce-scatter of a piece comes in front of the next piece's products.
// CHECK-LABEL: func.func @gated(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<2x4x16xf32>
// CHECK-DAG:  %[[S0:.*]] = graph.slice %[[X]] [0, 0, 0]
// CHECK-DAG:  %[[X0:.*]] = shard.all_gather %[[S0]] over {"tp"} of @mesh dim 1 {shard.piece} : tensor<1x4x16xf32> -> tensor<1x8x16xf32>
// CHECK-DAG:  %[[S1:.*]] = graph.slice %[[X]] [1, 0, 0]
// CHECK-DAG:  %[[X1:.*]] = shard.all_gather %[[S1]] over {"tp"} of @mesh dim 1 {shard.piece}
// CHECK:      %[[G0:.*]] = graph.einsum "bsk,nk->bsn" %[[X0]], %{{.*}} : tensor<1x8x16xf32>, tensor<8x16xf32> -> tensor<1x8x8xf32>
// CHECK-NEXT: %[[A0:.*]] = graph.silu %[[G0]]
// CHECK-NEXT: %[[U0:.*]] = graph.einsum "bsk,nk->bsn" %[[X0]]
// CHECK-NEXT: %[[B0:.*]] = graph.broadcast %{{.*}} [2] : tensor<8xf32> -> tensor<1x8x8xf32>
// CHECK-NEXT: %[[C0:.*]] = graph.add %[[U0]], %[[B0]]
// CHECK-NEXT: %[[P0:.*]] = graph.mul %[[A0]], %[[C0]]
// CHECK-NEXT: %[[D0:.*]] = graph.einsum "bsk,nk->bsn" %[[P0]]
// CHECK-NEXT: %[[R0:.*]] = shard.reduce_scatter %[[D0]] over {"tp"} of @mesh sum dim 1 {shard.piece} : tensor<1x8x16xf32> -> tensor<1x4x16xf32>
// CHECK-NEXT: graph.einsum "bsk,nk->bsn" %[[X1]]
// CHECK:      %[[R1:.*]] = shard.reduce_scatter
// Whole tensors are there for those who read them whole: the gradient of a weight sums over all tokens in one order.
// CHECK:      %[[XS:.*]] = shard.bucket_pack %[[X0]], %[[X1]] at [0, 128]
// CHECK:      %[[WHOLE:.*]] = graph.reshape %[[XS]] : tensor<256xf32> -> tensor<2x8x16xf32>
// CHECK:      %[[R:.*]] = shard.bucket_pack %[[R0]], %[[R1]] at [0, 64]
// CHECK:      %[[Y:.*]] = graph.reshape %[[R]] : tensor<128xf32> -> tensor<2x4x16xf32>
// CHECK:      %[[DW:.*]] = graph.einsum "bsk,bsn->nk" %[[WHOLE]], %{{.*}} : tensor<2x8x16xf32>
// CHECK:      return %[[Y]], %[[DW]]

// Started where they stand, ended where they are needed.
// EXEC-LABEL: exec.program @gated
// EXEC:      exec.collective start 0 "all_gather"
// EXEC-NEXT: exec.collective start 1 "all_gather"
// EXEC-NEXT: exec.wait 0
// EXEC-NEXT: exec.launch
// EXEC:      exec.collective start 2 "reduce_scatter"
// EXEC-NEXT: exec.wait 1
// EXEC-NEXT: exec.launch
// EXEC:      exec.collective start 3 "reduce_scatter"
// EXEC-NEXT: exec.launch {{.*}}einsum
// EXEC-DAG:  exec.wait 2
// EXEC-DAG:  exec.wait 3
func.func @gated(%x: tensor<2x4x16xf32> {graph.name = "x", graph.global_type = tensor<2x8x16xf32>, shard.sharding = #shard.sharding<@mesh, [{}, {"tp"}, {}]>}, %gate: tensor<8x16xf32> {graph.name = "gate"}, %up: tensor<8x16xf32> {graph.name = "up"},
                 %bias: tensor<8xf32> {graph.name = "bias"}, %down: tensor<16x8xf32> {graph.name = "down"}, %dy: tensor<2x8x8xf32> {graph.name = "dy"})
    -> (tensor<2x4x16xf32> {graph.global_type = tensor<2x8x16xf32>, shard.sharding = #shard.sharding<@mesh, [{}, {"tp"}, {}]>}, tensor<8x16xf32>) {
  %0 = shard.all_gather %x over {"tp"} of @mesh dim 1 : tensor<2x4x16xf32> -> tensor<2x8x16xf32>
  %1 = graph.einsum "bsk,nk->bsn" %0, %gate : tensor<2x8x16xf32>, tensor<8x16xf32> -> tensor<2x8x8xf32>
  %2 = graph.silu %1 : tensor<2x8x8xf32>
  %3 = graph.einsum "bsk,nk->bsn" %0, %up : tensor<2x8x16xf32>, tensor<8x16xf32> -> tensor<2x8x8xf32>
  %4 = graph.broadcast %bias [2] : tensor<8xf32> -> tensor<2x8x8xf32>
  %5 = graph.add %3, %4 : tensor<2x8x8xf32>
  %6 = graph.mul %2, %5 : tensor<2x8x8xf32>
  %7 = graph.einsum "bsk,nk->bsn" %6, %down : tensor<2x8x8xf32>, tensor<16x8xf32> -> tensor<2x8x16xf32>
  %dw = graph.einsum "bsk,bsn->nk" %0, %dy : tensor<2x8x16xf32>, tensor<2x8x8xf32> -> tensor<8x16xf32>
  %8 = shard.reduce_scatter %7 over {"tp"} of @mesh sum dim 1 : tensor<2x8x16xf32> -> tensor<2x4x16xf32>
  return %8, %dw : tensor<2x4x16xf32>, tensor<8x16xf32>
}

// Of a backward pass: a gather that only the gradient of a weight reads stays whole, but is started in front of the first product of pieces, which hide
// it; and behind the pieces, which are needed first.
// CHECK-LABEL: func.func @backward(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<2x4x16xf32>
// CHECK-NOT:  shard.all_gather %[[X]]
// CHECK:      %[[D1:.*]] = shard.all_gather %{{.*}} {shard.piece} : tensor<1x4x16xf32> -> tensor<1x8x16xf32>
// CHECK:      %[[WHOLE:.*]] = shard.all_gather %[[X]] {{.*}} {shard.piece} : tensor<2x4x16xf32> -> tensor<2x8x16xf32>
// CHECK-NEXT: graph.einsum "bsn,nk->bsk"
// CHECK:      graph.einsum "bsk,bsn->nk" %[[WHOLE]]

// The gradient of another weight stood in front of the first gather, which does not need it, and runs beside it.
// EXEC-LABEL: exec.program @backward
// EXEC:      exec.collective start 0 "all_gather"
// EXEC-NEXT: exec.launch @[[EARLIER:.*einsum]](%{{.*}}, %{{.*}})
// EXEC-NEXT: exec.collective start 1 "all_gather"
// EXEC-NEXT: exec.collective start 2 "all_gather"
// EXEC-NEXT: exec.wait 0
func.func @backward(%x: tensor<2x4x16xf32> {graph.name = "x"}, %dy: tensor<2x4x16xf32> {graph.name = "dy"}, %w: tensor<16x8xf32> {graph.name = "w"},
                    %a: tensor<16x8xf32> {graph.name = "a"}, %b: tensor<16x8xf32> {graph.name = "b"}) -> (tensor<2x8x8xf32>, tensor<16x16xf32>, tensor<8x8xf32>) {
  %0 = shard.all_gather %x over {"tp"} of @mesh dim 1 : tensor<2x4x16xf32> -> tensor<2x8x16xf32>
  %da = graph.einsum "sn,sk->nk" %a, %b : tensor<16x8xf32>, tensor<16x8xf32> -> tensor<8x8xf32>
  %1 = shard.all_gather %dy over {"tp"} of @mesh dim 1 : tensor<2x4x16xf32> -> tensor<2x8x16xf32>
  %dx = graph.einsum "bsn,nk->bsk" %1, %w : tensor<2x8x16xf32>, tensor<16x8xf32> -> tensor<2x8x8xf32>
  %dw = graph.einsum "bsk,bsn->nk" %0, %1 : tensor<2x8x16xf32>, tensor<2x8x16xf32> -> tensor<16x16xf32>
  return %dx, %dw, %da : tensor<2x8x8xf32>, tensor<16x16xf32>, tensor<8x8xf32>
}

// One sequence: each rank's part of it is cut. A piece of the whole then has rows of both ranks, and others read it through a transpose.
// CHECK-LABEL: func.func @one_sequence(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<1x8x16xf32>
// CHECK:      graph.slice %[[X]] [0, 0, 0]
// CHECK:      graph.slice %[[X]] [0, 4, 0]
// CHECK:      %[[X1:.*]] = shard.all_gather %{{.*}} {shard.piece} : tensor<1x4x16xf32> -> tensor<1x8x16xf32>
// CHECK:      %[[Q0:.*]] = graph.einsum "bsk,nk->bsn" {{.*}} -> tensor<1x8x8xf32>
// CHECK:      %[[Q1:.*]] = graph.einsum "bsk,nk->bsn" %[[X1]]
// CHECK:      %[[Q:.*]] = shard.bucket_pack %[[Q0]], %[[Q1]] at [0, 64]
// CHECK:      %[[BY_PIECE:.*]] = graph.reshape %[[Q]] : tensor<128xf32> -> tensor<1x2x2x4x8xf32>
// CHECK:      %[[BY_RANK:.*]] = graph.transpose %[[BY_PIECE]] [0, 2, 1, 3, 4]
// CHECK:      %[[WHOLE:.*]] = graph.reshape %[[BY_RANK]] : tensor<1x2x2x4x8xf32> -> tensor<1x16x8xf32>
// CHECK:      graph.cumsum %[[WHOLE]]
// CHECK:      %[[P:.*]] = graph.slice %{{.*}} [0, 0, 0, 0, 0] step [1, 1, 1, 1, 1] : tensor<1x2x2x4x8xf32> -> tensor<1x2x1x4x8xf32>
// CHECK:      %[[ROWS:.*]] = graph.reshape %[[P]] : tensor<1x2x1x4x8xf32> -> tensor<1x8x8xf32>
// CHECK:      graph.einsum "bsk,nk->bsn" %[[ROWS]]
func.func @one_sequence(%x: tensor<1x8x16xf32> {graph.name = "x", graph.global_type = tensor<1x16x16xf32>, shard.sharding = #shard.sharding<@mesh, [{}, {"tp"}, {}]>}, %q: tensor<8x16xf32> {graph.name = "q"}, %o: tensor<16x8xf32> {graph.name = "o"})
    -> (tensor<1x8x16xf32> {graph.global_type = tensor<1x16x16xf32>, shard.sharding = #shard.sharding<@mesh, [{}, {"tp"}, {}]>}) {
  %0 = shard.all_gather %x over {"tp"} of @mesh dim 1 : tensor<1x8x16xf32> -> tensor<1x16x16xf32>
  %1 = graph.einsum "bsk,nk->bsn" %0, %q : tensor<1x16x16xf32>, tensor<8x16xf32> -> tensor<1x16x8xf32>
  %2 = graph.cumsum %1 dim 1 : tensor<1x16x8xf32>
  %3 = graph.einsum "bsk,nk->bsn" %2, %o : tensor<1x16x8xf32>, tensor<16x8xf32> -> tensor<1x16x16xf32>
  %4 = shard.reduce_scatter %3 over {"tp"} of @mesh sum dim 1 : tensor<1x16x16xf32> -> tensor<1x8x16xf32>
  return %4 : tensor<1x8x16xf32>
}
}
