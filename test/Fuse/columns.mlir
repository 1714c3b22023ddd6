// RUN: shard-opt %s --shard-fuse=target=cuda | FileCheck %s
// RUN: shard-opt %s --shard-fuse=target=cpu | FileCheck %s --check-prefix=CPU
// RUN: shard-opt %s --validate-each --shard-fuse=target=cuda -o /dev/null
// RUN: shard-opt %s --shard-fuse=target=cuda --shard-lower-cuda="arch=sm_80 emit=ptx" | FileCheck %s --check-prefix=PTX

// Gradients of biases over as many rows and columns are one kernel on GPUs, whatever shape the rows have; one of another width is another. What
// is done with a sum is done in its kernel, on both targets.
// CHECK-LABEL: func.func @sums
// CHECK-NEXT: graph.reshape
// CHECK-NEXT: %[[S:.*]]:2 = call @[[J:kernel_[0-9]+_reduce]](
// CHECK-NEXT: %[[O:.*]] = call @kernel_{{[0-9]+}}_reduce(%arg2)
// CHECK-NEXT: return %[[S]]#0, %[[S]]#1, %[[O]]
// CPU-LABEL: func.func @sums
// CPU: call @[[A:kernel_[0-9]+_reduce]](
// CPU: call
// CPU: call
// CPU-NEXT: return
// PTX-COUNT-2: .entry kernel_{{[0-9]+}}_reduce
func.func @sums(%a: tensor<2x3x8xbf16>, %b: tensor<6x8xf32>, %c: tensor<6x4xf32>, %before: tensor<8xf32>) -> (tensor<8xf32>, tensor<8xf32>, tensor<4xf32>) {
  %r = graph.reshape %b : tensor<6x8xf32> -> tensor<1x6x8xf32>
  %0 = graph.reduce sum %a [0, 1] : tensor<2x3x8xbf16> -> tensor<8xbf16>
  %1 = graph.cast %0 : tensor<8xbf16> -> tensor<8xf32>
  %2 = graph.add %before, %1 : tensor<8xf32>
  %3 = graph.reduce sum %r [0, 1] : tensor<1x6x8xf32> -> tensor<8xf32>
  %4 = graph.reduce sum %c [0] : tensor<6x4xf32> -> tensor<4xf32>
  return %2, %3, %4 : tensor<8xf32>, tensor<8xf32>, tensor<4xf32>
}

// One that needs the other's result stays behind it.
// CHECK-LABEL: func.func @chain
// CHECK-COUNT-2: call @kernel_{{[0-9]+}}_reduce
// CHECK: return
// CHECK: func.func private @[[J]]
// CHECK: graph.reduce sum
// CHECK: graph.cast
// CHECK: graph.add
// CHECK: graph.reduce sum
// CPU: func.func private @[[A]]
// CPU-NEXT: graph.reduce
// CPU-NEXT: graph.cast
// CPU-NEXT: graph.add
func.func @chain(%a: tensor<6x8xf32>) -> (tensor<8xf32>, tensor<8xf32>) {
  %0 = graph.reduce sum %a [0] : tensor<6x8xf32> -> tensor<8xf32>
  %1 = graph.broadcast %0 [1] : tensor<8xf32> -> tensor<6x8xf32>
  %2 = graph.mul %a, %1 : tensor<6x8xf32>
  %3 = graph.reduce max %2 [0] : tensor<6x8xf32> -> tensor<8xf32>
  return %0, %3 : tensor<8xf32>, tensor<8xf32>
}
