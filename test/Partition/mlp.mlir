// RUN: shard-opt %s --shard-partition --shard-verify-partitioned | FileCheck %s

shard.mesh @mesh ["tp" = 2]

// The Megatron pattern: columns, then rows, one all_reduce.
// CHECK: module attributes {shard.partitioned}
// CHECK-LABEL: func.func @mlp(%arg0: tensor<2x4xf32> {graph.name = "x", shard.sharding = #shard.sharding<@mesh, [{}, {}]>})
func.func @mlp(%x: tensor<2x4xf32> {graph.name = "x"}) -> (tensor<2x4xf32> {graph.name = "y"}) {
  // CHECK: %[[UP:.*]] = graph.parameter "up" {graph.global_type = tensor<6x4xf32>, shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>]} : tensor<3x4xf32>
  // CHECK: %[[DOWN:.*]] = graph.parameter "down" {{.*}} : tensor<4x3xf32>
  // CHECK: %[[H:.*]] = graph.einsum "bk,nk->bn" %arg0, %[[UP]] : tensor<2x4xf32>, tensor<3x4xf32> -> tensor<2x3xf32>
  // CHECK: %[[A:.*]] = graph.silu %[[H]] : tensor<2x3xf32>
  // CHECK: %[[P:.*]] = graph.einsum "bk,nk->bn" %[[A]], %[[DOWN]]
  // CHECK: %[[Y:.*]] = shard.all_reduce %[[P]] over {"tp"} of @mesh sum
  // CHECK-NOT: shard.{{all|reduce|permute}}
  // CHECK: return %[[Y]] : tensor<2x4xf32>
  %up = graph.parameter "up" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>]} : tensor<6x4xf32>
  %down = graph.parameter "down" {shard.shardings = [#shard.sharding<@mesh, [{}, {"tp"}]>]} : tensor<4x6xf32>
  %h = graph.einsum "bk,nk->bn" %x, %up {shard.shardings = [#shard.sharding<@mesh, [{}, {"tp"}]>]}
      : tensor<2x4xf32>, tensor<6x4xf32> -> tensor<2x6xf32>
  %a = graph.silu %h {shard.shardings = [#shard.sharding<@mesh, [{}, {"tp"}]>]} : tensor<2x6xf32>
  %y = graph.einsum "bk,nk->bn" %a, %down {shard.shardings = [#shard.sharding<@mesh, [{}, {}]>]}
      : tensor<2x6xf32>, tensor<4x6xf32> -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}
