// RUN: shard-opt %s --split-input-file --verify-diagnostics --shard-fsdp
// DEFINE: %{fsdp} =
// DEFINE: %{run} = not shard-opt %S/step.mlir --shard-fsdp="%{fsdp}" 2>&1 | FileCheck %s --check-prefix

// REDEFINE: %{fsdp} = zero=4
// RUN: %{run} ZERO
// ZERO: error: zero: 4 is not 0, 1, 2 or 3
// REDEFINE: %{fsdp} = reshard=maybe
// RUN: %{run} RESHARD
// RESHARD: error: reshard: "maybe" is not true, false or a number of ranks
// REDEFINE: %{fsdp} = reshard=3
// RUN: %{run} GROUPS
// GROUPS: error: reshard: groups of 3 ranks do not divide the 2 ranks along dp_shard
// REDEFINE: %{fsdp} = reshard=true zero=2
// RUN: %{run} KEPT
// KEPT: error: reshard: needs zero 3, where parameters are sharded; zero is 2
// REDEFINE: %{fsdp} = outer=optim zero=2
// RUN: %{run} OUTER-ZERO
// OUTER-ZERO: error: outer: optim needs zero 3, where replicas are of shards; zero is 2
// REDEFINE: %{fsdp} = outer=optim
// RUN: %{run} OUTER-MESH
// OUTER-MESH: error: outer: optim needs replicas of shards; dp_replicate is 1, dp_shard 2
// REDEFINE: %{fsdp} = outer=1
// RUN: %{run} OUTER-WORD
// OUTER-WORD: error: outer: "1" is not no_shard or optim
// REDEFINE: %{fsdp} = optimizer=lion
// RUN: %{run} OPTIMIZER
// OPTIMIZER: error: optimizer: "lion" is not adamw, sgd or muon
// REDEFINE: %{fsdp} = optimizer=sgd,beta1=0.5
// RUN: %{run} OTHER
// OTHER: error: beta1 is an option of adamw and muon, the optimizer is sgd
// REDEFINE: %{fsdp} = optimizer=muon,nesterov=maybe
// RUN: %{run} WORD
// WORD: error: nesterov "maybe" is not true or false
// REDEFINE: %{fsdp} = optimizer=muon,newton-schulz-steps=0
// RUN: %{run} STEPS
// STEPS: error: newton-schulz-steps: 0 is not a whole number from 1 to 99
// REDEFINE: %{fsdp} = optimizer=adamw,speed=1
// RUN: %{run} UNKNOWN
// UNKNOWN: error: optimizer: there is no option "speed"
// REDEFINE: %{fsdp} = reduce-dtype=f64
// RUN: %{run} DTYPE
// DTYPE: error: reduce-dtype: "f64" is not f32, bf16 or f16
// REDEFINE: %{fsdp} = no-decay=(
// RUN: %{run} REGEX
// REGEX: error: no-decay: "(" is not a regular expression: parentheses not balanced
// REDEFINE: %{fsdp} = entry=other
// RUN: %{run} ENTRY
// ENTRY: error: needs one shard.mesh and a differentiated function @other

// RUN: sed 's/["]dp_shard" = 2/"dp_shard" = 4, "dp_more" = 2/' %S/step.mlir | not shard-opt --shard-fsdp=reshard=4 2>&1 | FileCheck %s --check-prefix=INNER
// INNER: error: reshard: groups of 4 ranks do not divide the 2 ranks along "dp_more"

// expected-error@+1 {{needs one shard.mesh and a differentiated function @main}}
module {
  shard.mesh @mesh ["dp_shard" = 2]
  func.func @main() -> (tensor<f32>, tensor<f32>, tensor<f32>) {
    %0 = graph.constant dense<1.0> : tensor<f32>
    return %0, %0, %0 : tensor<f32>, tensor<f32>, tensor<f32>
  }
}

// -----

shard.mesh @mesh ["dp_shard" = 2, "tp" = 2]
func.func @main() -> (tensor<2xf32>, tensor<2xf32>, tensor<2xf32> {graph.gradient = "w"}) {
  %0 = graph.parameter "w" {graph.global_type = tensor<4xf32>, shard.shardings = [#shard.sharding<@mesh, [{"tp"}]>]} : tensor<2xf32>
  // expected-error@+1 {{"w" stands twice, under different shardings}}
  %1 = graph.parameter "w" : tensor<2xf32>
  return %0, %1, %1 : tensor<2xf32>, tensor<2xf32>, tensor<2xf32>
}

// -----

shard.mesh @mesh ["dp_shard" = 2]
func.func @main() -> (tensor<2xf32>, tensor<2xf32>, tensor<2xf32> {graph.gradient = "w", graph.segment = array<i64: 0, 0, 2>}) {
  %0 = graph.parameter "w" segment [0, 0, 2] of 4 : tensor<2xf32>
  // expected-error@+1 {{"w" stands twice, in pieces that overlap}}
  %1 = graph.parameter "w" segment [0, 1, 2] of 4 : tensor<2xf32>
  return %0, %1, %1 : tensor<2xf32>, tensor<2xf32>, tensor<2xf32>
}

// -----

shard.mesh @mesh ["dp_shard" = 2]
func.func @main() -> (tensor<2xf32>, tensor<2xf32>, tensor<2xf32> {graph.gradient = "w"}) {
  // expected-error@+1 {{has no axis "tp"}}
  %0 = graph.parameter "w" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}]>]} : tensor<2xf32>
  return %0, %0, %0 : tensor<2xf32>, tensor<2xf32>, tensor<2xf32>
}
