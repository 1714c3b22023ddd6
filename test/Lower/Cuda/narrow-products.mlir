// RUN: shard-opt %s --shard-lower-cuda="arch=sm_90a output=%t" -o /dev/null && FileCheck %s < %t/kernels.json

// cuBLASLt multiplies 8-bit floats whose sums and rows are multiples of 16. Others are widened to bf16, which holds every one of them, and the
// kernel has a note that says why.

// CHECK: "dtype": "f8E4M3FN"
// CHECK: "kind": "gemm"
// CHECK-NOT: "note"
// CHECK: "name": "fits"
// CHECK-NOT: "note"
func.func private @fits(%x: tensor<8x32xf8E4M3FN>, %w: tensor<16x32xf8E4M3FN>, %s: tensor<f32>, %t: tensor<f32>) -> tensor<8x16xf32> attributes {exec.kernel} {
  %0 = graph.einsum "mk,nk->mn" %x, %w : tensor<8x32xf8E4M3FN>, tensor<16x32xf8E4M3FN> -> tensor<8x16xf32>
  %1 = graph.mul %s, %t : tensor<f32>
  %2 = graph.broadcast %1 [] : tensor<f32> -> tensor<8x16xf32>
  %3 = graph.mul %0, %2 : tensor<8x16xf32>
  return %3 : tensor<8x16xf32>
}

// CHECK: "symbol": "sums_a"
// CHECK: "symbol": "sums_b"
// CHECK: "dtype": "bf16"
// CHECK: "dtype": "bf16"
// CHECK: "dtype": "f32"
// CHECK: "k": 24
// CHECK: "name": "sums"
// CHECK: "note": "fp8: sums are over 24 elements, which is no multiple of 16: multiplied as bf16"
func.func private @sums(%x: tensor<2x4x24xf8E4M3FN>, %w: tensor<16x24xf8E5M2>) -> tensor<2x4x16xf32> attributes {exec.kernel} {
  %0 = graph.einsum "amk,nk->amn" %x, %w : tensor<2x4x24xf8E4M3FN>, tensor<16x24xf8E5M2> -> tensor<2x4x16xf32>
  return %0 : tensor<2x4x16xf32>
}

// CHECK: "symbol": "rows"
// CHECK: "note": "fp8: rows have 20 elements, which is no multiple of 16: multiplied as bf16"
func.func private @rows(%x: tensor<8x32xf8E4M3FN>, %w: tensor<32x20xf8E4M3FN>, %s: tensor<f32>) -> tensor<8x20xf16> attributes {exec.kernel} {
  %0 = graph.einsum "mk,kn->mn" %x, %w : tensor<8x32xf8E4M3FN>, tensor<32x20xf8E4M3FN> -> tensor<8x20xf32>
  %1 = graph.broadcast %s [] : tensor<f32> -> tensor<8x20xf32>
  %2 = graph.mul %0, %1 : tensor<8x20xf32>
  %3 = graph.cast %2 : tensor<8x20xf32> -> tensor<8x20xf16>
  return %3 : tensor<8x20xf16>
}

// CHECK: "note": "fp8: is a batch of 3: multiplied as bf16"
func.func private @batch(%x: tensor<3x8x32xf8E4M3FN>, %w: tensor<3x16x32xf8E4M3FN>) -> tensor<3x8x16xf32> attributes {exec.kernel} {
  %0 = graph.einsum "bmk,bnk->bmn" %x, %w : tensor<3x8x32xf8E4M3FN>, tensor<3x16x32xf8E4M3FN> -> tensor<3x8x16xf32>
  return %0 : tensor<3x8x16xf32>
}
