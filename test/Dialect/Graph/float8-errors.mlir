// RUN: shard-opt %s --split-input-file --verify-diagnostics

func.func @cast_c1(%x: tensor<2xf32>) {
  // expected-error@+1 {{saturates, which is for casts to 8-bit floats, not to 'bf16'}}
  %0 = graph.cast %x {saturate} : tensor<2xf32> -> tensor<2xbf16>
  return
}

// -----

// There is no arithmetic on them.
func.func @arithmetic(%x: tensor<2xf8E5M2>) {
  // expected-error@+1 {{operand #0 must be static number tensor}}
  %0 = graph.add %x, %x : tensor<2xf8E5M2>
  return
}

// -----

func.func @einsum_c4(%x: tensor<2x3xf8E4M3FN>) {
  // expected-error@+1 {{result of 8-bit floats has element type 'bf16', expected 'f32'}}
  %0 = graph.einsum "mk,nk->mn" %x, %x : tensor<2x3xf8E4M3FN>, tensor<2x3xf8E4M3FN> -> tensor<2x2xbf16>
  return
}

// -----

func.func @einsum_c4_one(%x: tensor<2x3xf8E4M3FN>, %y: tensor<2x3xf32>) {
  // expected-error@+1 {{rhs has element type 'f32', expected 'f8E4M3FN'}}
  %0 = graph.einsum "mk,nk->mn" %x, %y : tensor<2x3xf8E4M3FN>, tensor<2x3xf32> -> tensor<2x2xf32>
  return
}

// -----

func.func @scaled_einsum_c1(%x: tensor<2x3xf8E4M3FN>, %y: tensor<4x5xf8E4M3FN>, %u: tensor<f32>) {
  // expected-error@+1 {{letter 'k' has size 3 and 5}}
  %0 = graph.scaled_einsum "mk,nk->mn" %x, %y scales %u, %u {gradient = f8E4M3FN} : tensor<2x3xf8E4M3FN>, tensor<4x5xf8E4M3FN>, tensor<f32>, tensor<f32> -> tensor<2x4xf32>
  return
}

// -----

func.func @scaled_einsum_c2(%x: tensor<2x3xf8E4M3FN>, %u: tensor<f32>, %v: tensor<2xf32>) {
  // expected-error@+1 {{scale of rhs has rank 1, expected 0}}
  %0 = graph.scaled_einsum "mk,nk->mn" %x, %x scales %u, %v {gradient = f8E4M3FN} : tensor<2x3xf8E4M3FN>, tensor<2x3xf8E4M3FN>, tensor<f32>, tensor<2xf32> -> tensor<2x2xf32>
  return
}

// -----

func.func @scaled_einsum_c3(%x: tensor<2x3xf8E4M3FN>, %u: tensor<f32>) {
  // expected-error@+1 {{gradient is of type 'bf16', expected an 8-bit float}}
  %0 = graph.scaled_einsum "mk,nk->mn" %x, %x scales %u, %u {gradient = bf16} : tensor<2x3xf8E4M3FN>, tensor<2x3xf8E4M3FN>, tensor<f32>, tensor<f32> -> tensor<2x2xf32>
  return
}
