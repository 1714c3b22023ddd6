// RUN: shard-opt %s --split-input-file --verify-diagnostics

// What a collective fills is not there yet.
shard.mesh @mesh ["dp" = 2]
exec.program @main on @mesh arena 192 {
  %x = exec.buffer input "x" at 0 size 64 : memref<16xf32>
  %t = exec.buffer temporary "t" at 64 size 64 : memref<16xf32>
  %y = exec.buffer output "y" at 128 size 64 : memref<16xf32>
  exec.collective start 0 "all_reduce" %x to %t over [#shard.axis<"dp">] {count = 16 : i64, reduce = "sum"} : memref<16xf32> to memref<16xf32>
  // expected-error@+1 {{reads "t" before ticket 0, which fills "t", is waited for}}
  exec.collective "copy" %t to %y {bytes = 64 : i64} : memref<16xf32> to memref<16xf32>
  exec.wait 0
}

// -----

// What it reads may not change.
shard.mesh @mesh ["dp" = 2]
exec.program @main on @mesh arena 192 {
  %x = exec.buffer state "x" at 0 size 64 : memref<16xf32>
  %t = exec.buffer temporary "t" at 64 size 64 : memref<16xf32>
  %y = exec.buffer output "y" at 128 size 64 : memref<16xf32>
  exec.collective start 0 "all_reduce" %x to %t over [#shard.axis<"dp">] {count = 16 : i64, reduce = "sum"} : memref<16xf32> to memref<16xf32>
  // expected-error@+1 {{writes "x" before ticket 0, which uses "x", is waited for}}
  exec.collective "copy" %y to %x {bytes = 64 : i64} : memref<16xf32> to memref<16xf32>
  exec.wait 0
}

// -----

shard.mesh @mesh ["dp" = 2]
exec.program @main on @mesh arena 192 {
  %x = exec.buffer input "x" at 0 size 64 : memref<16xf32>
  %t = exec.buffer temporary "t" at 64 size 64 : memref<16xf32>
  %y = exec.buffer output "y" at 128 size 64 : memref<16xf32>
  exec.collective start 0 "all_reduce" %x to %t over [#shard.axis<"dp">] {count = 16 : i64, reduce = "sum"} : memref<16xf32> to memref<16xf32>
  // expected-error@+1 {{writes "t" before ticket 0, which uses "t", is waited for}}
  exec.zero %t : memref<16xf32>
  exec.wait 0
}

// -----

shard.mesh @mesh ["dp" = 2]
exec.program @main on @mesh arena 192 {
  %x = exec.buffer input "x" at 0 size 64 : memref<16xf32>
  %t = exec.buffer temporary "t" at 64 size 64 : memref<16xf32>
  %y = exec.buffer output "y" at 128 size 64 : memref<16xf32>
  exec.collective start 0 "all_reduce" %x to %t over [#shard.axis<"dp">] {count = 16 : i64, reduce = "sum"} : memref<16xf32> to memref<16xf32>
  // expected-error@+1 {{ticket 0 is under way already}}
  exec.collective start 0 "all_reduce" %x to %y over [#shard.axis<"dp">] {count = 16 : i64, reduce = "sum"} : memref<16xf32> to memref<16xf32>
  exec.wait 0
}

// -----

shard.mesh @mesh ["dp" = 2]
exec.program @main on @mesh arena 192 {
  %x = exec.buffer input "x" at 0 size 64 : memref<16xf32>
  %t = exec.buffer temporary "t" at 64 size 64 : memref<16xf32>
  %y = exec.buffer output "y" at 128 size 64 : memref<16xf32>
  // expected-error@+1 {{ticket 0 is not under way}}
  exec.wait 0
}

// -----

shard.mesh @mesh ["dp" = 2]
exec.program @main on @mesh arena 192 {
  %x = exec.buffer input "x" at 0 size 64 : memref<16xf32>
  %t = exec.buffer temporary "t" at 64 size 64 : memref<16xf32>
  %y = exec.buffer output "y" at 128 size 64 : memref<16xf32>
  // expected-error@+1 {{ticket 0 is never waited for}}
  exec.collective start 0 "all_reduce" %x to %t over [#shard.axis<"dp">] {count = 16 : i64, reduce = "sum"} : memref<16xf32> to memref<16xf32>
}

// -----

// Parts lie inside of their whole.
exec.program @main arena 128 {
  %whole = exec.buffer temporary "whole" at 0 size 64 : memref<16xf32>
  // expected-error@+1 {{"part" [64, 128) is not inside of "whole" [0, 64)}}
  %part = exec.buffer temporary "part" at 64 size 64 of 0 : memref<16xf32>
}

// -----

exec.program @main arena 128 {
  %whole = exec.buffer temporary "whole" at 0 size 128 : memref<32xf32>
  %part = exec.buffer temporary "part" at 0 size 64 of 0 : memref<16xf32>
  // expected-error@+1 {{"grandchild" is a part of buffer 1, which is no whole buffer}}
  %other = exec.buffer temporary "grandchild" at 0 size 64 of 1 : memref<16xf32>
}

// -----

exec.program @main arena 64 {
  %w = exec.buffer parameter "w" at 0 size 64 : memref<16xf32>
  // expected-error@+1 {{writes "w", which is loaded}}
  exec.zero %w : memref<16xf32>
}
