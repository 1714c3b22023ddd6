// RUN: shard-opt %s --split-input-file --verify-diagnostics

func.func @parameter_c1() {
  // expected-error@+1 {{segment [2, 6) lies outside the whole of 5}}
  %0 = graph.parameter "w" segment [0, 2, 4] of 5 : tensor<4x2xf32>
  return
}

// -----

func.func @parameter_c2() {
  // expected-error@+1 {{value has type 'tensor<2xf32>', expected 'tensor<4xf32>'}}
  %0 = graph.parameter "w" {value = dense<1.0> : tensor<2xf32>} : tensor<4xf32>
  return
}

// -----

func.func @parameter_global_type() {
  // expected-error@+1 {{global type tensor<4x2xf32> does not fit the result type 'tensor<4xf32>'}}
  %0 = graph.parameter "w" {graph.global_type = tensor<4x2xf32>} : tensor<4xf32>
  return
}

// -----

func.func @reshape_count(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{input has 6 elements, result has 8}}
  %0 = graph.reshape %x : tensor<2x3xf32> -> tensor<8xf32>
  return
}

// -----

func.func @transpose_repeats(%x: tensor<2x2xf32>) {
  // expected-error@+1 {{permutation names dimension 1 twice}}
  %0 = graph.transpose %x [1, 1] : tensor<2x2xf32> -> tensor<2x2xf32>
  return
}

// -----

func.func @broadcast_order(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{dims are not increasing: 1 before 0}}
  %0 = graph.broadcast %x [1, 0] : tensor<2x3xf32> -> tensor<3x2xf32>
  return
}

// -----

func.func @broadcast_size(%x: tensor<2xf32>) {
  // expected-error@+1 {{input dimension 0 of size 2 cannot become result dimension 0 of size 4}}
  %0 = graph.broadcast %x [0] : tensor<2xf32> -> tensor<4xf32>
  return
}

// -----

func.func @slice_end(%x: tensor<5xf32>) {
  // expected-error@+1 {{last element 5 of dimension 0 lies outside its size 5}}
  %0 = graph.slice %x [1] step [2] : tensor<5xf32> -> tensor<3xf32>
  return
}

// -----

func.func @pad_type(%x: tensor<2xf32>) {
  // expected-error@+1 {{padding has type 'f64', expected 'f32'}}
  %0 = graph.pad %x low [1] high [0] with 0.0 : f64 : tensor<2xf32> -> tensor<3xf32>
  return
}

// -----

func.func @concat_sizes(%x: tensor<2x3xf32>, %y: tensor<2x4xf32>) {
  // expected-error@+1 {{input dimension 1 has size 4, expected 3}}
  %0 = graph.concat %x, %y dim 0 : tensor<2x3xf32>, tensor<2x4xf32> -> tensor<4x3xf32>
  return
}

// -----

func.func @gather_shape(%x: tensor<4x3xf32>, %i: tensor<2xi64>) {
  // expected-error@+1 {{result has shape [2, 4], expected [2, 3]}}
  %0 = graph.gather %x, %i axis 0 : tensor<4x3xf32>, tensor<2xi64> -> tensor<2x4xf32>
  return
}

// -----

func.func @scatter_nd_updates(%x: tensor<4x3xf32>, %i: tensor<2x1xi64>, %u: tensor<2xf32>) {
  // expected-error@+1 {{updates has shape [2], expected [2, 3]}}
  %0 = graph.scatter_nd sum %x, %i, %u : tensor<4x3xf32>, tensor<2x1xi64>, tensor<2xf32>
  return
}

// -----

func.func @scatter_sum_c1(%u: tensor<2x3xf32>, %i: tensor<2x2xi64>) {
  // expected-error@+1 {{updates has shape [2, 3], expected [2, 2, 3]}}
  %0 = graph.scatter_sum %u at %i axis 0 : tensor<2x3xf32>, tensor<2x2xi64> -> tensor<4x3xf32>
  return
}

// -----

func.func @einsum_c1(%x: tensor<2x2xf32>) {
  // expected-error@+1 {{letter 'a' stands twice in "aa"}}
  %0 = graph.einsum "aa,ab->b" %x, %x : tensor<2x2xf32>, tensor<2x2xf32> -> tensor<2xf32>
  return
}

// -----

func.func @einsum_c2(%x: tensor<2x3xf32>, %y: tensor<4x5xf32>) {
  // expected-error@+1 {{letter 'k' has size 3 and 4}}
  %0 = graph.einsum "mk,kn->mn" %x, %y : tensor<2x3xf32>, tensor<4x5xf32> -> tensor<2x5xf32>
  return
}

// -----

func.func @einsum_c3(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{letter 'z' of the result is in no operand}}
  %0 = graph.einsum "mk,nk->mz" %x, %x : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x2xf32>
  return
}

// -----

func.func @einsum_c4(%x: tensor<2x3xf32>, %y: tensor<3x2xf16>) {
  // expected-error@+1 {{rhs has element type 'f16', expected 'f32'}}
  %0 = graph.einsum "mk,kn->mn" %x, %y : tensor<2x3xf32>, tensor<3x2xf16> -> tensor<2x2xf32>
  return
}

// -----

func.func @conv_group(%x: tensor<1x3x5xf32>, %w: tensor<4x1x3xf32>) {
  // expected-error@+1 {{group 2 does not divide 3 input and 4 output channels}}
  %0 = graph.conv %x, %w {strides = array<i64: 1>, padLow = array<i64: 0>, padHigh = array<i64: 0>, dilations = array<i64: 1>, group = 2 : i64} : tensor<1x3x5xf32>, tensor<4x1x3xf32> -> tensor<1x4x3xf32>
  return
}

// -----

func.func @topk_size(%x: tensor<4xf32>) {
  // expected-error@+1 {{k 5 exceeds the size 4 of dimension 0}}
  %0, %1 = graph.topk %x dim 0 largest true : tensor<4xf32> -> tensor<5xf32>, tensor<5xi64>
  return
}

// -----

func.func @norm_dims(%x: tensor<2x4xf32>) {
  // expected-error@+1 {{normDims 3 does not fit rank 2}}
  %0 = graph.rms_norm %x epsilon 1.0e-5 {normDims = 3 : i64} : tensor<2x4xf32>
  return
}

// -----

func.func @rope_positions(%x: tensor<1x2x3x4xf32>, %t: tensor<1x2x2xf32>) {
  // expected-error@+1 {{cos has 2 positions, input 3}}
  %0 = graph.rope %x, %t, %t : tensor<1x2x3x4xf32>, tensor<1x2x2xf32>
  return
}

// -----

func.func @attention_c1(%q: tensor<1x3x2x4xf32>, %k: tensor<1x2x2x4xf32>) {
  // expected-error@+1 {{3 query heads are not a multiple of 2 key/value heads}}
  %0 = graph.attention %q, %k, %k scale 1.0 : tensor<1x3x2x4xf32>, tensor<1x2x2x4xf32>, tensor<1x2x2x4xf32> -> tensor<1x3x2x4xf32>
  return
}

// -----

func.func @attention_grad_c1(%q: tensor<1x1x2x4xf32>, %g: tensor<1x1x2x3xf32>) {
  // expected-error@+1 {{cotangent has shape [1, 1, 2, 3], expected [1, 1, 2, 4]}}
  %0:3 = graph.attention_grad %q, %q, %q cotangent %g scale 1.0 : tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>, tensor<1x1x2x3xf32> -> tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>
  return
}

// -----

func.func @attention_grad_c2_type(%q: tensor<1x1x2x4xf32>) {
  // expected-error@+1 {{dkey has type 'tensor<1x1x3x4xf32>', expected 'tensor<1x1x2x4xf32>'}}
  %0:3 = graph.attention_grad %q, %q, %q cotangent %q scale 1.0 : tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32> -> tensor<1x1x2x4xf32>, tensor<1x1x3x4xf32>, tensor<1x1x2x4xf32>
  return
}

// -----

func.func @attention_grad_c2_sinks(%q: tensor<1x1x2x4xf32>, %s: tensor<1xf32>) {
  // expected-error@+1 {{has sinks without dsinks}}
  %0:3 = graph.attention_grad %q, %q, %q sinks %s : tensor<1xf32> cotangent %q scale 1.0 : tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32> -> tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>
  return
}

// -----

func.func @grouped_matmul_grad_rows(%x: tensor<2x4xf32>, %dy: tensor<3x5xf32>, %g: tensor<2xi64>) {
  // expected-error@+1 {{cotangent has 3 rows, input 2}}
  %0 = graph.grouped_matmul_grad %x, %dy by %g : tensor<2x4xf32>, tensor<3x5xf32>, tensor<2xi64> -> tensor<6x5x4xf32>
  return
}

// -----

func.func @grouped_matmul_grad_result(%x: tensor<2x4xf32>, %dy: tensor<2x5xf32>, %g: tensor<2xi64>) {
  // expected-error@+1 {{result has shape [6, 4, 5], expected [6, 5, 4]}}
  %0 = graph.grouped_matmul_grad %x, %dy by %g : tensor<2x4xf32>, tensor<2x5xf32>, tensor<2xi64> -> tensor<6x4x5xf32>
  return
}

// -----

func.func @attention_c2(%q: tensor<1x1x2x4xf32>, %m: tensor<1x1x3x2xi1>) {
  // expected-error@+1 {{mask dimension 2 of size 3 does not broadcast to 2}}
  %0 = graph.attention %q, %q, %q mask %m : tensor<1x1x3x2xi1> scale 1.0 : tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32> -> tensor<1x1x2x4xf32>
  return
}

// -----

func.func @attention_c3(%q: tensor<1x1x2x4xf32>) {
  // expected-error@+1 {{window 2 needs causal attention}}
  %0 = graph.attention %q, %q, %q scale 1.0 {window = 2 : i64} : tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32> -> tensor<1x1x2x4xf32>
  return
}

// -----

func.func @grouped_matmul_c1(%x: tensor<4x4xf32>, %w: tensor<3x5x4xf32>, %g: tensor<4xi64>) {
  // expected-error@+1 {{has 2 blocks, which do not divide 4 rows and 3 experts}}
  %0 = graph.grouped_matmul %x, %w by %g {blocks = 2 : i64} : tensor<4x4xf32>, tensor<3x5x4xf32>, tensor<4xi64> -> tensor<4x5xf32>
  return
}

// -----

func.func @grouped_matmul_grad_c1(%x: tensor<3x4xf32>, %dy: tensor<3x5xf32>, %g: tensor<3xi64>) {
  // expected-error@+1 {{has 2 blocks, which do not divide 3 rows and 6 experts}}
  %0 = graph.grouped_matmul_grad %x, %dy by %g {blocks = 2 : i64} : tensor<3x4xf32>, tensor<3x5xf32>, tensor<3xi64> -> tensor<6x5x4xf32>
  return
}
