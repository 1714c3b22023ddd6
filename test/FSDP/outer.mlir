// DEFINE: %{build} = sed 's/MESH/"dp_replicate" = 2, "dp_shard" = 2/; s/BATCH/"dp_replicate", "dp_shard"/; s/TENSOR//' %S/Inputs/two-layers.mlir | shard-opt --shard-differentiate --canonicalize --cse --shard-propagate --shard-defer-gradient-sums --shard-partition --canonicalize --cse --shard-fsdp="optimizer=sgd clip-norm=1.0 outer=optim" --canonicalize --cse
// RUN: %{build} | FileCheck %s
// RUN: %{build} | shard-opt --shard-fuse --shard-schedule="forward-prefetch=1 reductions=1" | FileCheck %s --check-prefix=SCHEDULE

// What the optimizer owns is cut over the replicas too; the part of a replica is a part of its shard. (Numbers: zero.mlir, entries.mlir.)
// CHECK:       shard.bucket @layers.0 "layers.0" f32 length 256 over {"dp_shard", "dp_replicate"}
// CHECK:       shard.state @"parameter/layers.0" "parameter" tensor<64xf32> of @layers.0 over {"dp_shard", "dp_replicate"}
// CHECK-LABEL: func.func @step

// A shard is gathered over its replicas once a step; both passes gather from it.
// CHECK:       %[[SHARD:.*]] = shard.all_gather %{{.*}} over {"dp_replicate"} {{.*}} "parameters of layers.0, from replicas", shard.overlap} : tensor<64xf32> -> tensor<128xf32>
// CHECK-NEXT:  shard.all_gather %[[SHARD]] over {"dp_shard"} {{.*}} "parameters of layers.0", shard.overlap} : tensor<128xf32> -> tensor<256xf32>
// CHECK:       shard.all_gather %[[SHARD]] over {"dp_shard"} {{.*}} "parameters of layers.0, backward", shard.overlap} : tensor<128xf32> -> tensor<256xf32>

// Gradients are scattered over the ranks of a replica, then over replicas: sums in the order of those that are not cut.
// CHECK:       %[[SUM:.*]] = shard.reduce_scatter {{.*}} over {"dp_shard"} {{.*}} "gradients of layers.0", shard.overlap} : tensor<256xf32> -> tensor<128xf32>
// CHECK-NEXT:  shard.reduce_scatter %[[SUM]] over {"dp_replicate"} {{.*}} "gradients of layers.0, replicas", shard.overlap} : tensor<128xf32> -> tensor<64xf32>
// CHECK:       %[[NORM:.*]] = shard.all_reduce %{{.*}} over {"dp_shard"} of @mesh sum {shard.origin = "norm of the gradient"} : tensor<1xf32>
// CHECK-NEXT:  shard.all_reduce %[[NORM]] over {"dp_replicate"} of @mesh sum {shard.origin = "norm of the gradient"} : tensor<1xf32>

// The gather over replicas is a unit ahead of the one among shards, and ends where that one starts.
// SCHEDULE-LABEL: exec.program @step
// SCHEDULE:       exec.collective start 0 "all_gather" {{.*}} "parameters of layers.0, from replicas"
// SCHEDULE-NEXT:  exec.wait 0
// SCHEDULE-NEXT:  exec.collective start 1 "all_gather" {{.*}} "parameters of layers.0"
// SCHEDULE-NEXT:  exec.collective start 2 "all_gather" {{.*}} "parameters of layers.1, from replicas"
// SCHEDULE-NEXT:  exec.wait 1
// SCHEDULE-NEXT:  exec.wait 2
// SCHEDULE-NEXT:  exec.collective start 3 "all_gather" {{.*}} "parameters of layers.1"
// SCHEDULE-NEXT:  exec.collective start 4 "all_gather" {{.*}} "parameters of head, from replicas"
// SCHEDULE:       exec.wait 3
// A reduction over replicas starts where the one among shards ends.
// SCHEDULE:       exec.collective start [[INNER:[0-9]+]] "reduce_scatter" {{.*}} "gradients of layers.1"
// SCHEDULE:       exec.wait [[INNER]]
// SCHEDULE-NEXT:  exec.collective start {{[0-9]+}} "reduce_scatter" {{.*}} "gradients of layers.1, replicas"
