// RUN: shard-opt %s --shard-fuse=target=cuda | FileCheck %s
// RUN: shard-opt %s --shard-fuse=target=cpu | FileCheck %s --check-prefix=CPU
// RUN: shard-opt %s --validate-each --shard-fuse=target=cuda -o /dev/null

// The backward pass of a gated activation: three products that read the gate are one kernel; the activation is computed in passing, and
// what stood between them follows.
// CHECK-LABEL: func.func @gate
// CHECK-NEXT: %[[D:.*]] = call @[[E:kernel_[0-9]+_einsum]](%arg2, %arg3)
// CHECK-NEXT: %[[P:.*]]:2 = call @[[K:kernel_[0-9]+_mul]](
// CHECK-NEXT: %[[W:.*]] = call @{{.*}}einsum(%arg2, %[[P]]#{{[01]}})
// CHECK-NEXT: return %[[W]], %[[P]]#{{[01]}}
// CPU-LABEL: func.func @gate
// CPU: %{{.*}}:2 = call @{{.*}}(%arg0, %arg1)
// CPU: call
// CPU: call
func.func @gate(%g: tensor<2x4xf32>, %u: tensor<2x4xf32>, %dy: tensor<2x3xf32>, %w: tensor<3x4xf32>) -> (tensor<3x4xf32>, tensor<2x4xf32>) {
  %s = graph.silu %g : tensor<2x4xf32>
  %h = graph.mul %s, %u : tensor<2x4xf32>
  %dw = graph.einsum "bn,bk->nk" %dy, %h : tensor<2x3xf32>, tensor<2x4xf32> -> tensor<3x4xf32>
  %d = graph.einsum "bn,nk->bk" %dy, %w : tensor<2x3xf32>, tensor<3x4xf32> -> tensor<2x4xf32>
  %du = graph.mul %d, %s : tensor<2x4xf32>
  return %dw, %du : tensor<3x4xf32>, tensor<2x4xf32>
}

// A contraction leads from one to the other: they stay two.
// CHECK-LABEL: func.func @between
// CHECK-NEXT: call @kernel_{{[0-9]+}}_exp
// CHECK-NEXT: call @kernel_{{[0-9]+}}_einsum
// CHECK-NEXT: call @kernel_{{[0-9]+}}_mul
// CHECK-NEXT: return
func.func @between(%x: tensor<4x4xf32>, %w: tensor<4x4xf32>) -> tensor<4x4xf32> {
  %e = graph.exp %x : tensor<4x4xf32>
  %p = graph.einsum "mk,kn->mn" %e, %w : tensor<4x4xf32>, tensor<4x4xf32> -> tensor<4x4xf32>
  %y = graph.mul %p, %x : tensor<4x4xf32>
  return %y : tensor<4x4xf32>
}

// … and so does a reading of other elements.
// CHECK-LABEL: func.func @moved
// CHECK-COUNT-2: call @kernel
func.func @moved(%x: tensor<4x4xf32>) -> (tensor<4x4xf32>, tensor<4x4xf32>) {
  %e = graph.exp %x : tensor<4x4xf32>
  %t = graph.transpose %e [1, 0] : tensor<4x4xf32> -> tensor<4x4xf32>
  %y = graph.mul %t, %x : tensor<4x4xf32>
  return %e, %y : tensor<4x4xf32>, tensor<4x4xf32>
}

// A norm that is computed again, and a reduction over the same rows: one kernel. A reduction over other dimensions stays alone.
// CHECK-LABEL: func.func @rows
// CHECK-NEXT: %{{.*}}:2 = call @[[R:kernel_[0-9]+_(rms_norm|reduce)]](%arg0, %arg1, %arg2)
// CHECK-NEXT: call @kernel_{{[0-9]+}}_reduce(%arg0)
// CHECK-NEXT: return
// CHECK: func.func private @[[R]]
// CHECK: graph.rms_norm
// CHECK: graph.reduce
func.func @rows(%x: tensor<4x8xf32>, %w: tensor<8xf32>, %d: tensor<4x8xf32>) -> (tensor<4x8xf32>, tensor<4xf32>, tensor<8xf32>) {
  %n = graph.rms_norm %x, %w : tensor<8xf32> epsilon 1.0e-06 : tensor<4x8xf32>
  %p = graph.mul %x, %d : tensor<4x8xf32>
  %r = graph.reduce sum %p [1] : tensor<4x8xf32> -> tensor<4xf32>
  %c = graph.reduce sum %x [0] : tensor<4x8xf32> -> tensor<8xf32>
  return %n, %r, %c : tensor<4x8xf32>, tensor<4xf32>, tensor<8xf32>
}
