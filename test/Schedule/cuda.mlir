// RUN: shard-opt %s --shard-fuse=target=cuda --shard-schedule="target=cuda workspace=4096" -o %t.mlir
// RUN: FileCheck %s < %t.mlir
// RUN: shard-opt %t.mlir | FileCheck %s

shard.mesh @mesh ["tp" = 2]

// What a kernel takes in on CPUs stands alone, so that it can join what follows.
// CHECK-LABEL: func.func private @kernel_0_einsum
// CHECK-SAME: exec.scratch = 0
// CHECK-LABEL: func.func private @kernel_1_silu

// Buffers at multiples of 256, weights as they are. Behind them is what commands use in turn: scratch memory, cuBLASLt's workspace, and a
// place for the gather along the last dimension, whose pieces NCCL cannot put where they belong; the other gather needs none.
// CHECK-LABEL: exec.program @main on @mesh arena 5376
// CHECK-SAME: cuda {scratch = array<i64: 1024, 0>, staging = array<i64: 5120, 256>, workspace = array<i64: 1024, 4096>}
// CHECK: exec.buffer input "x" at 256 size 96
// CHECK: exec.buffer parameter "w" at 0 size 256 {global = tensor<16x8xf32>, sharding = #shard.sharding<@mesh, [{"tp"}, {}]>, tensor = "w"}
// CHECK: exec.collective "all_gather" {{.*}} {inner = 8 : i64, outer = 3 : i64, total = 16 : i64}
// CHECK: exec.collective "all_gather" {{.*}} {inner = 24 : i64, outer = 1 : i64, total = 48 : i64}
func.func @main(%x: tensor<3x8xf32> {graph.name = "x"}) -> (tensor<3x16xf32> {graph.name = "y"}, tensor<6x8xf32> {graph.name = "z"}) {
  %w = graph.parameter "w" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>], graph.global_type = tensor<16x8xf32>} : tensor<8x8xf32>
  %h = graph.einsum "mk,nk->mn" %x, %w : tensor<3x8xf32>, tensor<8x8xf32> -> tensor<3x8xf32>
  %s = graph.silu %h : tensor<3x8xf32>
  %y = shard.all_gather %s over {"tp"} of @mesh dim 1 : tensor<3x8xf32> -> tensor<3x16xf32>
  %z = shard.all_gather %s over {"tp"} of @mesh dim 0 : tensor<3x8xf32> -> tensor<6x8xf32>
  return %y, %z : tensor<3x16xf32>, tensor<6x8xf32>
}
