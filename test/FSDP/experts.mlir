// DEFINE: %{fsdp} = zero=3
// DEFINE: %{build} = shard-opt %s --shard-fsdp="optimizer=sgd clip-norm=1.0 %{fsdp}" --canonicalize --cse

// Experts that are cut over the minor half of dp_shard and tp have a bucket of their own, which is sharded over what is left of dp_shard.
// RUN: %{build} | FileCheck %s
// CHECK:       shard.bucket @layers.0 "layers.0" f32 length 256 over {"dp_shard":(1)2} of @mesh [{{.*}}tensor = "layers.0.experts", type = tensor<4x4x8xf32>}]
// CHECK-NEXT:  shard.bucket @"layers.0/1" "layers.0" f32 length 512 over {"dp_shard"} of @mesh [{{.*}}tensor = "layers.0.norm"
// The shards of these lie beside those of other experts.
// CHECK-LABEL: func.func @step(
// CHECK-SAME:  tensor<128xf32> {graph.global_type = tensor<1024xf32>, shard.sharding = #shard.sharding<@mesh, [{"dp_shard":(2)2, "tp", "dp_shard":(1)2}]>, shard.state = "parameter/layers.0"}
// CHECK-SAME:  tensor<128xf32> {graph.global_type = tensor<512xf32>, shard.sharding = #shard.sharding<@mesh, [{"dp_shard"}]>, shard.state = "parameter/layers.0/1"}
// CHECK:       shard.all_gather {{.*}} over {"dp_shard":(1)2} of @mesh dim 0 {shard.origin = "parameters of layers.0"
// CHECK:       %[[N:.*]] = shard.reduce_scatter {{.*}} over {"dp_shard"} of @mesh sum dim 0 {shard.origin = "gradients of layers.0", shard.overlap} : tensor<512xf32> -> tensor<128xf32>
// Each rank of an expert group has seen the group's tokens: sums are over the other ranks only.
// CHECK:       %[[E:.*]] = shard.reduce_scatter {{.*}} over {"dp_shard":(1)2} of @mesh sum dim 0 {shard.origin = "gradients of layers.0", shard.overlap} : tensor<256xf32> -> tensor<128xf32>
// CHECK-NEXT:  shard.all_reduce %[[E]] over {"dp_replicate"} of @mesh sum {shard.origin = "gradients of layers.0, replicas"
// The norm adds up shards, then experts; what is whole over tp is counted once.
// CHECK:       shard.all_reduce {{.*}} over {"dp_shard":(1)2} of @mesh sum {shard.origin = "norm of the gradient"}
// CHECK:       %[[T:.*]] = shard.all_reduce {{.*}} over {"dp_shard":(2)2, "tp"} of @mesh sum {shard.origin = "norm of the gradient"}
// CHECK:       shard.all_reduce {{.*}} over {"dp_shard"} of @mesh sum {shard.origin = "norm of the gradient"}
// CHECK:       %[[D:.*]] = graph.add
// CHECK-NEXT:  graph.add %[[T]], %[[D]]

// Groups of two ranks are all that share experts: these are gathered again, and only the other bucket keeps a part.
// REDEFINE: %{fsdp} = zero=3 reshard=2
// RUN: %{build} | FileCheck %s --check-prefix=GROUPS
// GROUPS: shard.slice {{.*}} over {"dp_shard":(2)2} of @mesh dim 0 {shard.origin = "reshard_after_forward of layers.0"}

// Nothing of experts is left to shard where they are cut over all of dp_shard: their state is whole, and only replicas are summed.
// RUN: sed 's/"dp_shard":(2)2, "tp"/"dp_shard", "tp"/g; s/tensor<4x4x8xf32>/tensor<8x4x8xf32>/; s/sum {"dp_replicate", "dp_shard":(1)2}/sum {"dp_replicate"}/' %s | shard-opt --shard-fsdp="optimizer=sgd zero=2" --canonicalize --cse | FileCheck %s --check-prefix=ALL
// ALL:       shard.bucket @layers.0 "layers.0" f32 length 128 over {} of @mesh
// ALL:       shard.state @"parameter/layers.0" "parameter" tensor<128xf32> of @layers.0{{ *$}}
// ALL-NOT:   compute_parameter/layers.0"
// ALL-LABEL: func.func @step(
// ALL-NOT:   shard.reduce_scatter {{.*}} : tensor<128xf32>
// ALL:       return
shard.mesh @mesh ["dp_replicate" = 2, "dp_shard" = 4, "tp" = 2]

func.func @main(%x: tensor<4x8xf32> {graph.name = "x"})
    -> (tensor<f32> {graph.name = "loss"}, tensor<f32> {graph.name = "tokens"},
        tensor<1x4x8xf32> {graph.gradient = "layers.0.experts", shard.sharding = #shard.sharding<@mesh, [{"dp_shard":(2)2, "tp"}, {}, {}], partial = sum {"dp_replicate", "dp_shard":(1)2}>},
        tensor<8xf32> {graph.gradient = "layers.0.norm", shard.sharding = #shard.sharding<@mesh, [{}], partial = sum {"dp_replicate", "dp_shard"}>}) {
  %one = graph.constant dense<1.0> : tensor<f32>
  %e = graph.parameter "layers.0.experts" {graph.global_type = tensor<4x4x8xf32>, shard.shardings = [#shard.sharding<@mesh, [{"dp_shard":(2)2, "tp"}, {}, {}]>]} : tensor<1x4x8xf32>
  %n = graph.parameter "layers.0.norm" : tensor<8xf32>
  %de, %dn = call @layer(%x, %e, %n) {graph.path = "layers.0"} : (tensor<4x8xf32>, tensor<1x4x8xf32>, tensor<8xf32>) -> (tensor<1x4x8xf32>, tensor<8xf32>)
  %l = call @layer_backward(%x, %e, %n) {graph.path = "layers.0", shard.backward} : (tensor<4x8xf32>, tensor<1x4x8xf32>, tensor<8xf32>) -> tensor<f32>
  return %l, %one, %de, %dn : tensor<f32>, tensor<f32>, tensor<1x4x8xf32>, tensor<8xf32>
}
func.func private @layer(%x: tensor<4x8xf32>, %e: tensor<1x4x8xf32>, %n: tensor<8xf32>) -> (tensor<1x4x8xf32>, tensor<8xf32>) {
  return %e, %n : tensor<1x4x8xf32>, tensor<8xf32>
}
func.func private @layer_backward(%x: tensor<4x8xf32>, %e: tensor<1x4x8xf32>, %n: tensor<8xf32>) -> tensor<f32> {
  %0 = graph.mul %n, %n : tensor<8xf32>
  %1 = graph.reduce sum %0 [0] : tensor<8xf32> -> tensor<f32>
  return %1 : tensor<f32>
}
