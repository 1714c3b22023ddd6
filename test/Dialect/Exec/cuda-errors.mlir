// RUN: shard-opt %s --split-input-file --verify-diagnostics

// program_c1
exec.program @main arena 512 cuda {scratch = array<i64: 512, 0>, staging = array<i64: 512, 0>, workspace = array<i64: 512, 0>} {
  // expected-error@+1 {{"x" is at 64, not a multiple of 256}}
  %x = exec.buffer input "x" at 64 size 64 : memref<16xf32>
}

// -----

// program_c4
// expected-error@+1 {{range "workspace" at 256 of 512 bytes is not inside the arena of 512 bytes at a multiple of 256}}
exec.program @main arena 512 cuda {scratch = array<i64: 0, 0>, staging = array<i64: 0, 0>, workspace = array<i64: 256, 512>} {
}

// -----

// program_c4
// expected-error@+1 {{range "staging" [512, 768) overlaps range "scratch" [256, 768)}}
exec.program @main arena 1024 cuda {scratch = array<i64: 256, 512>, staging = array<i64: 512, 256>, workspace = array<i64: 0, 0>} {
}

// -----

// program_c4
exec.program @main arena 1024 cuda {scratch = array<i64: 512, 512>, staging = array<i64: 1024, 0>, workspace = array<i64: 1024, 0>} {
  // expected-error@+1 {{"x" [256, 640) overlaps range "scratch" [512, 1024)}}
  %x = exec.buffer input "x" at 256 size 384 : memref<96xf32>
}

// -----

// program_c5: too little
shard.mesh @mesh ["tp" = 4]
exec.program @main on @mesh arena 2048 cuda {scratch = array<i64: 1792, 0>, staging = array<i64: 1792, 256>, workspace = array<i64: 1792, 0>} {
  %x = exec.buffer input "x" at 0 size 192 : memref<8x6xf32>
  %y = exec.buffer output "y" at 256 size 768 : memref<8x24xf32>
  // expected-error@+1 {{"all_gather" needs 768 bytes of staging, there are 256}}
  exec.collective "all_gather" %x to %y over [#shard.axis<"tp">] {outer = 8 : i64, inner = 6 : i64, total = 24 : i64} : memref<8x6xf32> to memref<8x24xf32>
}

// -----

// program_c5: twice the pieces, each as large as what one rank sends to another
shard.mesh @mesh ["tp" = 2]
exec.program @main on @mesh arena 2048 cuda {scratch = array<i64: 1024, 0>, staging = array<i64: 1024, 256>, workspace = array<i64: 1024, 0>} {
  %x = exec.buffer input "x" at 0 size 96 : memref<8x3xf32>
  %y = exec.buffer output "y" at 256 size 128 : memref<16x2xf32>
  // expected-error@+1 {{"all_to_all" needs 512 bytes of staging, there are 256}}
  exec.collective "all_to_all" %x to %y over [#shard.axis<"tp">] {split_dim = 1 : i64, concat_dim = 0 : i64, split_total = 3 : i64, concat_total = 16 : i64} : memref<8x3xf32> to memref<16x2xf32>
}

// -----

// program_c5: left open
shard.mesh @mesh ["tp" = 2]
exec.program @main on @mesh arena 2048 cuda {scratch = array<i64: 1024, 0>, staging = array<i64: 1024, 256>, workspace = array<i64: 1024, 0>} {
  %x = exec.buffer input "x" at 0 size 96 : memref<8x3xf32>
  %y = exec.buffer output "y" at 256 size 192 : memref<8x6xf32>
  // expected-error@+1 {{"all_gather" goes through the staging range, but ticket 0 leaves it open}}
  exec.collective start 0 "all_gather" %x to %y over [#shard.axis<"tp">] {outer = 8 : i64, inner = 3 : i64, total = 6 : i64} : memref<8x3xf32> to memref<8x6xf32>
  exec.wait 0
}

// -----

// launch_c3
func.func private @k(%x: tensor<16xf32>) -> tensor<16xf32> attributes {exec.kernel, exec.scratch = 512 : i64} {
  return %x : tensor<16xf32>
}
exec.program @main arena 1024 cuda {scratch = array<i64: 768, 256>, staging = array<i64: 768, 0>, workspace = array<i64: 768, 0>} {
  %x = exec.buffer input "x" at 0 size 64 : memref<16xf32>
  %y = exec.buffer output "y" at 256 size 64 : memref<16xf32>
  // expected-error@+1 {{kernel "k" needs 512 bytes of scratch memory, there are 256}}
  exec.launch @k(%x) to(%y) : (memref<16xf32>) -> memref<16xf32>
}

// -----

// A mesh that is not there.
// expected-error@+1 {{mesh "mesh" does not exist}}
exec.program @main on @mesh arena 0 {
}

// -----

// program_c6
// expected-error@+1 {{range "host" at 1024 of 256 bytes does not begin where the arena of 512 bytes ends}}
exec.program @main arena 512 cuda {host = array<i64: 1024, 256>, scratch = array<i64: 512, 0>, staging = array<i64: 512, 0>, workspace = array<i64: 512, 0>} {
}

// -----

// program_c6
exec.program @main arena 512 cuda {host = array<i64: 512, 256>, scratch = array<i64: 512, 0>, staging = array<i64: 512, 0>, workspace = array<i64: 512, 0>} {
  // expected-error@+1 {{"m" [512, 1024) is not inside the host range [512, 768)}}
  %m = exec.buffer state "m" at 512 size 512 : memref<128xf32>
}

// -----

// program_c6: products read what is loaded
exec.program @main arena 512 cuda {host = array<i64: 512, 256>, scratch = array<i64: 512, 0>, staging = array<i64: 512, 0>, workspace = array<i64: 512, 0>} {
  // expected-error@+1 {{"w" is in the host range, and no state but parameter}}
  %w = exec.buffer parameter "w" at 512 size 256 {tensor = "w", global = tensor<64xf32>} : memref<64xf32>
}

// -----

// program_c6: NCCL is not given it
shard.mesh @mesh ["tp" = 2]
exec.program @main on @mesh arena 512 cuda {host = array<i64: 512, 256>, scratch = array<i64: 512, 0>, staging = array<i64: 512, 0>, workspace = array<i64: 512, 0>} {
  %m = exec.buffer state "m" at 512 size 256 : memref<64xf32>
  %y = exec.buffer output "y" at 0 size 256 : memref<64xf32>
  // expected-error@+1 {{"all_reduce" works on "m", which is in the machine's memory}}
  exec.collective "all_reduce" %m to %y over [#shard.axis<"tp">] {count = 64 : i64, reduce = "sum"} : memref<64xf32> to memref<64xf32>
}

// -----

// program_c6: a gather is, but not into it
shard.mesh @mesh ["tp" = 2]
exec.program @main on @mesh arena 768 cuda {host = array<i64: 768, 256>, scratch = array<i64: 768, 0>, staging = array<i64: 768, 0>, workspace = array<i64: 768, 0>} {
  %m = exec.buffer state "m" at 768 size 256 : memref<64xf32>
  %y = exec.buffer output "y" at 0 size 512 : memref<128xf32>
  %x = exec.buffer input "x" at 512 size 128 : memref<32xf32>
  exec.collective "all_gather" %m to %y over [#shard.axis<"tp">] {outer = 1 : i64, inner = 64 : i64, total = 128 : i64} : memref<64xf32> to memref<128xf32>
  // expected-error@+1 {{"all_gather" works on "m", which is in the machine's memory}}
  exec.collective "all_gather" %x to %m over [#shard.axis<"tp">] {outer = 1 : i64, inner = 32 : i64, total = 64 : i64} : memref<32xf32> to memref<64xf32>
}
