// RUN: shard-opt %s --shard-lower-cuda="emit=gpu" | FileCheck %s --check-prefix=GPU
// RUN: shard-opt %s --shard-lower-cuda="arch=sm_90a" -o /dev/null | FileCheck %s

// A block a row, two vectors a thread, which stay in registers: everything is read once. One barrier.
// GPU-LABEL: gpu.func @add_norm
// GPU-SAME: workgroup({{.*}} : memref<8xf32, #gpu.address_space<workgroup>> {llvm.align = 16 : i64})
// GPU-SAME: known_block_size = array<i32: 256, 1, 1>, known_grid_size = array<i32: 8, 1, 1>
// CHECK-LABEL: .entry add_norm(
// CHECK-COUNT-5: shfl.sync.bfly.b32
// CHECK: bar.sync
// CHECK-COUNT-3: shfl.sync.bfly.b32
// CHECK-NOT: bar.sync
// CHECK-COUNT-4: st.global.v4.b32
// CHECK-NOT: st.global
func.func private @add_norm(%x: tensor<8x4096xbf16>, %y: tensor<8x4096xbf16>, %w: tensor<4096xbf16>)
    -> (tensor<8x4096xbf16>, tensor<8x4096xbf16>) attributes {exec.kernel} {
  %s = graph.add %x, %y : tensor<8x4096xbf16>
  %r = graph.rms_norm %s, %w : tensor<4096xbf16> epsilon 1.0e-06 : tensor<8x4096xbf16>
  return %s, %r : tensor<8x4096xbf16>, tensor<8x4096xbf16>
}

// A warp a row: no shared memory, no barrier.
// GPU-LABEL: gpu.func @short_softmax
// GPU-SAME: known_block_size = array<i32: 128, 1, 1>, known_grid_size = array<i32: 3, 1, 1>
// CHECK-LABEL: .entry short_softmax(
// CHECK: shfl.sync
// CHECK-NOT: bar.sync
func.func private @short_softmax(%x: tensor<9x100xf32>) -> tensor<9x100xf32> attributes {exec.kernel} {
  %s = graph.softmax %x dim 1 : tensor<9x100xf32>
  return %s : tensor<9x100xf32>
}

// A row longer than registers: loops over it.
// GPU-LABEL: gpu.func @loss
// GPU-SAME: known_block_size = array<i32: 1024, 1, 1>
// GPU: scf.for
// GPU: gpu.barrier
// GPU: scf.for
// GPU: gpu.barrier
// CHECK-LABEL: .entry loss(
func.func private @loss(%x: tensor<4x128256xbf16>, %l: tensor<4xi64>) -> tensor<4xf32> attributes {exec.kernel} {
  %s = graph.softmax_cross_entropy %x, %l : tensor<4x128256xbf16>, tensor<4xi64> -> tensor<4xf32>
  return %s : tensor<4xf32>
}

// Columns: 32 of them a block, its warps take turns on the rows.
// GPU-LABEL: gpu.func @bias_gradient
// GPU-SAME: memref<1024xf32, #gpu.address_space<workgroup>>
// GPU-SAME: known_block_size = array<i32: 1024, 1, 1>, known_grid_size = array<i32: 4, 1, 1>
// CHECK-LABEL: .entry bias_gradient(
// CHECK: bar.sync
func.func private @bias_gradient(%x: tensor<512x100xbf16>) -> tensor<100xbf16> attributes {exec.kernel} {
  %s = graph.reduce sum %x [0] : tensor<512x100xbf16> -> tensor<100xbf16>
  return %s : tensor<100xbf16>
}
