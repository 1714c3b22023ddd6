// RUN: shard-opt %s --shard-fuse=target=cuda | FileCheck %s
// RUN: shard-opt %s --shard-fuse=target=cuda --shard-lower-cuda="arch=sm_80 output=%t" -o /dev/null && FileCheck %s --check-prefix=CALLS < %t/kernels.json

// cuBLASLt adds a bias and applies the activation, or adds the residual; what else is behind a contraction joins other kernels. Weights are
// not packed.
// CHECK-LABEL: func.func @main
// CHECK: %[[H:.*]] = call @kernel_0_einsum(%{{.*}}, %{{.*}}, %{{.*}})
// CHECK: %[[P:.*]] = call @kernel_1_einsum(%[[H]], %{{.*}}, %arg0)
// CHECK: call @kernel_2_rms_norm(%[[P]], {{.*}}) : {{.*}} -> tensor<4x8xf32>
// CHECK-NOT: exec.panels
// CHECK-LABEL: func.func private @kernel_0_einsum
// CHECK: graph.einsum
// CHECK: graph.add
// CHECK: graph.gelu_tanh
// CHECK-LABEL: func.func private @kernel_1_einsum
// CHECK: graph.add
// CHECK: return
// CALLS: "bias": 2
// CALLS: "epilogue": "gelu_bias"
// CALLS: "epilogue": "none"
func.func @main(%x: tensor<4x8xf32>, %b: tensor<16xf32>, %n: tensor<8xf32>) -> (tensor<4x8xf32>, tensor<4x8xf32>) {
  %w = graph.parameter "up" : tensor<16x8xf32>
  %v = graph.parameter "down" : tensor<8x16xf32>
  %0 = graph.einsum "mk,nk->mn" %x, %w : tensor<4x8xf32>, tensor<16x8xf32> -> tensor<4x16xf32>
  %1 = graph.broadcast %b [1] : tensor<16xf32> -> tensor<4x16xf32>
  %2 = graph.add %0, %1 : tensor<4x16xf32>
  %3 = graph.gelu_tanh %2 : tensor<4x16xf32>
  %4 = graph.einsum "mk,nk->mn" %3, %v : tensor<4x16xf32>, tensor<8x16xf32> -> tensor<4x8xf32>
  %5 = graph.add %4, %x : tensor<4x8xf32>
  %6 = graph.rms_norm %5, %n : tensor<8xf32> epsilon 1.0e-06 : tensor<4x8xf32>
  return %5, %6 : tensor<4x8xf32>, tensor<4x8xf32>
}
