// RUN: shard-opt %s | shard-opt | FileCheck %s

func.func private @k(%x: tensor<16xf32>) -> tensor<16xf32> attributes {exec.kernel} {
  %0 = graph.exp %x : tensor<16xf32>
  return %0 : tensor<16xf32>
}
shard.mesh @mesh ["tp" = 2]
// CHECK-LABEL: exec.program @main on @mesh arena 192
exec.program @main on @mesh arena 192 {
  // CHECK: %[[X:.*]] = exec.buffer input "x" at 0 size 64 {global = tensor<16xf32>} : memref<16xf32>
  %x = exec.buffer input "x" at 0 size 64 {global = tensor<16xf32>} : memref<16xf32>
  %t = exec.buffer temporary "t" at 64 size 64 : memref<16xf32>
  // A buffer may lie where one was that is not needed any more.
  %u = exec.buffer temporary "u" at 0 size 64 : memref<16xf32>
  %y = exec.buffer output "y" at 128 size 64 : memref<16xf32>
  // CHECK: exec.launch @k(%[[X]]) to(%{{.*}}) layer 3 : (memref<16xf32>) -> memref<16xf32>
  exec.launch @k(%x) to (%t) layer 3 : (memref<16xf32>) -> memref<16xf32>
  // CHECK: exec.collective "all_reduce" %{{.*}} to %{{.*}} over [#shard.axis<"tp">] {count = 16 : i64, reduce = "sum"} because "plan" : memref<16xf32> to memref<16xf32>
  exec.collective "all_reduce" %t to %u over [#shard.axis<"tp">] {count = 16 : i64, reduce = "sum"} because "plan" : memref<16xf32> to memref<16xf32>
  // CHECK: exec.collective "copy"
  exec.collective "copy" %u to %y {bytes = 64 : i64} : memref<16xf32> to memref<16xf32>
}
