// RUN: shard-opt %s --shard-fuse=target=cuda --shard-lower-cuda="arch=sm_80 output=%t" -o %t.mlir && FileCheck %s < %t.mlir
// RUN: FileCheck %s --check-prefix=CALLS < %t/kernels.json
// RUN: shard-opt %s --validate-each --shard-fuse=target=cuda -o /dev/null

// What earlier micro-batches left is added by cuBLASLt, to the sums in f32; so is a residual. A product that a layer widens on the way to
// somewhere else than memory is rounded first.
// CHECK-LABEL: func.func private @layer
// CHECK-NEXT: %[[N:.*]] = call @[[G:kernel_[0-9]+_einsum]](%arg0, %arg1, %arg2)
// CHECK-NEXT: %[[R:.*]] = call @[[H:kernel_[0-9]+_einsum]](%arg3, %arg4, %arg5)
// CHECK-NEXT: %[[P:.*]] = call @kernel_{{[0-9]+}}_einsum(%arg0, %arg1)
// CHECK-NEXT: %[[E:.*]] = call @kernel_{{[0-9]+}}_exp(%[[P]])
// CHECK-NEXT: return %[[N]], %[[R]], %[[E]]
// CALLS: "accumulate": true
// CALLS: "c": 2
// CALLS: "d": {
// CALLS: "dtype": "f32"
// CALLS: "accumulate": true
// CALLS: "accumulate": false
// CALLS: "dtype": "bf16"
func.func private @layer(%dy: tensor<8x4xbf16>, %x: tensor<8x6xbf16>, %before: tensor<4x6xf32>, %h: tensor<8x6xf32>, %w: tensor<4x6xf32>, %residual: tensor<8x4xf32>) -> (tensor<4x6xf32>, tensor<8x4xf32>, tensor<4x6xf32>) {
  %0 = graph.einsum "bn,bk->nk" %dy, %x : tensor<8x4xbf16>, tensor<8x6xbf16> -> tensor<4x6xbf16>
  %1 = graph.cast %0 : tensor<4x6xbf16> -> tensor<4x6xf32>
  %2 = graph.add %before, %1 : tensor<4x6xf32>
  %3 = graph.einsum "bk,nk->bn" %h, %w : tensor<8x6xf32>, tensor<4x6xf32> -> tensor<8x4xf32>
  %4 = graph.add %3, %residual : tensor<8x4xf32>
  %5 = graph.einsum "bn,bk->nk" %dy, %x : tensor<8x4xbf16>, tensor<8x6xbf16> -> tensor<4x6xbf16>
  %6 = graph.cast %5 : tensor<4x6xbf16> -> tensor<4x6xf32>
  %7 = graph.exp %6 : tensor<4x6xf32>
  return %2, %4, %7 : tensor<4x6xf32>, tensor<8x4xf32>, tensor<4x6xf32>
}

// Of two products the later one takes in their sum, and what is added to it.
// CHECK-LABEL: func.func @two
// CHECK-NEXT: %[[A:.*]] = call @kernel_{{[0-9]+}}_einsum(%arg0, %arg1)
// CHECK-NEXT: %[[B:.*]] = call @kernel_{{[0-9]+}}_einsum(%arg0, %arg2, %[[A]])
// CHECK-NEXT: return %[[B]]
// CHECK: func.func private @[[G]]
// CHECK: graph.einsum
// CHECK: graph.cast
// CHECK: graph.add
func.func @two(%x: tensor<8x6xf32>, %w: tensor<6x6xf32>, %v: tensor<6x6xf32>) -> tensor<8x6xf32> {
  %0 = graph.einsum "bk,nk->bn" %x, %w : tensor<8x6xf32>, tensor<6x6xf32> -> tensor<8x6xf32>
  %1 = graph.einsum "bk,nk->bn" %x, %v : tensor<8x6xf32>, tensor<6x6xf32> -> tensor<8x6xf32>
  %2 = graph.add %0, %1 : tensor<8x6xf32>
  return %2 : tensor<8x6xf32>
}
