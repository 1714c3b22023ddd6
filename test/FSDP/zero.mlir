// Steps on one device and on others, under every strategy: the same losses, norms and weights.

// DEFINE: %{mesh} = "dp_shard" = 1
// DEFINE: %{batch} = "dp_shard"
// DEFINE: %{tensor} =
// DEFINE: %{differentiate} = checkpoint=none
// DEFINE: %{fsdp} = zero=0
// DEFINE: %{steps} = step step
// DEFINE: %{second} = 0.0
// DEFINE: %{build} = sed 's/MESH/%{mesh}/; s/BATCH/%{batch}/; s/TENSOR/%{tensor}/' %S/Inputs/two-layers.mlir | shard-opt --shard-differentiate="%{differentiate}" --canonicalize --cse --shard-propagate --shard-defer-gradient-sums --shard-partition --canonicalize --cse --shard-fsdp="optimizer=sgd,momentum=0.5 %{fsdp}" --canonicalize --cse --shard-verify-partitioned -o %t.mlir
// DEFINE: %{run} = %python %S/Inputs/train.py %t.mlir %{steps} --weights %S/Inputs/two-layers.json --input 'learning_rate=dense<0.0078125>' --input 'x=dense<[[1.0, 0.0], [0.0, 1.0], [1.0, -1.0], [-1.0, 0.0]]>' --input 'x=dense<%{second}>'

// One device. The second batch is zero: momentum goes on alone. Expected values by numpy; nothing is rounded.
// RUN: %{build}
// RUN: %{run} > %t.one
// RUN: FileCheck %s < %t.one
// CHECK:      step: loss = 50
// CHECK-NEXT: step: tokens = 1
// CHECK-NEXT: step: grad_norm = 159.11
// CHECK-NEXT: step: loss = 0
// CHECK-NEXT: step: tokens = 1
// CHECK-NEXT: step: grad_norm = 0
// CHECK-NEXT: layers.0.up = {{\[\[}}1.140625, -0.140625], [0.0, 0.953125]]
// CHECK-NEXT: layers.0.down = {{\[\[}}0.3671875, 0.046875], [1.7734375, 0.953125]]
// CHECK-NEXT: layers.1.up = {{\[\[}}-0.140625, 1.0234375], [0.15625, -1.140625]]
// CHECK-NEXT: layers.1.down = {{\[\[}}1.0234375, -0.3515625], [-0.046875, -0.296875]]
// CHECK-NEXT: norm = [0.578125, -0.25]
// CHECK-NEXT: head = [0.578125, 1.625]

// Other meshes: sharded, replicated, both, with an axis of size 1, one sequence each.
// REDEFINE: %{fsdp} = zero=3
// RUN: %{build}
// RUN: %{run} | diff %t.one -
// REDEFINE: %{mesh} = "dp_shard" = 2
// RUN: %{build}
// RUN: %{run} | diff %t.one -
// REDEFINE: %{mesh} = "dp_shard" = 4
// RUN: %{build}
// RUN: %{run} | diff %t.one -
// REDEFINE: %{mesh} = "dp_replicate" = 2
// REDEFINE: %{batch} = "dp_replicate"
// RUN: %{build}
// RUN: %{run} | diff %t.one -
// REDEFINE: %{mesh} = "dp_replicate" = 1, "dp_shard" = 2
// REDEFINE: %{batch} = "dp_replicate", "dp_shard"
// RUN: %{build}
// RUN: %{run} | diff %t.one -
// REDEFINE: %{mesh} = "dp_replicate" = 2, "dp_shard" = 2
// RUN: %{build}
// RUN: %{run} | diff %t.one -
// Nothing is cut: gradients are the same everywhere, and counted once.
// REDEFINE: %{batch} =
// RUN: %{build}
// RUN: %{run} | diff %t.one -
// Fewer sequences than ranks: padding has no gradient.
// REDEFINE: %{mesh} = "dp_shard" = 3
// REDEFINE: %{batch} = "dp_shard"
// RUN: %{build}
// RUN: %{run} | diff %t.one -

// Tensor parallelism beside it: even, with parts of which one is nothing but padding, and over a part of its axis (two pairs hold the same).
// REDEFINE: %{mesh} = "dp_shard" = 2, "tp" = 2
// REDEFINE: %{tensor} = "tp"
// RUN: %{build}
// RUN: %{run} | diff %t.one -
// REDEFINE: %{mesh} = "dp_shard" = 2, "tp" = 3
// RUN: %{build}
// RUN: %{run} | diff %t.one -
// REDEFINE: %{mesh} = "dp_shard" = 2, "tp" = 4
// REDEFINE: %{tensor} = "tp":(2)2
// RUN: %{build}
// RUN: %{run} | diff %t.one -

// Strategies on one mesh, with numbers that are rounded: sums are made in one order, and nothing differs in any bit. The compute copies
// of ZeRO 1 and 2 are made by `gather`, then by every step.
// REDEFINE: %{mesh} = "dp_replicate" = 2, "dp_shard" = 2
// REDEFINE: %{batch} = "dp_replicate", "dp_shard"
// REDEFINE: %{tensor} =
// REDEFINE: %{steps} = step step step
// REDEFINE: %{second} = [[0.3, 0.1], [0.7, -0.4], [0.2, 0.9], [-0.6, 0.1]]
// RUN: %{build}
// RUN: %{run} > %t.three
// RUN: not diff %t.one %t.three
// REDEFINE: %{fsdp} = zero=0
// RUN: %{build}
// RUN: %{run} | diff %t.three -
// REDEFINE: %{fsdp} = zero=3 reshard=true
// RUN: %{build}
// RUN: %{run} | diff %t.three -
// REDEFINE: %{fsdp} = zero=3 reshard=false
// RUN: %{build}
// RUN: %{run} | diff %t.three -
// REDEFINE: %{differentiate} = checkpoint=full
// RUN: %{build}
// RUN: %{run} | diff %t.three -
// REDEFINE: %{fsdp} = zero=3 outer=optim
// RUN: %{build}
// RUN: %{run} | diff %t.three -
// REDEFINE: %{differentiate} = checkpoint=selective
// REDEFINE: %{steps} = gather step step step
// REDEFINE: %{fsdp} = zero=1
// RUN: %{build}
// RUN: %{run} | diff %t.three -
// REDEFINE: %{fsdp} = zero=2
// RUN: %{build}
// RUN: %{run} | diff %t.three -
