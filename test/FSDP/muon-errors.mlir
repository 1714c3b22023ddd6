// RUN: not shard-opt %s --shard-fsdp=optimizer=muon 2>&1 | FileCheck %s

// CHECK: error: optimizer muon updates trained matrices of layers, of which there are none
shard.mesh @mesh ["dp_shard" = 2]
func.func @main() -> (tensor<f32>, tensor<f32>, tensor<4xf32> {graph.gradient = "w", shard.sharding = #shard.sharding<@mesh, [{}], partial = sum {"dp_shard"}>}) {
  %w = graph.parameter "w" : tensor<4xf32>
  %g = graph.neg %w {shard.shardings = [#shard.sharding<@mesh, [{}], partial = sum {"dp_shard"}>]} : tensor<4xf32>
  %loss = graph.constant dense<1.0> : tensor<f32>
  return %loss, %loss, %g : tensor<f32>, tensor<f32>, tensor<4xf32>
}
