// RUN: shard-opt %s --split-input-file --shard-fuse=target=cuda | FileCheck %s
// RUN: shard-opt %s --split-input-file --shard-fuse=target=cpu | FileCheck %s --check-prefix=CPU
// RUN: shard-opt %s --split-input-file --validate-each --shard-fuse=target=cuda -o /dev/null

// On GPUs a row is one block's. A long reduction over few rows is one over parts, which are many blocks', and one over those, in an order that
// never changes; 16-bit types stay f32 in between.
// CHECK-LABEL: func.func @whole
// CHECK: %[[CUT:.*]] = graph.reshape %arg0 : tensor<256x1024xf32> -> tensor<64x4096xf32>
// CHECK: %[[PARTS:.*]] = call @[[FIRST:kernel_.*_reduce]](%[[CUT]]) : (tensor<64x4096xf32>) -> tensor<64xf32>
// CHECK: call @[[SECOND:kernel_.*_reduce]](%[[PARTS]]) : (tensor<64xf32>) -> tensor<f32>
// CPU-LABEL: func.func @whole
// CPU-COUNT-1: call @kernel_{{.*}}_reduce
// CPU-NOT: _reduce
// CPU: return
func.func @whole(%x: tensor<256x1024xf32>) -> tensor<f32> {
  %0 = graph.reduce sum %x [0, 1] : tensor<256x1024xf32> -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

// CHECK-LABEL: func.func @narrow
// CHECK: call @[[FIRST:kernel_.*_reduce]]({{.*}}) : (tensor<2x131072xbf16>) -> tensor<2x32xf32>
// CHECK: call @[[SECOND:kernel_.*_reduce]]({{.*}}) : (tensor<2x32xf32>) -> tensor<2xbf16>
func.func @narrow(%x: tensor<2x131072xbf16>) -> tensor<2xbf16> {
  %0 = graph.reduce max %x [1] : tensor<2x131072xbf16> -> tensor<2xbf16>
  return %0 : tensor<2xbf16>
}

// -----

// Enough rows, and short ones, are one kernel.
// CHECK-LABEL: func.func @enough
// CHECK-COUNT-2: call @kernel_{{.*}}_reduce
// CHECK-NOT: _reduce
// CHECK: return
func.func @enough(%x: tensor<64x65536xf32>, %y: tensor<2x4096xf32>) -> (tensor<64xf32>, tensor<2xf32>) {
  %0 = graph.reduce sum %x [1] : tensor<64x65536xf32> -> tensor<64xf32>
  %1 = graph.reduce sum %y [1] : tensor<2x4096xf32> -> tensor<2xf32>
  return %0, %1 : tensor<64xf32>, tensor<2xf32>
}
