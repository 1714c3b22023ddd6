// DEFINE: %{fsdp} = zero=3
// DEFINE: %{build} = sed 's/MESH/"dp_replicate" = 2, "dp_shard" = 2, "tp" = 2/; s/BATCH/"dp_replicate", "dp_shard"/; s/TENSOR/"tp"/' %S/Inputs/two-layers.mlir | shard-opt --shard-differentiate --canonicalize --cse --shard-propagate --shard-defer-gradient-sums --shard-partition --canonicalize --cse --shard-fsdp="optimizer=sgd clip-norm=1.0 %{fsdp}" --canonicalize --cse

// Replicas of sharded parameters: gathers stay among the ranks of a replica, gradients are scattered there, and the parts summed over replicas.
// RUN: %{build} | FileCheck %s
// CHECK:       shard.bucket @layers.0 "layers.0" f32 length 256 over {"dp_shard"} of @mesh
// CHECK-LABEL: func.func @step
// CHECK:       shard.all_gather {{.*}} over {"dp_shard"} {{.*}} "parameters of layers.0"
// CHECK:       %[[S:.*]] = shard.reduce_scatter {{.*}} over {"dp_shard"} of @mesh sum dim 0 {shard.origin = "gradients of layers.1", shard.overlap} : tensor<256xf32> -> tensor<128xf32>
// CHECK-NEXT:  shard.all_reduce %[[S]] over {"dp_replicate"} of @mesh sum {shard.origin = "gradients of layers.1, replicas", shard.overlap} : tensor<128xf32> -> tensor<128xf32>
// The norm: over the shards; over the two parts that replicas would have if they shared a shard, in the same order (outer.mlir); of what tensor
// parallelism cuts over its ranks too; nothing twice for replicas.
// CHECK:       %[[CUT:.*]] = shard.all_reduce %{{.*}} over {"dp_shard"} of @mesh sum {shard.origin = "norm of the gradient"} : tensor<2xf32>
// CHECK-NEXT:  %[[A:.*]] = graph.slice %[[CUT]]
// CHECK-NEXT:  %[[B:.*]] = graph.slice %[[CUT]]
// CHECK-NEXT:  %[[SUM:.*]] = graph.add %[[A]], %[[B]]
// CHECK-NEXT:  %[[ALL:.*]] = shard.all_reduce %[[SUM]] over {"tp"} of @mesh sum {shard.origin = "norm of the gradient"}
// CHECK-NEXT:  shard.all_reduce %{{.*}} over {"dp_shard"} of @mesh sum {shard.origin = "norm of the gradient"}
// CHECK:       %[[UNCUT:.*]] = graph.add
// CHECK-NEXT:  graph.add %[[ALL]], %[[UNCUT]]

// Without sharding both sums are whole, and the norm adds up in the same order without a word.
// REDEFINE: %{fsdp} = zero=0
// RUN: %{build} | FileCheck %s --check-prefix=WHOLE
// WHOLE-LABEL: func.func @step
// WHOLE-NOT:   shard.all_gather {{.*}} "parameters
// WHOLE:       %[[S:.*]] = shard.all_reduce {{.*}} over {"dp_shard"} of @mesh sum {shard.origin = "gradients of layers.1", shard.overlap} : tensor<256xf32> -> tensor<256xf32>
// WHOLE-NEXT:  shard.all_reduce %[[S]] over {"dp_replicate"} of @mesh sum {shard.origin = "gradients of layers.1, replicas", shard.overlap} : tensor<256xf32> -> tensor<256xf32>
// WHOLE:       graph.slice
// WHOLE-NOT:   shard.all_reduce {{.*}} over {"dp_shard"} of @mesh sum {shard.origin = "norm of the gradient"}
// WHOLE:       return
