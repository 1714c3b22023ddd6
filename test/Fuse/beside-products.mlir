// RUN: shard-opt %s --shard-fuse=target=cuda --shard-lower-cuda="arch=sm_80 output=%t" -o %t.mlir && FileCheck %s < %t.mlir
// RUN: FileCheck %s --check-prefix=CALLS < %t/kernels.json
// RUN: shard-opt %s --validate-each --shard-fuse=target=cuda -o /dev/null

// cuBLASLt makes a second result beside a product: what GELU was applied to, if the backward pass wants it, and the gradient of a bias beside
// that of the weight, out of the same cotangent. Where it has no algorithm for that, the runtime makes the other calls.

// CALLS: "epilogue": "gelu_aux_bias"
// CALLS: "otherwise": [
// CALLS: "epilogue": "bias"
// CALLS: "kind": "launch"
// CHECK-LABEL: func.func private @forward
// CHECK-NEXT: %[[H:.*]]:2 = call @kernel_{{[0-9]+}}_einsum(%arg0, %arg1, %arg2)
// CHECK-NEXT: return %[[H]]#0, %[[H]]#1
func.func private @forward(%x: tensor<8x4xf32>, %w: tensor<16x4xf32>, %b: tensor<16xf32>) -> (tensor<8x16xf32>, tensor<8x16xf32>) {
  %0 = graph.einsum "mk,nk->mn" %x, %w : tensor<8x4xf32>, tensor<16x4xf32> -> tensor<8x16xf32>
  %1 = graph.broadcast %b [1] : tensor<16xf32> -> tensor<8x16xf32>
  %2 = graph.add %0, %1 : tensor<8x16xf32>
  %3 = graph.gelu_tanh %2 : tensor<8x16xf32>
  return %2, %3 : tensor<8x16xf32>, tensor<8x16xf32>
}

// The other form of GELU is not cuBLASLt's, and rows of 12 are not where it would put them.
// CALLS: "epilogue": "bias"
// CALLS-NOT: otherwise
// CHECK-LABEL: func.func private @others
// CHECK-NEXT: %[[H:.*]] = call @kernel_{{[0-9]+}}_einsum(%arg0, %arg1, %arg2)
// CHECK-NEXT: %[[G:.*]] = call @kernel_{{[0-9]+}}_gelu(%[[H]])
// CHECK-NEXT: %[[N:.*]] = call @kernel_{{[0-9]+}}_einsum(%arg0, %arg3)
// CHECK-NEXT: %[[F:.*]] = call @kernel_{{[0-9]+}}_gelu_tanh(%[[N]])
// CHECK-NEXT: return %[[H]], %[[G]], %[[N]], %[[F]]
func.func private @others(%x: tensor<8x4xf32>, %w: tensor<16x4xf32>, %b: tensor<16xf32>, %v: tensor<12x4xf32>) -> (tensor<8x16xf32>, tensor<8x16xf32>, tensor<8x12xf32>, tensor<8x12xf32>) {
  %0 = graph.einsum "mk,nk->mn" %x, %w : tensor<8x4xf32>, tensor<16x4xf32> -> tensor<8x16xf32>
  %1 = graph.broadcast %b [1] : tensor<16xf32> -> tensor<8x16xf32>
  %2 = graph.add %0, %1 : tensor<8x16xf32>
  %3 = graph.gelu %2 : tensor<8x16xf32>
  %4 = graph.einsum "mk,nk->mn" %x, %v : tensor<8x4xf32>, tensor<12x4xf32> -> tensor<8x12xf32>
  %5 = graph.gelu_tanh %4 : tensor<8x12xf32>
  return %2, %3, %4, %5 : tensor<8x16xf32>, tensor<8x16xf32>, tensor<8x12xf32>, tensor<8x12xf32>
}

// CALLS: "epilogue": "bias_gradient_a"
// CALLS: "otherwise": [
// CHECK-LABEL: func.func private @backward
// CHECK-NEXT: %[[G:.*]]:2 = call @kernel_{{[0-9]+}}_einsum(%arg0, %arg1)
// CHECK-NEXT: return %[[G]]#0, %[[G]]#1
func.func private @backward(%dy: tensor<8x4xbf16>, %x: tensor<8x16xbf16>) -> (tensor<4x16xf32>, tensor<4xf32>) {
  %0 = graph.einsum "bn,bk->nk" %dy, %x : tensor<8x4xbf16>, tensor<8x16xbf16> -> tensor<4x16xbf16>
  %1 = graph.cast %0 : tensor<4x16xbf16> -> tensor<4x16xf32>
  %2 = graph.reduce sum %dy [0] : tensor<8x4xbf16> -> tensor<4xbf16>
  %3 = graph.cast %2 : tensor<4xbf16> -> tensor<4xf32>
  return %1, %3 : tensor<4x16xf32>, tensor<4xf32>
}

// A sum that is added to what is there (cuBLASLt overwrites it), and sums along a row, stay kernels of their own.
// CALLS-NOT: otherwise
// CHECK-LABEL: func.func private @alone
// CHECK-DAG: call @kernel_{{[0-9]+}}_einsum(%arg0, %arg1)
// CHECK-DAG: call @kernel_{{[0-9]+}}_reduce(%arg0, %arg2)
// CHECK-DAG: call @kernel_{{[0-9]+}}_reduce(%arg1)
// CHECK: return
func.func private @alone(%dy: tensor<8x4xf32>, %x: tensor<8x16xf32>, %before: tensor<4xf32>) -> (tensor<4x16xf32>, tensor<4xf32>, tensor<8xf32>) {
  %0 = graph.einsum "bn,bk->nk" %dy, %x : tensor<8x4xf32>, tensor<8x16xf32> -> tensor<4x16xf32>
  %1 = graph.reduce sum %dy [0] : tensor<8x4xf32> -> tensor<4xf32>
  %2 = graph.add %before, %1 : tensor<4xf32>
  %3 = graph.reduce sum %x [1] : tensor<8x16xf32> -> tensor<8xf32>
  return %0, %2, %3 : tensor<4x16xf32>, tensor<4xf32>, tensor<8xf32>
}
