// RUN: shard-opt %s --split-input-file --verify-diagnostics

// program_c1
exec.program @main arena 128 {
  // expected-error@+1 {{"x" is at 32, not a multiple of 64}}
  %x = exec.buffer input "x" at 32 size 64 : memref<16xf32>
}

// -----

// program_c1
exec.program @main arena 128 {
  // expected-error@+1 {{"x" [64, 192) is not inside the arena of 128 bytes}}
  %x = exec.buffer input "x" at 64 size 128 : memref<32xf32>
}

// -----

// program_c2
exec.program @main arena 128 {
  %w = exec.buffer parameter "w" at 0 size 128 : memref<32xf32>
  // expected-error@+1 {{"x" overlaps "w"}}
  %x = exec.buffer input "x" at 64 size 64 : memref<16xf32>
}

// -----

// program_c3: x is overwritten before its last use
exec.program @main arena 128 {
  %x = exec.buffer input "x" at 0 size 64 : memref<16xf32>
  %t = exec.buffer temporary "t" at 0 size 64 : memref<16xf32>
  %y = exec.buffer output "y" at 64 size 64 : memref<16xf32>
  exec.collective "copy" %x to %t {bytes = 64 : i64} : memref<16xf32> to memref<16xf32>
  // expected-error@+1 {{reads "x" [0, 64) after "t" [0, 64) was written there}}
  exec.collective "copy" %x to %y {bytes = 64 : i64} : memref<16xf32> to memref<16xf32>
}

// -----

// program_c3: what is computed once must last
exec.program @main arena 128 {
  %w = exec.buffer parameter "w" at 0 size 64 : memref<16xf32>
  // expected-error@+1 {{"once" is overwritten by "y"}}
  %once = exec.buffer temporary "once" at 64 size 64 : memref<16xf32>
  %y = exec.buffer output "y" at 64 size 64 : memref<16xf32>
  exec.collective init "copy" %w to %once {bytes = 64 : i64} : memref<16xf32> to memref<16xf32>
  exec.collective "copy" %once to %y {bytes = 64 : i64} : memref<16xf32> to memref<16xf32>
}

// -----

exec.program @main arena 128 {
  %w = exec.buffer parameter "w" at 0 size 64 : memref<16xf32>
  %x = exec.buffer input "x" at 64 size 64 : memref<16xf32>
  // expected-error@+1 {{writes "w", which is loaded}}
  exec.collective "copy" %x to %w {bytes = 64 : i64} : memref<16xf32> to memref<16xf32>
}

// -----

// launch_c1
exec.program @main arena 128 {
  %x = exec.buffer input "x" at 0 size 64 : memref<16xf32>
  // expected-error@+1 {{"k" is not a kernel}}
  exec.launch @k(%x) to () : (memref<16xf32>) -> ()
}

// -----

func.func private @k(%x: tensor<16xf32>) -> tensor<16xf32> attributes {exec.kernel} {
  return %x : tensor<16xf32>
}
exec.program @main arena 128 {
  %x = exec.buffer input "x" at 0 size 64 : memref<16xf32>
  // expected-error@+1 {{has 1 inputs and 0 outputs, kernel "k" has 1 and 1}}
  exec.launch @k(%x) to () : (memref<16xf32>) -> ()
}

// -----

// launch_c2
func.func private @k(%x: tensor<16xf32>) -> tensor<16xf32> attributes {exec.kernel} {
  return %x : tensor<16xf32>
}
exec.program @main arena 128 {
  %x = exec.buffer input "x" at 0 size 64 : memref<16xf32>
  %y = exec.buffer output "y" at 64 size 32 : memref<8xf32>
  // expected-error@+1 {{output "y" has 32 bytes, kernel "k" writes 64}}
  exec.launch @k(%x) to (%y) : (memref<16xf32>) -> memref<8xf32>
}

// -----

// collective_c1
exec.program @main arena 128 {
  %x = exec.buffer input "x" at 0 size 64 : memref<16xf32>
  %y = exec.buffer output "y" at 64 size 64 : memref<16xf32>
  // expected-error@+1 {{unknown operation "gossip"}}
  exec.collective "gossip" %x to %y {} : memref<16xf32> to memref<16xf32>
}

// -----

// collective_c2
exec.program @main arena 128 {
  %x = exec.buffer input "x" at 0 size 64 : memref<16xf32>
  %y = exec.buffer output "y" at 64 size 64 : memref<16xf32>
  // expected-error@+1 {{"all_reduce" needs axes}}
  exec.collective "all_reduce" %x to %y {} : memref<16xf32> to memref<16xf32>
}

// -----

// launch_c4: in place without the kernel's consent
func.func private @k(%x: tensor<4xf32>) -> tensor<4xf32> attributes {exec.kernel} {
  %y = graph.softmax %x dim 0 : tensor<4xf32>
  return %y : tensor<4xf32>
}
exec.program @main arena 64 {
  %x = exec.buffer state "x" at 0 size 16 : memref<4xf32>
  // expected-error@+1 {{writes output 0 over input 0, "x", which kernel "k" does not do in place}}
  exec.launch @k(%x) to(%x) : (memref<4xf32>) -> memref<4xf32>
}

// -----

// launch_c4: a kernel in place with a buffer for each: it would write over its input, and nothing to its output
func.func private @k(%x: tensor<4xf32>) -> tensor<4xf32> attributes {exec.kernel, exec.in_place = [array<i64: 0, 0>]} {
  %y = graph.neg %x : tensor<4xf32>
  return %y : tensor<4xf32>
}
exec.program @main arena 128 {
  %x = exec.buffer input "x" at 0 size 16 : memref<4xf32>
  %y = exec.buffer output "y" at 64 size 16 : memref<4xf32>
  // expected-error@+1 {{has output 0 in "y" and input 0 in "x", which kernel "k" expects in one buffer}}
  exec.launch @k(%x) to(%y) : (memref<4xf32>) -> memref<4xf32>
}
