// RUN: shard-opt %s --split-input-file --verify-diagnostics --shard-verify-partitioned

shard.mesh @mesh ["tp" = 2]
// expected-error@+1 {{argument 0 has type 'tensor<4xf32>', its sharding [{tp}] of 'tensor<4xf32>' asks for 'tensor<2xf32>'}}
func.func @argument(%x: tensor<4xf32> {graph.global_type = tensor<4xf32>, shard.sharding = #shard.sharding<@mesh, [{"tp"}]>}) {
  return
}

// -----

shard.mesh @mesh ["tp" = 2]
// expected-error@+1 {{argument 0 has no sharding}}
func.func @nothing_said(%x: tensor<4xf32>) {
  return
}

// -----

shard.mesh @mesh ["tp" = 2]
func.func @global_op(%x: tensor<4xf32> {shard.sharding = #shard.sharding<@mesh, [{}]>}) {
  // expected-error@+1 {{is left in a partitioned program}}
  %0 = shard.constraint %x : tensor<4xf32> to <@mesh, [{}]>
  return
}

// -----

shard.mesh @mesh ["tp" = 2]
func.func @parameter() {
  // expected-error@+1 {{result 0 has type 'tensor<4xf32>', its sharding [{tp}] of 'tensor<6xf32>' asks for 'tensor<3xf32>'}}
  %w = graph.parameter "w" {graph.global_type = tensor<6xf32>, shard.shardings = [#shard.sharding<@mesh, [{"tp"}]>]} : tensor<4xf32>
  return
}
