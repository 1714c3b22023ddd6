// RUN: shard-opt %s --shard-mixed-precision | FileCheck %s
// RUN: shard-opt %s --shard-mixed-precision=dtype=f16 | FileCheck %s --check-prefix=F16
// RUN: shard-opt %s --shard-mixed-precision=keep=norm | FileCheck %s --check-prefix=KEEP
// RUN: shard-opt %s --shard-mixed-precision=entry=padded | FileCheck %s --check-prefix=PAD
// RUN: shard-opt %s --shard-mixed-precision=dtype=f32 | FileCheck %s --check-prefix=WIDE

// F16: graph.einsum {{.*}} -> tensor<2x3xf16>
// WIDE-NOT: graph.cast

// CHECK-LABEL: func.func @main(%arg0: tensor<2xi64>, %arg1: tensor<2x4xf32>) -> tensor<2x3xf32>
func.func @main(%ids: tensor<2xi64>, %mask: tensor<2x4xf32>) -> tensor<2x3xf32> {
  // A parameter stays f32, and is cast where it is read narrow.
  // CHECK:      %[[E:.*]] = graph.parameter "embed" : tensor<8x4xf32>
  // CHECK-NEXT: %[[E16:.*]] = graph.cast %[[E]] : tensor<8x4xf32> -> tensor<8x4xbf16>
  // CHECK:      %[[N:.*]] = graph.parameter "norm" : tensor<4xf32>
  // CHECK-NEXT: %[[N16:.*]] = graph.cast %[[N]] : tensor<4xf32> -> tensor<4xbf16>
  // CHECK:      %[[W:.*]] = graph.parameter "head" : tensor<3x4xf32>
  // CHECK-NEXT: %[[W16:.*]] = graph.cast %[[W]] : tensor<3x4xf32> -> tensor<3x4xbf16>
  %e = graph.parameter "embed" : tensor<8x4xf32>
  %n = graph.parameter "norm" : tensor<4xf32>
  %w = graph.parameter "head" : tensor<3x4xf32>
  // What depends on no parameter is computed as it was, and narrowed where it is read.
  // CHECK:      %[[M:.*]] = graph.neg %arg1 : tensor<2x4xf32>
  // CHECK-NEXT: %[[M16:.*]] = graph.cast %[[M]]
  %m = graph.neg %mask : tensor<2x4xf32>
  // Activations begin narrow, and pointwise arithmetic and norms keep them so.
  // CHECK:      %[[X:.*]] = graph.gather %[[E16]], %arg0 axis 0 : tensor<8x4xbf16>, tensor<2xi64> -> tensor<2x4xbf16>
  // CHECK-NEXT: %[[A:.*]] = graph.add %[[X]], %[[M16]] : tensor<2x4xbf16>
  // CHECK-NEXT: %[[A32:.*]] = graph.cast %[[A]]
  %x = graph.gather %e, %ids axis 0 : tensor<8x4xf32>, tensor<2xi64> -> tensor<2x4xf32>
  %a = graph.add %x, %m : tensor<2x4xf32>
  // Exponentials, sums and the like are wide, and so is arithmetic on what they make.
  // CHECK-NEXT: %[[S:.*]] = graph.exp %[[A32]] : tensor<2x4xf32>
  // CHECK-NEXT: %[[T:.*]] = graph.mul %[[S]], %[[A32]] : tensor<2x4xf32>
  // CHECK-NEXT: %[[T16:.*]] = graph.cast %[[T]]
  %s = graph.exp %a : tensor<2x4xf32>
  %t = graph.mul %s, %a : tensor<2x4xf32>
  // A contraction is narrow if anything that it reads is.
  // CHECK-NEXT: %[[C:.*]] = graph.einsum "bk,bk->bk" %[[A]], %[[T16]] : tensor<2x4xbf16>, tensor<2x4xbf16> -> tensor<2x4xbf16>
  // CHECK-NEXT: %[[R:.*]] = graph.rms_norm %[[C]], %[[N16]]
  // CHECK-NEXT: %[[Y:.*]] = graph.einsum "bk,nk->bn" %[[R]], %[[W16]] : tensor<2x4xbf16>, tensor<3x4xbf16> -> tensor<2x3xbf16>
  %c = graph.einsum "bk,bk->bk" %a, %t : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x4xf32>
  // Who reads a kept parameter is wide.
  // KEEP: graph.rms_norm {{.*}} : tensor<2x4xf32>
  // KEEP-NEXT: graph.einsum {{.*}} -> tensor<2x3xf32>
  %r = graph.rms_norm %c, %n : tensor<4xf32> epsilon 1.0e-5 : tensor<2x4xf32>
  %y = graph.einsum "bk,nk->bn" %r, %w : tensor<2x4xf32>, tensor<3x4xf32> -> tensor<2x3xf32>
  // Outputs keep their types.
  // CHECK-NEXT: %[[Y32:.*]] = graph.cast %[[Y]]
  // CHECK-NEXT: return %[[Y32]]
  return %y : tensor<2x3xf32>
}

// What surrounds a value has its type.
// PAD-LABEL: func.func @padded(%arg0: tensor<2xi64>) -> tensor<2x6xf32>
func.func @padded(%ids: tensor<2xi64>) -> tensor<2x6xf32> {
  %embed = graph.parameter "embed" : tensor<8x4xf32>
  %x = graph.gather %embed, %ids axis 0 : tensor<8x4xf32>, tensor<2xi64> -> tensor<2x4xf32>
  // PAD: graph.pad %{{.*}} low [0, 2] high [0, 0] with 1.500000e+00 : bf16 : tensor<2x4xbf16> -> tensor<2x6xbf16>
  %y = graph.pad %x low [0, 2] high [0, 0] with 1.5 : f32 : tensor<2x4xf32> -> tensor<2x6xf32>
  return %y : tensor<2x6xf32>
}
