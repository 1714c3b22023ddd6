// DEFINE: %{fsdp} = clip-norm=40.0
// DEFINE: %{build} = sed 's/MESH/"dp_shard" = 2/; s/BATCH/"dp_shard"/; s/TENSOR//' %S/Inputs/two-layers.mlir | shard-opt --shard-differentiate --canonicalize --cse --shard-propagate --shard-defer-gradient-sums --shard-partition --canonicalize --cse --shard-fsdp="optimizer=sgd %{fsdp}" --canonicalize --cse -o %t.mlir
// DEFINE: %{run} = %python %S/Inputs/train.py %t.mlir step --weights %S/Inputs/two-layers.json --input 'learning_rate=dense<0.125>' --input 'x=dense<[[1.0, 0.0], [0.0, 1.0], [1.0, -1.0], [-1.0, 0.0]]>'

// With a largest norm nothing is updated before all gradients are there. The factor is torch's: largest / (norm + 1e-6), but 1 at most.
// RUN: %{build}
// RUN: FileCheck %s --input-file %t.mlir
// CHECK-LABEL: @step
// CHECK:       shard.reduce_scatter {{.*}} "gradients of head"
// CHECK-NOT:   graph.sub
// CHECK:       shard.reduce_scatter {{.*}} "gradients of layers.1"
// CHECK-NOT:   graph.sub
// CHECK:       shard.reduce_scatter {{.*}} "gradients of layers.0"
// CHECK:       %[[NORM:.*]] = graph.div %{{.*}}, %{{.*}} : tensor<f32>
// CHECK:       %[[SUM:.*]] = graph.add %[[NORM]], %{{.*}}
// CHECK:       %[[RATIO:.*]] = graph.div %{{.*}}, %[[SUM]]
// CHECK:       graph.min %[[RATIO]], %{{.*}}
// CHECK-COUNT-3: graph.sub

// A norm of 159.11 becomes 40; the reported one is that before.
// RUN: %{run} | FileCheck %s --check-prefix=CLIPPED
// CLIPPED: step: grad_norm = 159.11
// CLIPPED: layers.0.up = {{\[\[}}1.37{{.*}}, -0.37{{.*}}], [0.0, 0.87

// What is below stays as it is, exactly.
// REDEFINE: %{fsdp} =
// RUN: %{build}
// RUN: %{run} > %t.free
// RUN: FileCheck %s --check-prefix=FREE < %t.free
// FREE: layers.0.up = {{\[\[}}2.5, -1.5], [0.0, 0.5]]
// REDEFINE: %{fsdp} = clip-norm=160.0
// RUN: %{build}
// RUN: %{run} | diff %t.free -
