// RUN: shard-opt %s | shard-opt | FileCheck %s

// Buffers that are parts of others, zeros, and collectives that run beside other commands.

shard.mesh @mesh ["dp" = 2]
// CHECK-LABEL: exec.program @main
exec.program @main on @mesh arena 256 {
  %x = exec.buffer input "x" at 0 size 64 : memref<16xf32>
  %bucket = exec.buffer temporary "bucket" at 64 size 128 : memref<32xf32>
  // CHECK: exec.buffer temporary "first" at 64 size 64 of 1 : memref<16xf32>
  %first = exec.buffer temporary "first" at 64 size 64 of 1 : memref<16xf32>
  %second = exec.buffer temporary "second" at 128 size 64 of 1 : memref<16xf32>
  %y = exec.buffer output "y" at 192 size 64 : memref<16xf32>
  // CHECK: exec.zero %{{.*}} : memref<32xf32>
  exec.zero %bucket : memref<32xf32>
  // CHECK: exec.collective start 7 "all_reduce"
  exec.collective start 7 "all_reduce" %x to %second over [#shard.axis<"dp">] {count = 16 : i64, reduce = "sum"} : memref<16xf32> to memref<16xf32>
  // Another part of the bucket may be used meanwhile.
  exec.collective "copy" %first to %y {bytes = 64 : i64} : memref<16xf32> to memref<16xf32>
  // CHECK: exec.wait 7
  exec.wait 7
  exec.collective "copy" %second to %y {bytes = 64 : i64} : memref<16xf32> to memref<16xf32>
}
