// DEFINE: %{fsdp} = clip-norm=1.0
// DEFINE: %{build} = sed 's/MESH/"dp_shard" = 2/; s/BATCH/"dp_shard"/; s/TENSOR//' %S/Inputs/two-layers.mlir | shard-opt --shard-differentiate --canonicalize --cse --shard-propagate --shard-defer-gradient-sums --shard-partition --canonicalize --cse --shard-fsdp="optimizer=sgd,momentum=0.5 check-for-nan-in-grad=true %{fsdp}" --canonicalize --cse

// Each rank counts in its own gradients, before they are packed and reduced; an update whose norm is not finite leaves states as they are.
// RUN: %{build} | FileCheck %s
// CHECK-LABEL: func.func @step
// CHECK-SAME:    -> ({{.*}}, tensor<384xf32> {graph.global_type = tensor<768xf32>, graph.name = "nonfinite_gradients", shard.sharding = #shard.sharding<@mesh, [{"dp_shard"}]>}
// CHECK-SAME:    attributes {shard.checked_gradients = ["layers.0.up", "layers.0.down", "layers.1.up", "layers.1.down", "norm", "head"]}
// CHECK-DAG:   %[[ONE:.*]] = graph.constant dense<1.000000e+00> : tensor<2x2xf32>
// CHECK-DAG:   %[[ZERO:.*]] = graph.constant dense<0.000000e+00> : tensor<2x2xf32>
// CHECK-DAG:   %[[LIMIT:.*]] = graph.constant dense<0x7F800000> : tensor<2x2xf32>
// CHECK:       %[[BACKWARD:.*]]:3 = call @layer_backward
// CHECK:       %[[SIZE:.*]] = graph.abs %[[BACKWARD]]#1
// CHECK-NEXT:  %[[FINITE:.*]] = graph.compare lt %[[SIZE]], %[[LIMIT]]
// CHECK-NEXT:  %[[BAD:.*]] = graph.select %[[FINITE]], %[[ZERO]], %[[ONE]]
// CHECK-NEXT:  %[[FLAT:.*]] = graph.reshape %[[BAD]]
// CHECK-NEXT:  %[[SUM:.*]] = graph.reduce sum %[[FLAT]] [0]
// CHECK-NEXT:  %[[UP:.*]] = graph.reshape %[[SUM]] : tensor<f32> -> tensor<1xf32>
// CHECK:       %[[NORM:.*]] = graph.div
// CHECK:       %[[SIZE:.*]] = graph.abs %[[NORM]]
// CHECK:       %[[GOOD:.*]] = graph.compare lt %[[SIZE]], %{{.*}} : tensor<f32>
// CHECK:       %[[ALL:.*]] = graph.broadcast %[[GOOD]] [] : tensor<i1> -> tensor<64xi1>
// CHECK:       graph.select %[[ALL]], %{{.*}}, %arg{{.*}} : tensor<64xi1>, tensor<64xf32>
// CHECK:       %[[COUNTS:.*]] = shard.bucket_pack {{.*}}%[[UP]], {{.*}} at [0, 64, 128, 192, 256, 320]
// CHECK:       return {{.*}}%[[COUNTS]],

// The norm decides: without clipping buckets wait for it too.
// REDEFINE: %{fsdp} = clip-norm=0.0
// RUN: %{build} | FileCheck %s --check-prefix=UNCLIPPED
// UNCLIPPED-LABEL: func.func @step
// UNCLIPPED:       graph.broadcast %{{.*}} [] : tensor<i1> -> tensor<64xi1>
// UNCLIPPED-NOT:   shard.reduce_scatter
// UNCLIPPED:       return

// With entries of their own the micro-batch's gradients are counted; the update looks at the norm.
// REDEFINE: %{fsdp} = clip-norm=1.0 separate-entries=true
// RUN: %{build} | FileCheck %s --check-prefix=ENTRIES
// ENTRIES-LABEL: func.func @forward_backward
// ENTRIES-SAME:    graph.name = "nonfinite_gradients"
// ENTRIES-LABEL: func.func @optimizer_step
// ENTRIES-NOT:     graph.name = "nonfinite_gradients"
// ENTRIES:         graph.select
