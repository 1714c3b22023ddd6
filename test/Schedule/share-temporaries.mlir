// RUN: shard-opt %s --shard-fuse --shard-schedule | FileCheck %s
// RUN: shard-opt %s --shard-fuse --shard-schedule | FileCheck %s --check-prefix=KERNELS

// KERNELS-NOT: _exp{{.*}} exec.in_place

// A sum over products has one buffer: behind a product its kernel adds to what is there.
// CHECK:     func.func private @kernel_1_einsum({{.*}}) -> tensor<16x16xf32> attributes {exec.in_place = [array<i64: 2, 0>], exec.kernel}
// CHECK:     exec.program @sum
// A part that is contiguous in its input is no kernel, but a place inside of it.
// CHECK:       exec.buffer input "x" at 0 size 768
// CHECK:       %[[X0:.*]] = exec.buffer temporary "x" at 0 size 192 of 0
// CHECK:       %[[X1:.*]] = exec.buffer temporary "x" at 192 size 192 of 0
// CHECK:       %[[X2:.*]] = exec.buffer temporary "x" at 384 size 192 of 0
// CHECK:       exec.launch @kernel_0_einsum(%[[X0]], %[[X1]]) to(%[[SUM:[0-9]+]])
// CHECK:       exec.launch @kernel_1_einsum(%[[X1]], %[[X2]], %[[SUM]]) to(%[[SUM]])
// CHECK:       exec.launch @kernel_1_einsum(%[[X2]], %[[X0]], %[[SUM]]) to(%[[SUM]])
func.func @sum(%x: tensor<4x3x16xf32> {graph.name = "x"}) -> (tensor<16xf32> {graph.name = "y"}) {
  %x0 = graph.slice %x [0, 0, 0] step [1, 1, 1] : tensor<4x3x16xf32> -> tensor<1x3x16xf32>
  %x1 = graph.slice %x [1, 0, 0] step [1, 1, 1] : tensor<4x3x16xf32> -> tensor<1x3x16xf32>
  %x2 = graph.slice %x [2, 0, 0] step [1, 1, 1] : tensor<4x3x16xf32> -> tensor<1x3x16xf32>
  %0 = graph.reshape %x0 : tensor<1x3x16xf32> -> tensor<3x16xf32>
  %1 = graph.reshape %x1 : tensor<1x3x16xf32> -> tensor<3x16xf32>
  %2 = graph.reshape %x2 : tensor<1x3x16xf32> -> tensor<3x16xf32>
  %g0 = graph.einsum "ba,bc->ac" %0, %1 : tensor<3x16xf32>, tensor<3x16xf32> -> tensor<16x16xf32>
  %g1 = graph.einsum "ba,bc->ac" %1, %2 : tensor<3x16xf32>, tensor<3x16xf32> -> tensor<16x16xf32>
  %s1 = graph.add %g0, %g1 : tensor<16x16xf32>
  %g2 = graph.einsum "ba,bc->ac" %2, %0 : tensor<3x16xf32>, tensor<3x16xf32> -> tensor<16x16xf32>
  %s2 = graph.add %s1, %g2 : tensor<16x16xf32>
  %r = graph.reduce max %s2 [0] : tensor<16x16xf32> -> tensor<16xf32>
  return %r : tensor<16xf32>
}

// A kernel is in place for all of its launches or for none: the second one's argument is read again.
// CHECK:       exec.program @again
// CHECK:       exec.launch @[[EXP:.*]](%0) to(%1)
// CHECK:       exec.launch @[[EXP]](%1) to(%2)
// CHECK:       exec.launch @[[EXP]](%2) to(%3)
func.func @again(%x: tensor<64x16xf32> {graph.name = "x"}) -> (tensor<64xf32> {graph.name = "y"}, tensor<64xf32> {graph.name = "z"}) {
  %0 = call @layer(%x) : (tensor<64x16xf32>) -> tensor<64x16xf32>
  %1 = call @layer(%0) : (tensor<64x16xf32>) -> tensor<64x16xf32>
  %2 = call @layer(%1) : (tensor<64x16xf32>) -> tensor<64x16xf32>
  %y = graph.reduce max %1 [1] : tensor<64x16xf32> -> tensor<64xf32>
  %z = graph.reduce min %2 [1] : tensor<64x16xf32> -> tensor<64xf32>
  return %y, %z : tensor<64xf32>, tensor<64xf32>
}
func.func private @layer(%x: tensor<64x16xf32>) -> tensor<64x16xf32> {
  %0 = graph.exp %x : tensor<64x16xf32>
  return %0 : tensor<64x16xf32>
}
