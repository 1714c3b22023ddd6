// RUN: shard-opt %s --split-input-file --verify-diagnostics --shard-defer-gradient-sums

// expected-error@+1 {{needs one shard.mesh and a function @main}}
module {
  func.func @main() {
    return
  }
}

// -----

// expected-error@+1 {{needs one shard.mesh and a function @main}}
module {
  shard.mesh @mesh ["dp_shard" = 2]
}

// -----

// A data-parallel rank has other tokens: it cannot have another part of a weight too.
shard.mesh @mesh ["dp_shard" = 4]
func.func @main() {
  // expected-error@+1 {{"w" is cut over "dp_shard:(1)2", a data-parallel axis, over which gradients are summed}}
  %w = graph.parameter "w" {shard.shardings = [#shard.sharding<@mesh, [{"dp_shard":(1)2}]>]} : tensor<2xf32>
  return
}

// -----

shard.mesh @mesh ["dp_shard" = 2]
func.func @main() {
  // expected-error@+1 {{has no axis "tp"}}
  %w = graph.parameter "w" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}]>]} : tensor<2xf32>
  return
}
