// RUN: shard-opt %s --split-input-file --verify-diagnostics

// mesh_c1
// expected-error@+1 {{has two axes named "tp"}}
shard.mesh @mesh ["tp" = 2, "tp" = 4]

// -----

func.func @no_mesh(%x: tensor<8xf32>) -> tensor<8xf32> {
  // expected-error@+1 {{names mesh @mesh, which is not defined}}
  %0 = shard.constraint %x : tensor<8xf32> to <@mesh, [{"tp"}]>
  return %0 : tensor<8xf32>
}

// -----

shard.mesh @mesh ["tp" = 4]
func.func @unknown_axis(%x: tensor<8xf32>) -> tensor<8xf32> {
  // expected-error@+1 {{has no axis "dp"}}
  %0 = shard.constraint %x : tensor<8xf32> to <@mesh, [{"dp"}]>
  return %0 : tensor<8xf32>
}

// -----

shard.mesh @mesh ["tp" = 4]
func.func @wrong_rank(%x: tensor<8xf32>) -> tensor<8xf32> {
  // expected-error@+1 {{sharding has 2 dimensions, the tensor has 1}}
  %0 = shard.constraint %x : tensor<8xf32> to <@mesh, [{"tp"}, {}]>
  return %0 : tensor<8xf32>
}

// -----

shard.mesh @mesh ["tp" = 4]
func.func @all_gather_c1(%x: tensor<2xf32>) -> tensor<12xf32> {
  // expected-error@+1 {{gathers 4 parts of size 2 to size 12 along dimension 0}}
  %0 = shard.all_gather %x over {"tp"} of @mesh dim 0 : tensor<2xf32> -> tensor<12xf32>
  return %0 : tensor<12xf32>
}

// -----

shard.mesh @mesh ["tp" = 4]
func.func @reduce_scatter_c1(%x: tensor<10xf32>) -> tensor<2xf32> {
  // expected-error@+1 {{result dimension 0 has size 2, expected 3}}
  %0 = shard.reduce_scatter %x over {"tp"} of @mesh sum dim 0 : tensor<10xf32> -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

// -----

shard.mesh @mesh ["tp" = 4]
func.func @all_to_all_c1(%x: tensor<2x8xf32>) -> tensor<8x2xf32> {
  // expected-error@+1 {{input dimension 1 has size 8, expected the whole 9}}
  %0 = shard.all_to_all %x over {"tp"} of @mesh split 1 total 9 concat 0 total 8 : tensor<2x8xf32> -> tensor<8x2xf32>
  return %0 : tensor<8x2xf32>
}

// -----

shard.mesh @mesh ["tp" = 4]
func.func @permute_c1(%x: tensor<2xf32>) -> tensor<2xf32> {
  // expected-error@+1 {{member 5 is outside the group of 4}}
  %0 = shard.permute %x over {"tp"} of @mesh [0, 5] : tensor<2xf32> -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

// -----

shard.mesh @mesh ["tp" = 4]
func.func @broadcast_c1(%x: tensor<2xf32>) -> tensor<2xf32> {
  // expected-error@+1 {{root 4 is outside the group of 4}}
  %0 = shard.broadcast %x over {"tp"} of @mesh root 4 : tensor<2xf32> -> tensor<2xf32>
  return %0 : tensor<2xf32>
}
