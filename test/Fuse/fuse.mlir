// RUN: shard-opt %s --split-input-file --shard-fuse | FileCheck %s

// Index lambdas go into their consumer.
// CHECK-LABEL: func.func @elementwise
// CHECK: call @kernel_0_mul(%arg1, %arg0)
// CHECK: func.func private @kernel_0_mul({{.*}}) -> tensor<4x8xf32> attributes {exec.kernel}
// CHECK-NEXT: graph.broadcast
// CHECK-NEXT: graph.exp
// CHECK-NEXT: graph.mul
// CHECK-NEXT: return
func.func @elementwise(%x: tensor<4x8xf32>, %b: tensor<8xf32>) -> tensor<4x8xf32> {
  %0 = graph.broadcast %b [1] : tensor<8xf32> -> tensor<4x8xf32>
  %1 = graph.exp %x : tensor<4x8xf32>
  %2 = graph.mul %0, %1 : tensor<4x8xf32>
  return %2 : tensor<4x8xf32>
}

// -----

// What is expensive is not computed once per use: exp has a kernel of its own, though every consumer could have it.
// CHECK-LABEL: func.func @expensive
// CHECK: call @kernel_{{[0-9]}}_exp
// CHECK: call @kernel_{{[0-9]}}_broadcast
func.func @expensive(%x: tensor<64x8xf32>) -> tensor<512x64x8xf32> {
  %0 = graph.exp %x : tensor<64x8xf32>
  %1 = graph.broadcast %0 [1, 2] : tensor<64x8xf32> -> tensor<512x64x8xf32>
  return %1 : tensor<512x64x8xf32>
}

// -----

// A weight that is B is packed; the transpose in front of it is part of the packing. Bias and activation are done on the accumulators.
// CHECK-LABEL: func.func @linear
// CHECK-NOT: graph.transpose
// CHECK: %[[Y:.*]] = call @kernel_0_einsum(%arg0, %{{.*}}, %arg1)
// CHECK-NEXT: return %[[Y]]
// CHECK: @kernel_0_einsum(%{{.*}}: tensor<4x8xf32>, %{{.*}}: tensor<16x8xf32> {exec.panels = {batch_dims = array<i64>, k_dims = array<i64: 1>, n_dims = array<i64: 0>, n_tile = 16 : i64}}, %{{.*}}: tensor<16xf32>)
// CHECK: graph.einsum
// CHECK: graph.silu
func.func @linear(%x: tensor<4x8xf32>, %b: tensor<16xf32>) -> tensor<4x16xf32> {
  %w = graph.parameter "w" : tensor<16x8xf32>
  %t = graph.transpose %w [1, 0] : tensor<16x8xf32> -> tensor<8x16xf32>
  %0 = graph.einsum "mk,kn->mn" %x, %t : tensor<4x8xf32>, tensor<8x16xf32> -> tensor<4x16xf32>
  %1 = graph.broadcast %b [1] : tensor<16xf32> -> tensor<4x16xf32>
  %2 = graph.add %0, %1 : tensor<4x16xf32>
  %3 = graph.silu %2 : tensor<4x16xf32>
  return %3 : tensor<4x16xf32>
}

// -----

// The residual sum and its norm are one kernel with two results.
// CHECK-LABEL: func.func @residual
// CHECK: %[[R:.*]]:2 = call @kernel_0_rms_norm
// CHECK: return %[[R]]#0, %[[R]]#1
func.func @residual(%x: tensor<4x8xf32>, %y: tensor<4x8xf32>) -> (tensor<4x8xf32>, tensor<4x8xf32>) {
  %h = graph.add %x, %y : tensor<4x8xf32>
  %n = graph.rms_norm %h epsilon 1.0e-5 : tensor<4x8xf32>
  return %h, %n : tensor<4x8xf32>, tensor<4x8xf32>
}

// -----

// Softmax in primitive ops is one kernel.
// CHECK-LABEL: func.func @softmax
// CHECK-COUNT-1: call @kernel_0_reduce
// CHECK-NEXT: return
func.func @softmax(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %0 = graph.reduce max %x [1] : tensor<4x8xf32> -> tensor<4xf32>
  %1 = graph.broadcast %0 [0] : tensor<4xf32> -> tensor<4x8xf32>
  %2 = graph.sub %x, %1 : tensor<4x8xf32>
  %3 = graph.exp %2 : tensor<4x8xf32>
  %4 = graph.reduce sum %3 [1] : tensor<4x8xf32> -> tensor<4xf32>
  %5 = graph.broadcast %4 [0] : tensor<4xf32> -> tensor<4x8xf32>
  %6 = graph.div %3, %5 : tensor<4x8xf32>
  return %6 : tensor<4x8xf32>
}

// -----

// What pointwise ops of one kernel share is computed once, and needs no kernel of its own.
// CHECK-LABEL: func.func @silu_grad
// CHECK-NOT: call @{{.*}}sigmoid
// CHECK: call @kernel_0_mul(%arg1, %arg0)
// CHECK-NEXT: return
func.func @silu_grad(%x: tensor<512x64xf32>, %g: tensor<512x64xf32>) -> tensor<512x64xf32> {
  %one = graph.constant dense<1.0> : tensor<512x64xf32>
  %s = graph.sigmoid %x : tensor<512x64xf32>
  %0 = graph.sub %one, %s : tensor<512x64xf32>
  %1 = graph.mul %x, %0 : tensor<512x64xf32>
  %2 = graph.add %one, %1 : tensor<512x64xf32>
  %3 = graph.mul %s, %2 : tensor<512x64xf32>
  %4 = graph.mul %g, %3 : tensor<512x64xf32>
  return %4 : tensor<512x64xf32>
}

// -----

// A value per row may be broadcast once for several ops of the kernel.
// CHECK-LABEL: func.func @rms_norm_grad
// CHECK: %[[G:.*]] = call @kernel_0_reduce(%arg0, %arg1)
// CHECK-NEXT: return %[[G]]
func.func @rms_norm_grad(%x: tensor<4x8xf32>, %g: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %0 = graph.mul %x, %x : tensor<4x8xf32>
  %1 = graph.reduce sum %0 [1] : tensor<4x8xf32> -> tensor<4xf32>
  %2 = graph.rsqrt %1 : tensor<4xf32>
  %3 = graph.broadcast %2 [0] : tensor<4xf32> -> tensor<4x8xf32>
  %4 = graph.mul %x, %3 : tensor<4x8xf32>
  %5 = graph.mul %g, %4 : tensor<4x8xf32>
  %6 = graph.reduce sum %5 [1] : tensor<4x8xf32> -> tensor<4xf32>
  %7 = graph.broadcast %6 [0] : tensor<4xf32> -> tensor<4x8xf32>
  %8 = graph.mul %4, %7 : tensor<4x8xf32>
  %9 = graph.sub %g, %8 : tensor<4x8xf32>
  %10 = graph.mul %9, %3 : tensor<4x8xf32>
  return %10 : tensor<4x8xf32>
}

// -----

// Reshapes, and transposes that move dimensions of size one, need no kernel. Equal kernels are shared between functions.
// CHECK-LABEL: func.func @main
// CHECK: graph.reshape
// CHECK: graph.reshape
// CHECK: call @kernel_0_exp
// CHECK: call @layer
// CHECK: func.func private @layer
// CHECK: call @kernel_0_exp
// CHECK: func.func private @kernel_0_exp
// CHECK-NOT: @kernel_1
func.func @main(%x: tensor<4x8xf32>) -> tensor<32xf32> {
  %0 = graph.reshape %x : tensor<4x8xf32> -> tensor<1x32xf32>
  %1 = graph.transpose %0 [1, 0] : tensor<1x32xf32> -> tensor<32x1xf32>
  %2 = graph.exp %1 : tensor<32x1xf32>
  %3 = call @layer(%2) : (tensor<32x1xf32>) -> tensor<32x1xf32>
  %4 = graph.reshape %3 : tensor<32x1xf32> -> tensor<32xf32>
  return %4 : tensor<32xf32>
}
func.func private @layer(%x: tensor<32x1xf32>) -> tensor<32x1xf32> {
  %0 = graph.exp %x : tensor<32x1xf32>
  return %0 : tensor<32x1xf32>
}

// -----

// So are those around its gradient, for each of its results; what nobody reads is written all the same.
// CHECK-LABEL: func.func @attention_grad
// CHECK-NEXT: %[[R:.*]]:3 = call @kernel_{{.*}}attention_grad
// CHECK-NEXT: return %[[R]]#1, %[[R]]#2 : tensor<2x5x4x6xf32>, tensor<2x5x4x6xf32>
// CHECK: func.func private @kernel_{{.*}}attention_grad(%{{.*}}: tensor<2x5x4x6xf32>) -> (tensor<2x4x5x6xf32>, tensor<2x5x4x6xf32>, tensor<2x5x4x6xf32>)
func.func @attention_grad(%x: tensor<2x5x4x6xf32>) -> (tensor<2x5x4x6xf32>, tensor<2x5x4x6xf32>) {
  %0 = graph.transpose %x [0, 2, 1, 3] : tensor<2x5x4x6xf32> -> tensor<2x4x5x6xf32>
  %1:3 = graph.attention_grad %0, %0, %0 cotangent %0 scale 0.4 : tensor<2x4x5x6xf32>, tensor<2x4x5x6xf32>, tensor<2x4x5x6xf32>, tensor<2x4x5x6xf32> -> tensor<2x4x5x6xf32>, tensor<2x4x5x6xf32>, tensor<2x4x5x6xf32>
  %2 = graph.transpose %1#0 [0, 2, 1, 3] : tensor<2x4x5x6xf32> -> tensor<2x5x4x6xf32>
  %3 = graph.transpose %1#1 [0, 2, 1, 3] : tensor<2x4x5x6xf32> -> tensor<2x5x4x6xf32>
  return %2, %3 : tensor<2x5x4x6xf32>, tensor<2x5x4x6xf32>
}

// -----

// Transposes around attention are strides of its kernel.
// CHECK-LABEL: func.func @attention
// CHECK-NEXT: call @kernel_0_attention
// CHECK-NEXT: graph.reshape
// CHECK-NEXT: return
func.func @attention(%x: tensor<2x5x24xf32>) -> tensor<2x5x24xf32> {
  %0 = graph.reshape %x : tensor<2x5x24xf32> -> tensor<2x5x4x6xf32>
  %1 = graph.transpose %0 [0, 2, 1, 3] : tensor<2x5x4x6xf32> -> tensor<2x4x5x6xf32>
  %2 = graph.attention %1, %1, %1 scale 0.4 : tensor<2x4x5x6xf32>, tensor<2x4x5x6xf32>, tensor<2x4x5x6xf32> -> tensor<2x4x5x6xf32>
  %3 = graph.transpose %2 [0, 2, 1, 3] : tensor<2x4x5x6xf32> -> tensor<2x5x4x6xf32>
  %4 = graph.reshape %3 : tensor<2x5x4x6xf32> -> tensor<2x5x24xf32>
  return %4 : tensor<2x5x24xf32>
}
