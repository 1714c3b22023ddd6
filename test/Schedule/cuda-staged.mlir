// RUN: shard-opt %s --shard-fuse=target=cpu --shard-schedule=target=cpu | FileCheck %s --check-prefix=CPU
// RUN: shard-opt %s --shard-fuse=target=cuda --shard-schedule=target=cuda | FileCheck %s

shard.mesh @mesh ["dp" = 2]

// On GPUs what goes through the staging range completes where it stands, even if it was asked to overlap.
// CPU-LABEL: exec.program @main
// CPU: exec.collective start 0 "all_gather"
// CPU: exec.wait 0
// CHECK-LABEL: exec.program @main
// CHECK-NOT: start
// CHECK: exec.collective "all_gather" {{.*}} {inner = 8 : i64, outer = 4 : i64, total = 16 : i64}
// CHECK-NOT: exec.wait
func.func @main(%x: tensor<4x8xf32> {graph.name = "x"}, %p: tensor<4x8xf32> {graph.name = "p"}) -> (tensor<4x16xf32> {graph.name = "y"}) {
  %a = graph.exp %x : tensor<4x8xf32>
  %y = shard.all_gather %p over {"dp"} of @mesh dim 1 {shard.overlap} : tensor<4x8xf32> -> tensor<4x16xf32>
  %b = graph.concat %a, %a dim 1 : tensor<4x8xf32>, tensor<4x8xf32> -> tensor<4x16xf32>
  %c = graph.add %b, %y : tensor<4x16xf32>
  return %c : tensor<4x16xf32>
}
