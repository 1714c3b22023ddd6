// RUN: shard-opt %s --shard-lower-cuda="emit=gpu" | FileCheck %s --check-prefix=GPU
// RUN: shard-opt %s --shard-lower-cuda="arch=sm_80" -o /dev/null | FileCheck %s

// A thread has eight neighbouring bf16: one load an operand, one store.
// GPU-LABEL: gpu.func @silu_mul
// GPU-SAME: memref<512xbf16> {llvm.align = 64 : i64, llvm.noalias, llvm.readonly}
// GPU-SAME: memref<512xbf16> {llvm.align = 64 : i64, llvm.noalias})
// GPU-SAME: known_block_size = array<i32: 64, 1, 1>
// CHECK: .target sm_80
// CHECK-LABEL: .entry silu_mul(
// CHECK-NEXT: .param .u64 .ptr .align 64 silu_mul_param_0,
// CHECK-COUNT-2: ld.global.nc.v4.b32
// CHECK-NOT: ld.global
// CHECK: st.global.v4.b32
// CHECK-NOT: st.global
func.func private @silu_mul(%g: tensor<8x64xbf16>, %u: tensor<8x64xbf16>) -> tensor<8x64xbf16> attributes {exec.kernel} {
  %s = graph.silu %g : tensor<8x64xbf16>
  %r = graph.mul %s, %u : tensor<8x64xbf16>
  return %r : tensor<8x64xbf16>
}

// More than fits the grid: each thread goes on with a stride of the whole grid. In place: the parameter is read as what may be written.
// GPU-LABEL: gpu.func @update
// GPU-SAME: %[[P:.*]]: memref<40000000xf32> {llvm.align = 64 : i64, llvm.noalias},
// GPU-SAME: known_block_size = array<i32: 256, 1, 1>, known_grid_size = array<i32: 16384, 1, 1>
// GPU: scf.for {{.*}} to %c10000000{{.*}} step %c4194304
// GPU: memref.load %[[P]]
// GPU: memref.store {{.*}}, %[[P]]
// CHECK-LABEL: .entry update(
// CHECK-DAG: ld.global.v4.b32
// CHECK-DAG: ld.global.nc.v4.b32
// CHECK: st.global.v4.b32
func.func private @update(%p: tensor<40000000xf32>, %g: tensor<40000000xf32>, %rate: tensor<f32>) -> tensor<40000000xf32>
    attributes {exec.kernel, exec.in_place = [array<i64: 0, 0>]} {
  %r = graph.broadcast %rate [] : tensor<f32> -> tensor<40000000xf32>
  %d = graph.mul %r, %g : tensor<40000000xf32>
  %n = graph.sub %p, %d : tensor<40000000xf32>
  return %n : tensor<40000000xf32>
}
