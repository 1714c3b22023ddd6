// DEFINE: %{reshard} =
// DEFINE: %{build} = sed 's/MESH/"dp_shard" = 4/; s/BATCH/"dp_shard"/; s/TENSOR//' %S/Inputs/two-layers.mlir | shard-opt --shard-differentiate --canonicalize --cse --shard-propagate --shard-defer-gradient-sums --shard-partition --canonicalize --cse --shard-fsdp="%{reshard}" --canonicalize --cse -o %t.mlir
// DEFINE: %{check} = FileCheck %s --input-file %t.mlir --check-prefixes
// DEFINE: %{run} = %python %S/Inputs/train.py %t.mlir step step --weights %S/Inputs/two-layers.json --input 'learning_rate=dense<0.125>' --input 'bias_correction1=dense<0.1>' --input 'bias_correction2=dense<0.05>' --input 'x=dense<[[1.0, 0.0], [0.0, 1.0], [1.0, -1.0], [-1.0, 0.0]]>'

// When a layer's parameters are whole. By default they are dropped behind the forward pass and gathered again, but for the last layer of
// the list: its backward pass comes at once. Head and embedding stay.
// RUN: %{build}
// RUN: %{check} DEFAULT
// RUN: %{run} > %t.default
// DEFAULT-LABEL: @step
// DEFAULT-DAG:   {shard.origin = "parameters of layers.0", shard.overlap}
// DEFAULT-DAG:   {shard.origin = "parameters of layers.1", shard.overlap}
// DEFAULT-DAG:   {shard.origin = "parameters of head", shard.overlap}
// DEFAULT-NOT:   "parameters of {{layers.1|head}}, backward"
// DEFAULT:       {shard.backward, shard.origin = "parameters of layers.0, backward", shard.overlap}
// DEFAULT-NOT:   "parameters of {{layers.1|head}}, backward"

// REDEFINE: %{reshard} = reshard=true
// RUN: %{build}
// RUN: %{check} ALWAYS
// RUN: %{run} | diff %t.default -
// ALWAYS-LABEL:  @step
// ALWAYS:        "parameters of layers.1, backward"
// ALWAYS:        "parameters of layers.0, backward"

// REDEFINE: %{reshard} = reshard=false
// RUN: %{build}
// RUN: %{check} NEVER
// RUN: %{run} | diff %t.default -
// NEVER-LABEL:   @step
// NEVER-NOT:     backward", shard.overlap

// A number: between the passes a copy is kept that is cut over neighbours, among whom it is gathered again.
// REDEFINE: %{reshard} = reshard=2
// RUN: %{build}
// RUN: %{check} GROUPS
// RUN: %{run} | diff %t.default -
// GROUPS-LABEL:  @step
// GROUPS:        %[[WHOLE:.*]] = shard.all_gather {{.*}} over {"dp_shard"} {{.*}} "parameters of layers.0"
// GROUPS:        call @layer_forward
// GROUPS-NEXT:   %[[KEPT:.*]] = shard.slice %[[WHOLE]] over {"dp_shard":(2)2} of @mesh dim 0 {shard.origin = "reshard_after_forward of layers.0"} : tensor<256xf32> -> tensor<128xf32>
// GROUPS:        %[[AGAIN:.*]] = shard.all_gather %[[KEPT]] over {"dp_shard":(2)2} of @mesh dim 0 {shard.backward, shard.origin = "parameters of layers.0, backward", shard.overlap} : tensor<128xf32> -> tensor<256xf32>
// GROUPS:        shard.bucket_view %[[AGAIN]]

// Groups of one keep everything, groups of all nothing.
// REDEFINE: %{reshard} = reshard=1
// RUN: %{build}
// RUN: %{check} NEVER
// REDEFINE: %{reshard} = reshard=4
// RUN: %{build}
// RUN: %{check} ALWAYS
