// RUN: shard-opt %s --shard-propagate | FileCheck %s
// RUN: shard-opt %s --shard-propagate --shard-partition --canonicalize --cse | FileCheck %s --check-prefix=LOCAL
// RUN: shard-opt --shard-interpret %s --input "ids=dense<[[1, 4], [0, 3]]>" > %t.global
// RUN: shard-opt %s --shard-propagate --shard-partition --canonicalize --cse -o %t.mlir
// RUN: shard-opt --shard-interpret %t.mlir --input "ids=dense<[[1, 4], [0, 3]]>" > %t.local
// RUN: diff %t.global %t.local

// Sequence parallelism around one layer function that is called twice, an embedding and a head over an uneven
// vocabulary (5 over 2). Only weights, and the residual stream at three places, are annotated.
// The runs agree exactly: all values are whole numbers, but for halves from attention over two equal scores.

shard.mesh @mesh ["tp" = 2]
#col = #shard.sharding<@mesh, [{"tp"}, {}]>
#row = #shard.sharding<@mesh, [{}, {"tp"}]>

// CHECK-LABEL: @layer(
// CHECK-SAME: %arg0: tensor<2x2x4xf32> {shard.sharding = #shard.sharding<@mesh, [{}, {"tp"}, {}]>}
// LOCAL-LABEL: @layer(
func.func private @layer(%x: tensor<2x2x4xf32>, %wq: tensor<4x4xf32>, %wk: tensor<4x4xf32>, %wv: tensor<4x4xf32>,
                         %wo: tensor<4x4xf32>, %up: tensor<6x4xf32>, %down: tensor<4x6xf32>) -> tensor<2x2x4xf32> {
  // Gathered once for the three projections.
  // LOCAL: %[[X:.*]] = shard.all_gather %arg0 over {"tp"} of @mesh dim 1
  // LOCAL: graph.einsum "bsk,nk->bsn" %[[X]], %arg1
  // LOCAL: graph.einsum "bsk,nk->bsn" %[[X]], %arg2
  // LOCAL: graph.einsum "bsk,nk->bsn" %[[X]], %arg3
  // LOCAL-NOT: shard.
  // CHECK: graph.einsum {{.*}}shard.origin = "tp: argument 1 of @layer through graph.einsum", shard.shardings = [#shard.sharding<@mesh, [{}, {}, {"tp"}]>]
  %q = graph.einsum "bsk,nk->bsn" %x, %wq : tensor<2x2x4xf32>, tensor<4x4xf32> -> tensor<2x2x4xf32>
  %k = graph.einsum "bsk,nk->bsn" %x, %wk : tensor<2x2x4xf32>, tensor<4x4xf32> -> tensor<2x2x4xf32>
  %v = graph.einsum "bsk,nk->bsn" %x, %wv : tensor<2x2x4xf32>, tensor<4x4xf32> -> tensor<2x2x4xf32>
  // A dimension is split into heads and elements: the heads are cut.
  // CHECK: graph.reshape {{.*}}[{}, {}, {"tp"}, {}]
  %q1 = graph.reshape %q : tensor<2x2x4xf32> -> tensor<2x2x2x2xf32>
  %k1 = graph.reshape %k : tensor<2x2x4xf32> -> tensor<2x2x2x2xf32>
  %v1 = graph.reshape %v : tensor<2x2x4xf32> -> tensor<2x2x2x2xf32>
  %q2 = graph.transpose %q1 [0, 2, 1, 3] : tensor<2x2x2x2xf32> -> tensor<2x2x2x2xf32>
  %k2 = graph.transpose %k1 [0, 2, 1, 3] : tensor<2x2x2x2xf32> -> tensor<2x2x2x2xf32>
  %v2 = graph.transpose %v1 [0, 2, 1, 3] : tensor<2x2x2x2xf32> -> tensor<2x2x2x2xf32>
  // LOCAL: graph.attention {{.*}} -> tensor<2x1x2x2xf32>
  %a = graph.attention %q2, %k2, %v2 scale 1.0 {causal = true}
      : tensor<2x2x2x2xf32>, tensor<2x2x2x2xf32>, tensor<2x2x2x2xf32> -> tensor<2x2x2x2xf32>
  %a1 = graph.transpose %a [0, 2, 1, 3] : tensor<2x2x2x2xf32> -> tensor<2x2x2x2xf32>
  %a2 = graph.reshape %a1 : tensor<2x2x2x2xf32> -> tensor<2x2x4xf32>
  // LOCAL: %[[O:.*]] = graph.einsum "bsk,nk->bsn" %{{.*}}, %arg4
  // LOCAL-NEXT: shard.reduce_scatter %[[O]] over {"tp"} of @mesh sum dim 1
  %o = graph.einsum "bsk,nk->bsn" %a2, %wo : tensor<2x2x4xf32>, tensor<4x4xf32> -> tensor<2x2x4xf32>
  %oc = shard.constraint %o : tensor<2x2x4xf32> to <@mesh, [{?}, {"tp"}, {}]>
  // LOCAL-NEXT: %[[R:.*]] = graph.add %arg0
  %r = graph.add %x, %oc : tensor<2x2x4xf32>
  // LOCAL-NEXT: shard.all_gather %[[R]] over {"tp"} of @mesh dim 1
  %u = graph.einsum "bsk,nk->bsn" %r, %up : tensor<2x2x4xf32>, tensor<6x4xf32> -> tensor<2x2x6xf32>
  %g = graph.relu %u : tensor<2x2x6xf32>
  // LOCAL: graph.relu
  // LOCAL-NEXT: graph.einsum "bsk,nk->bsn" %{{.*}}, %arg6
  // LOCAL-NEXT: shard.reduce_scatter
  %d = graph.einsum "bsk,nk->bsn" %g, %down : tensor<2x2x6xf32>, tensor<4x6xf32> -> tensor<2x2x4xf32>
  %dc = shard.constraint %d : tensor<2x2x4xf32> to <@mesh, [{?}, {"tp"}, {}]>
  %y = graph.add %r, %dc : tensor<2x2x4xf32>
  return %y : tensor<2x2x4xf32>
}

// LOCAL-LABEL: @main(
// LOCAL-SAME: %arg0: tensor<2x2xi64> {graph.name = "ids", shard.sharding = #shard.sharding<@mesh, [{}, {}]>}
func.func @main(%ids: tensor<2x2xi64> {graph.name = "ids"})
    -> (tensor<2x2x5xf32> {graph.name = "logits", shard.sharding = #shard.sharding<@mesh, [{}, {}, {}]>}) {
  // LOCAL: %[[E:.*]] = graph.parameter "embed" {graph.global_type = tensor<5x4xf32>
  // LOCAL: %[[IDS:.*]] = graph.sub %arg0
  // LOCAL: %[[X:.*]] = graph.gather %[[E]], %[[IDS]] axis 0 : tensor<3x4xf32>
  // LOCAL: shard.reduce_scatter %[[X]] over {"tp"} of @mesh sum dim 1
  %e = graph.parameter "embed" {shard.shardings = [#col],
      value = dense<[[1., 2., -1., 0.], [2., 0., 1., 3.], [0., 1., 1., -2.], [1., 1., 0., 4.], [-1., 3., 2., 0.]]> : tensor<5x4xf32>} : tensor<5x4xf32>
  %x = graph.gather %e, %ids axis 0 : tensor<5x4xf32>, tensor<2x2xi64> -> tensor<2x2x4xf32>
  %xc = shard.constraint %x : tensor<2x2x4xf32> to <@mesh, [{?}, {"tp"}, {}]>
  %wq = graph.parameter "wq" {shard.shardings = [#col], value = dense<0.0> : tensor<4x4xf32>} : tensor<4x4xf32>
  %wk = graph.parameter "wk" {shard.shardings = [#col], value = dense<1.0> : tensor<4x4xf32>} : tensor<4x4xf32>
  %wv = graph.parameter "wv" {shard.shardings = [#col],
      value = dense<[[1., 0., -1., 0.], [2., 0., 1., 0.], [0., 1., 1., 0.], [1., 1., 0., 0.]]> : tensor<4x4xf32>} : tensor<4x4xf32>
  %wo = graph.parameter "wo" {shard.shardings = [#row],
      value = dense<[[1., 0., 2., 0.], [0., 1., 0., 1.], [0., 2., 1., 0.], [1., 0., 0., -1.]]> : tensor<4x4xf32>} : tensor<4x4xf32>
  %up = graph.parameter "up" {shard.shardings = [#col],
      value = dense<[[1., 0., 0., 0.], [0., -1., 0., 0.], [0., 0., 1., 0.], [1., 0., 1., 0.], [0., 1., 0., 1.], [0., 0., 0., -1.]]> : tensor<6x4xf32>} : tensor<6x4xf32>
  %down = graph.parameter "down" {shard.shardings = [#row],
      value = dense<[[1., 0., 0., 0., 1., 0.], [0., 1., 0., 2., 0., 0.], [0., 0., 1., 0., 0., 1.], [1., 1., 0., 0., -1., 0.]]> : tensor<4x6xf32>} : tensor<4x6xf32>
  // LOCAL-COUNT-2: call @layer(
  %y = call @layer(%xc, %wq, %wk, %wv, %wo, %up, %down) : (tensor<2x2x4xf32>, tensor<4x4xf32>, tensor<4x4xf32>,
      tensor<4x4xf32>, tensor<4x4xf32>, tensor<6x4xf32>, tensor<4x6xf32>) -> tensor<2x2x4xf32>
  %z = call @layer(%y, %wq, %wk, %wv, %wo, %up, %down) : (tensor<2x2x4xf32>, tensor<4x4xf32>, tensor<4x4xf32>,
      tensor<4x4xf32>, tensor<4x4xf32>, tensor<6x4xf32>, tensor<4x6xf32>) -> tensor<2x2x4xf32>
  // LOCAL: graph.einsum "bsk,nk->bsn" %{{.*}}, %[[E]] : tensor<2x2x4xf32>, tensor<3x4xf32> -> tensor<2x2x3xf32>
  // LOCAL: shard.all_gather {{.*}} dim 2 {{.*}} : tensor<2x2x3xf32> -> tensor<2x2x5xf32>
  %l = graph.einsum "bsk,nk->bsn" %z, %e : tensor<2x2x4xf32>, tensor<5x4xf32> -> tensor<2x2x5xf32>
  return %l : tensor<2x2x5xf32>
}
