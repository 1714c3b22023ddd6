// RUN: shard-opt %s --shard-fuse=target=cpu | FileCheck %s --check-prefixes=CHECK,CPU
// RUN: shard-opt %s --shard-fuse=target=cuda | FileCheck %s --check-prefixes=CHECK,CUDA
// RUN: shard-opt %s --shard-fuse=target=cuda --shard-lower-cuda="arch=sm_90a emit=ptx output=%t" -o /dev/null && FileCheck %s --check-prefix=CALLS < %t/kernels.json

// One kernel: sums, units, rounding. cuBLASLt reads the units where they lie; processors have their product as one more number.
// CHECK-LABEL: func.func @main
// CPU: %[[U:.*]] = call @kernel_1_mul(%arg2, %arg3)
// CPU: call @kernel_0_einsum(%arg0, %arg1, %[[U]])
// CUDA: call @kernel_0_einsum(%arg0, %arg1, %arg2, %arg3) : {{.*}} -> tensor<32x48xbf16>
// CHECK: func.func private @kernel_0_einsum
// CHECK: graph.einsum {{.*}} -> tensor<32x48xf32>
// CUDA: graph.mul {{.*}} : tensor<f32>
// CHECK: graph.mul {{.*}} : tensor<32x48xf32>
// CHECK: graph.cast {{.*}} -> tensor<32x48xbf16>
// CALLS:      "a": {
// CALLS:        "dtype": "f8E4M3FN"
// CALLS:        "scale": 2
// CALLS:      "b": {
// CALLS:        "dtype": "f8E5M2"
// CALLS:        "scale": 3
// CALLS:      "d": {
// CALLS:        "dtype": "bf16"
// CALLS:      "kind": "gemm"
func.func @main(%x: tensor<32x64xf8E4M3FN>, %w: tensor<48x64xf8E5M2>, %u: tensor<f32>, %v: tensor<f32>) -> tensor<32x48xbf16> {
  %0 = graph.scaled_einsum "mk,nk->mn" %x, %w scales %u, %v {gradient = f8E4M3FN}
      : tensor<32x64xf8E4M3FN>, tensor<48x64xf8E5M2>, tensor<f32>, tensor<f32> -> tensor<32x48xbf16>
  return %0 : tensor<32x48xbf16>
}
