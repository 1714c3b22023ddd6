// DEFINE: %{mesh} = "dp_shard" = 2
// DEFINE: %{batch} = "dp_shard"
// DEFINE: %{fsdp} = zero=3
// DEFINE: %{entries} = zero_grad forward_backward forward_backward finish_grad_sync optimizer_step
// DEFINE: %{build} = sed 's/MESH/%{mesh}/; s/BATCH/%{batch}/; s/TENSOR//' %S/Inputs/two-layers.mlir | shard-opt --shard-differentiate --canonicalize --cse --shard-propagate --shard-defer-gradient-sums --shard-partition --canonicalize --cse --shard-fsdp="optimizer=sgd,momentum=0.5 separate-entries %{fsdp}" --canonicalize --cse -o %t.mlir
// DEFINE: %{run} = %python %S/Inputs/train.py %t.mlir %{entries} --weights %S/Inputs/two-layers.json --input 'learning_rate=dense<0.125>' --input 'x=dense<[[1.0, 0.0], [0.0, 1.0], [1.0, -1.0], [-1.0, 0.0]]>' --input 'x=dense<[[0.0, 1.0], [-1.0, 0.0], [-1.0, 0.0], [1.0, -1.0]]>'

// Entries of their own, so that gradients of several batches add up. Deferred, they stay whole and unreduced until the last one.
// RUN: %{build}
// RUN: FileCheck %s --input-file %t.mlir
// CHECK-DAG:   shard.state @"parameter/layers.0" "parameter" tensor<64xf32> of @layers.0 over {"dp_shard"}
// CHECK-DAG:   shard.state @"gradient/layers.0" "gradient" tensor<128xf32> of @layers.0
// CHECK-DAG:   shard.state @"gradient/tokens" "gradient" tensor<f32>
// CHECK-DAG:   shard.state @"gradient/reduced/layers.0" "gradient" tensor<64xf32> of @layers.0 over {"dp_shard"}
// CHECK-DAG:   shard.state @"momentum/layers.0" "momentum" tensor<64xf32> of @layers.0 over {"dp_shard"}

// Adds the gradients of a batch to the states, each of which holds another term of the sum on every rank.
// CHECK-LABEL: func.func @forward_backward(
// CHECK-SAME:    tensor<128xf32> {graph.global_type = tensor<256xf32>, shard.sharding = #shard.sharding<@mesh, [{"dp_shard"}]>, shard.state = "gradient/head"}
// CHECK-NOT:     shard.reduce_scatter
// CHECK:         %[[V:.*]] = shard.bucket_view %arg{{.*}} at 0 : tensor<128xf32>
// CHECK:         %[[G:.*]] = graph.add %[[V]], %{{.*}}
// CHECK:         shard.bucket_pack {{.*}}%[[G]]
// CHECK-NOT:     shard.reduce_scatter
// CHECK-LABEL: func.func @finish_grad_sync(
// CHECK-COUNT-3: shard.reduce_scatter {{.*}} : tensor<128xf32> -> tensor<64xf32>
// CHECK-NOT:     shard.reduce_scatter
// CHECK-LABEL: func.func @optimizer_step(
// CHECK:         shard.all_reduce {{.*}} "norm of the gradient"
// CHECK:         graph.sub
// CHECK-LABEL: func.func @zero_grad(
// CHECK:         return %[[Z:.*]], %[[Z]], %[[Z]], %{{.*}} : tensor<128xf32>, tensor<128xf32>, tensor<128xf32>, tensor<f32>

// Two batches. Their gradients, by numpy, are added and divided by the tokens of both.
// RUN: %{run} > %t.two
// RUN: FileCheck %s --check-prefix=TWO < %t.two
// TWO:      forward_backward: loss = 50
// TWO-NEXT: forward_backward: tokens = 1
// TWO-NEXT: forward_backward: loss = 42
// TWO-NEXT: forward_backward: tokens = 1
// TWO-NEXT: optimizer_step: grad_norm = 140.588
// TWO-NEXT: layers.0.up = {{\[\[}}2.5, -1.5], [0.0, 0.5]]
// TWO-NEXT: layers.0.down = {{\[\[}}-4.625, 0.5], [8.125, 0.5]]
// TWO-NEXT: layers.1.up = {{\[\[}}-0.75, 1.625], [-6.5, -1.75]]
// TWO-NEXT: layers.1.down = {{\[\[}}1.625, -3.375], [-1.25, 5.75]]
// TWO-NEXT: norm = [-2.5, 7.0]
// TWO-NEXT: head = [-2.5, -2.0]

// Reduced after every batch instead, with other strategies, with replicas, on one device: the same.
// REDEFINE: %{fsdp} = zero=3 defer-grad-sync=false
// RUN: %{build}
// RUN: FileCheck %s --input-file %t.mlir --check-prefix=AT-ONCE
// AT-ONCE-NOT:   gradient/reduced
// AT-ONCE-LABEL: func.func @forward_backward(
// AT-ONCE:         %[[G:.*]] = shard.reduce_scatter {{.*}} : tensor<128xf32> -> tensor<64xf32>
// AT-ONCE-NEXT:    graph.add %arg{{.*}}, %[[G]] : tensor<64xf32>
// AT-ONCE-LABEL: func.func @finish_grad_sync(
// AT-ONCE-NEXT:    return
// RUN: %{run} | diff %t.two -
// REDEFINE: %{fsdp} = zero=0
// RUN: %{build}
// RUN: %{run} | diff %t.two -
// REDEFINE: %{mesh} = "dp_replicate" = 2, "dp_shard" = 2
// REDEFINE: %{batch} = "dp_replicate", "dp_shard"
// RUN: %{build}
// RUN: %{run} | diff %t.two -
// The sum over replicas waits for the last batch in any case.
// REDEFINE: %{fsdp} = zero=3 defer-grad-sync=false
// RUN: %{build}
// RUN: FileCheck %s --input-file %t.mlir --check-prefix=REPLICAS
// REPLICAS-LABEL: func.func @forward_backward(
// REPLICAS-NOT:     "gradients of {{.*}}, replicas"
// REPLICAS-LABEL: func.func @finish_grad_sync(
// REPLICAS-COUNT-3: "gradients of {{.*}}, replicas"
// RUN: %{run} | diff %t.two -
// Replicas share what the optimizer owns: a state more than the gradients that are still to be summed over them, and shards of the parameters that
// all micro-batches gather from.
// REDEFINE: %{fsdp} = zero=3 defer-grad-sync=false outer=optim
// REDEFINE: %{entries} = gather zero_grad forward_backward forward_backward finish_grad_sync optimizer_step
// RUN: %{build}
// RUN: FileCheck %s --input-file %t.mlir --check-prefix=OUTER
// OUTER-DAG:   shard.state @"parameter/layers.0" "parameter" tensor<64xf32> of @layers.0 over {"dp_shard", "dp_replicate"}
// OUTER-DAG:   shard.state @"compute_parameter/layers.0" "compute_parameter" tensor<128xf32> of @layers.0 over {"dp_shard"}
// OUTER-DAG:   shard.state @"gradient/layers.0" "gradient" tensor<128xf32> of @layers.0 over {"dp_shard"}
// OUTER-DAG:   shard.state @"gradient/reduced/layers.0" "gradient" tensor<64xf32> of @layers.0 over {"dp_shard", "dp_replicate"}
// OUTER-LABEL: func.func @forward_backward(
// OUTER-NOT:     over {"dp_replicate"}
// OUTER-LABEL: func.func @finish_grad_sync(
// OUTER-COUNT-3: shard.reduce_scatter {{.*}} over {"dp_replicate"} {{.*}} tensor<128xf32> -> tensor<64xf32>
// OUTER-LABEL: func.func @optimizer_step(
// OUTER-COUNT-3: shard.all_gather {{.*}} over {"dp_replicate"} {{.*}} tensor<64xf32> -> tensor<128xf32>
// OUTER-LABEL: func.func @gather(
// RUN: %{run} | diff %t.two -
// REDEFINE: %{fsdp} = zero=3 outer=optim
// RUN: %{build}
// RUN: %{run} | diff %t.two -
// REDEFINE: %{fsdp} = zero=3 defer-grad-sync=false
// REDEFINE: %{entries} = zero_grad forward_backward forward_backward finish_grad_sync optimizer_step
// REDEFINE: %{mesh} = "dp_shard" = 1
// REDEFINE: %{batch} = "dp_shard"
// RUN: %{build}
// RUN: %{run} | diff %t.two -
// Whole parameters are gathered once for all, and by every optimizer step.
// REDEFINE: %{mesh} = "dp_shard" = 4
// REDEFINE: %{fsdp} = zero=2
// REDEFINE: %{entries} = gather zero_grad forward_backward forward_backward finish_grad_sync optimizer_step
// RUN: %{build}
// RUN: FileCheck %s --input-file %t.mlir --check-prefix=GATHER
// GATHER:       shard.state @"compute_parameter/layers.0" "compute_parameter" tensor<256xf32> of @layers.0
// GATHER-LABEL: func.func @forward_backward(
// GATHER-NOT:     "parameters of
// GATHER-LABEL: func.func @optimizer_step(
// GATHER-COUNT-3: "updated parameters of
// GATHER-LABEL: func.func @gather(
// GATHER-COUNT-3: shard.all_gather
// RUN: %{run} | diff %t.two -
