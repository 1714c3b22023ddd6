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

shard.mesh @mesh ["dp_replicate" = 4]
func.func @main() {
  // expected-error@+1 {{"w" is cut over "dp_replicate:(1)2", along which ranks have whole copies}}
  %w = graph.parameter "w" {shard.shardings = [#shard.sharding<@mesh, [{"dp_replicate":(1)2}]>]} : tensor<2xf32>
  return
}

// -----

shard.mesh @mesh ["dp_shard" = 2]
func.func @main() {
  // expected-error@+1 {{has no axis "tp"}}
  %w = graph.parameter "w" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}]>]} : tensor<2xf32>
  return
}
