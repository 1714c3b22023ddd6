// RUN: shard-opt %s --split-input-file --verify-diagnostics --shard-partition

// expected-error@+1 {{module has 0 meshes, expected one shard.mesh}}
module {}

// -----

shard.mesh @mesh ["tp" = 2]
func.func @no_rule(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{has no sharding rule, so that it cannot be partitioned}}
  %0 = arith.negf %x : tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

shard.mesh @mesh ["tp" = 2]
// expected-error@+1 {{argument 0 has type 'f32', expected a ranked tensor}}
func.func @scalar(%x: f32) {
  return
}

// -----

shard.mesh @mesh ["tp" = 2]
// expected-error@+1 {{calls itself}}
func.func @recursive(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = call @recursive(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

shard.mesh @mesh ["tp" = 2]
// expected-error@+1 {{has no body to partition}}
func.func private @declared(tensor<4xf32>) -> tensor<4xf32>

// -----

shard.mesh @mesh ["tp" = 2]
func.func @pending_parameter() -> tensor<4xf32> {
  // expected-error@+1 {{cannot be pending}}
  %w = graph.parameter "w" {shard.shardings = [#shard.sharding<@mesh, [{}], partial = sum {"tp"}>]} : tensor<4xf32>
  return %w : tensor<4xf32>
}
