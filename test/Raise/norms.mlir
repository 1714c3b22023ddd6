// RUN: shard-opt %s --shard-raise | FileCheck %s

// CHECK-LABEL: @rms_norm
// CHECK-SAME: (%[[X:.*]]: tensor<2x3x4xf32>, %[[W:.*]]: tensor<4xf32>)
func.func @rms_norm(%x: tensor<2x3x4xf32>, %w: tensor<4xf32>) -> tensor<2x3x4xf32> {
  // CHECK-NEXT: %[[N:.*]] = graph.rms_norm %[[X]], %[[W]] : tensor<4xf32> epsilon {{.*}} : tensor<2x3x4xf32>
  // CHECK-NEXT: return %[[N]]
  %two = graph.constant dense<2.0> : tensor<2x3x4xf32>
  %count = graph.constant dense<4.0> : tensor<2x3x1xf32>
  %eps = graph.constant dense<1.0e-06> : tensor<2x3x1xf32>
  %sq = graph.pow %x, %two : tensor<2x3x4xf32>
  %sum = graph.reduce sum %sq [2] : tensor<2x3x4xf32> -> tensor<2x3xf32>
  %keep = graph.reshape %sum : tensor<2x3xf32> -> tensor<2x3x1xf32>
  %mean = graph.div %keep, %count : tensor<2x3x1xf32>
  %plus = graph.add %mean, %eps : tensor<2x3x1xf32>
  %root = graph.sqrt %plus : tensor<2x3x1xf32>
  %inv = graph.reciprocal %root : tensor<2x3x1xf32>
  %b = graph.broadcast %inv [0, 1, 2] : tensor<2x3x1xf32> -> tensor<2x3x4xf32>
  %n = graph.mul %x, %b : tensor<2x3x4xf32>
  %wb = graph.broadcast %w [2] : tensor<4xf32> -> tensor<2x3x4xf32>
  %y = graph.mul %wb, %n : tensor<2x3x4xf32>
  return %y : tensor<2x3x4xf32>
}

// x * x, a product with 1/n, division by the root; Gemma's 1 + w.
// CHECK-LABEL: @rms_norm_by_division
// CHECK: %[[W1:.*]] = graph.add %{{.*}}, %{{.*}} : tensor<4xf32>
// CHECK-NEXT: graph.rms_norm %arg0, %[[W1]] : tensor<4xf32> epsilon {{.*}} : tensor<3x4xf32>
func.func @rms_norm_by_division(%x: tensor<3x4xf32>, %w: tensor<4xf32>) -> tensor<3x4xf32> {
  %quarter = graph.constant dense<0.25> : tensor<3xf32>
  %eps = graph.constant dense<1.0e-05> : tensor<3xf32>
  %one = graph.constant dense<1.0> : tensor<4xf32>
  %sq = graph.mul %x, %x : tensor<3x4xf32>
  %sum = graph.reduce sum %sq [1] : tensor<3x4xf32> -> tensor<3xf32>
  %mean = graph.mul %quarter, %sum : tensor<3xf32>
  %plus = graph.add %eps, %mean : tensor<3xf32>
  %root = graph.sqrt %plus : tensor<3xf32>
  %b = graph.broadcast %root [0] : tensor<3xf32> -> tensor<3x4xf32>
  %n = graph.div %x, %b : tensor<3x4xf32>
  %w1 = graph.add %one, %w : tensor<4xf32>
  %wb = graph.broadcast %w1 [1] : tensor<4xf32> -> tensor<3x4xf32>
  %y = graph.mul %n, %wb : tensor<3x4xf32>
  return %y : tensor<3x4xf32>
}

// Statistics are f32 in any case, but the norm is rounded to bf16 before its weight.
// CHECK-LABEL: @rms_norm_bf16
func.func @rms_norm_bf16(%x: tensor<3x4xbf16>, %w: tensor<4xbf16>) -> tensor<3x4xbf16> {
  // CHECK: %[[N:.*]] = graph.rms_norm %arg0 epsilon {{.*}} : tensor<3x4xbf16>
  // CHECK: graph.mul %[[N]], %{{.*}} : tensor<3x4xbf16>
  %count = graph.constant dense<4.0> : tensor<3x1xf32>
  %eps = graph.constant dense<1.0e-05> : tensor<3x1xf32>
  %two = graph.constant dense<2.0> : tensor<3x4xf32>
  %wide = graph.cast %x : tensor<3x4xbf16> -> tensor<3x4xf32>
  %sq = graph.pow %wide, %two : tensor<3x4xf32>
  %sum = graph.reduce sum %sq [1] : tensor<3x4xf32> -> tensor<3xf32>
  %keep = graph.reshape %sum : tensor<3xf32> -> tensor<3x1xf32>
  %mean = graph.div %keep, %count : tensor<3x1xf32>
  %plus = graph.add %mean, %eps : tensor<3x1xf32>
  %inv = graph.rsqrt %plus : tensor<3x1xf32>
  %b = graph.broadcast %inv [0, 1] : tensor<3x1xf32> -> tensor<3x4xf32>
  %n = graph.mul %wide, %b : tensor<3x4xf32>
  %narrow = graph.cast %n : tensor<3x4xf32> -> tensor<3x4xbf16>
  %wb = graph.broadcast %w [1] : tensor<4xbf16> -> tensor<3x4xbf16>
  %y = graph.mul %narrow, %wb : tensor<3x4xbf16>
  return %y : tensor<3x4xbf16>
}

// CHECK-LABEL: @layer_norm
func.func @layer_norm(%x: tensor<3x4xf32>, %w: tensor<4xf32>, %bias: tensor<4xf32>) -> tensor<3x4xf32> {
  // CHECK-NEXT: graph.layer_norm %arg0 weight %arg1 : tensor<4xf32> bias %arg2 : tensor<4xf32>
  // CHECK-NEXT: return
  %count = graph.constant dense<4.0> : tensor<3x1xf32>
  %eps = graph.constant dense<1.0e-05> : tensor<3x1xf32>
  %sum = graph.reduce sum %x [1] : tensor<3x4xf32> -> tensor<3xf32>
  %keep = graph.reshape %sum : tensor<3xf32> -> tensor<3x1xf32>
  %mean = graph.div %keep, %count : tensor<3x1xf32>
  %meanb = graph.broadcast %mean [0, 1] : tensor<3x1xf32> -> tensor<3x4xf32>
  %c = graph.sub %x, %meanb : tensor<3x4xf32>
  %sq = graph.mul %c, %c : tensor<3x4xf32>
  %sum2 = graph.reduce sum %sq [1] : tensor<3x4xf32> -> tensor<3xf32>
  %keep2 = graph.reshape %sum2 : tensor<3xf32> -> tensor<3x1xf32>
  %var = graph.div %keep2, %count : tensor<3x1xf32>
  %plus = graph.add %var, %eps : tensor<3x1xf32>
  %root = graph.sqrt %plus : tensor<3x1xf32>
  %b = graph.broadcast %root [0, 1] : tensor<3x1xf32> -> tensor<3x4xf32>
  %n = graph.div %c, %b : tensor<3x4xf32>
  %wb = graph.broadcast %w [1] : tensor<4xf32> -> tensor<3x4xf32>
  %y = graph.mul %n, %wb : tensor<3x4xf32>
  %bb = graph.broadcast %bias [1] : tensor<4xf32> -> tensor<3x4xf32>
  %z = graph.add %y, %bb : tensor<3x4xf32>
  return %z : tensor<3x4xf32>
}

// A sum, not a mean.
// CHECK-LABEL: @l2_norm_stays
// CHECK-NOT: rms_norm
// CHECK: return
func.func @l2_norm_stays(%x: tensor<3x4xf32>) -> tensor<3x4xf32> {
  %eps = graph.constant dense<1.0e-05> : tensor<3xf32>
  %sq = graph.mul %x, %x : tensor<3x4xf32>
  %sum = graph.reduce sum %sq [1] : tensor<3x4xf32> -> tensor<3xf32>
  %plus = graph.add %eps, %sum : tensor<3xf32>
  %inv = graph.rsqrt %plus : tensor<3xf32>
  %b = graph.broadcast %inv [0] : tensor<3xf32> -> tensor<3x4xf32>
  %n = graph.mul %x, %b : tensor<3x4xf32>
  return %n : tensor<3x4xf32>
}

// The mean square of something else.
// CHECK-LABEL: @foreign_statistic_stays
// CHECK-NOT: rms_norm
// CHECK: return
func.func @foreign_statistic_stays(%x: tensor<4x4xf32>, %z: tensor<4x4xf32>) -> tensor<4x4xf32> {
  %count = graph.constant dense<4.0> : tensor<4xf32>
  %eps = graph.constant dense<1.0e-05> : tensor<4xf32>
  %sq = graph.mul %z, %z : tensor<4x4xf32>
  %sum = graph.reduce sum %sq [1] : tensor<4x4xf32> -> tensor<4xf32>
  %mean = graph.div %sum, %count : tensor<4xf32>
  %plus = graph.add %eps, %mean : tensor<4xf32>
  %inv = graph.rsqrt %plus : tensor<4xf32>
  %b = graph.broadcast %inv [0] : tensor<4xf32> -> tensor<4x4xf32>
  %n = graph.mul %x, %b : tensor<4x4xf32>
  return %n : tensor<4x4xf32>
}

// The statistic of row i multiplies column i.
// CHECK-LABEL: @transposed_statistic_stays
// CHECK-NOT: rms_norm
// CHECK: return
func.func @transposed_statistic_stays(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
  %count = graph.constant dense<4.0> : tensor<4xf32>
  %eps = graph.constant dense<1.0e-05> : tensor<4xf32>
  %sq = graph.mul %x, %x : tensor<4x4xf32>
  %sum = graph.reduce sum %sq [1] : tensor<4x4xf32> -> tensor<4xf32>
  %mean = graph.div %sum, %count : tensor<4xf32>
  %plus = graph.add %eps, %mean : tensor<4xf32>
  %inv = graph.rsqrt %plus : tensor<4xf32>
  %b = graph.broadcast %inv [1] : tensor<4xf32> -> tensor<4x4xf32>
  %n = graph.mul %x, %b : tensor<4x4xf32>
  return %n : tensor<4x4xf32>
}
