// RUN: shard-opt %s --split-input-file --verify-diagnostics --shard-propagate

// expected-error@+1 {{module has 0 meshes, expected one shard.mesh}}
module {}

// -----

shard.mesh @mesh ["tp" = 2]
func.func @other_mesh(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{has a sharding on mesh @other, the module's mesh is @mesh}}
  %0 = graph.neg %x {shard.shardings = [#shard.sharding<@other, [{"tp"}]>]} : tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

shard.mesh @mesh ["tp" = 2]
func.func @unknown_axis(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{has no axis "dp"}}
  %0 = graph.neg %x {shard.shardings = [#shard.sharding<@mesh, [{"dp"}]>]} : tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

shard.mesh @mesh ["tp" = 2]
func.func @wrong_rank(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{sharding has 2 dimensions, the tensor has 1}}
  %0 = graph.neg %x {shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>]} : tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

shard.mesh @mesh ["tp" = 2]
func.func @no_rule(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{has no sharding rule}}
  %0 = arith.negf %x : tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

shard.mesh @mesh ["tp" = 2]
// expected-error@+1 {{'func.func' op has 0 blocks, expected one}}
func.func private @declared(tensor<4xf32>) -> tensor<4xf32>
