// RUN: shard-opt %s | shard-opt | FileCheck %s
// RUN: shard-opt %s --mlir-print-op-generic | shard-opt | FileCheck %s

// CHECK-LABEL: @contractions
func.func @contractions(%x: tensor<2x4xf32>, %w: tensor<3x5x4xf32>, %g: tensor<2xi64>, %c: tensor<1x2x5xf32>,
                        %k: tensor<4x1x3xf32>, %z: tensor<4x4xf32>, %v: tensor<6x5x4xf32>, %h: tensor<4xi64>) {
  // CHECK: graph.einsum "tk,enk->etn" %{{.*}}, %{{.*}} : tensor<2x4xf32>, tensor<3x5x4xf32> -> tensor<3x2x5xf32>
  %0 = graph.einsum "tk,enk->etn" %x, %w : tensor<2x4xf32>, tensor<3x5x4xf32> -> tensor<3x2x5xf32>
  // CHECK: graph.grouped_matmul %{{.*}}, %{{.*}} by %{{.*}} : tensor<2x4xf32>, tensor<3x5x4xf32>, tensor<2xi64> -> tensor<2x5xf32>
  %1 = graph.grouped_matmul %x, %w by %g : tensor<2x4xf32>, tensor<3x5x4xf32>, tensor<2xi64> -> tensor<2x5xf32>
  // CHECK: graph.grouped_matmul_grad %{{.*}}, %{{.*}} by %{{.*}} : tensor<2x4xf32>, tensor<2x5xf32>, tensor<2xi64> -> tensor<3x5x4xf32>
  %3 = graph.grouped_matmul_grad %x, %1 by %g : tensor<2x4xf32>, tensor<2x5xf32>, tensor<2xi64> -> tensor<3x5x4xf32>
  // CHECK: graph.grouped_matmul %{{.*}}, %{{.*}} by %{{.*}} {blocks = 2 : i64} : tensor<4x4xf32>
  %4 = graph.grouped_matmul %z, %v by %h {blocks = 2 : i64} : tensor<4x4xf32>, tensor<6x5x4xf32>, tensor<4xi64> -> tensor<4x5xf32>
  // CHECK: graph.conv %{{.*}}, %{{.*}} {dilations = array<i64: 1>, group = 2 : i64, padHigh = array<i64: 0>, padLow = array<i64: 2>, strides = array<i64: 1>} : tensor<1x2x5xf32>, tensor<4x1x3xf32> -> tensor<1x4x5xf32>
  %2 = graph.conv %c, %k {strides = array<i64: 1>, padLow = array<i64: 2>, padHigh = array<i64: 0>, dilations = array<i64: 1>, group = 2 : i64} : tensor<1x2x5xf32>, tensor<4x1x3xf32> -> tensor<1x4x5xf32>
  return
}

// CHECK-LABEL: @reductions
func.func @reductions(%x: tensor<2x4xf32>) {
  // CHECK: graph.reduce max %{{.*}} [1] : tensor<2x4xf32> -> tensor<2xf32>
  %0 = graph.reduce max %x [1] : tensor<2x4xf32> -> tensor<2xf32>
  // CHECK: graph.arg_reduce %{{.*}} dim 1 largest true last false : tensor<2x4xf32> -> tensor<2xi64>
  %1 = graph.arg_reduce %x dim 1 largest true last false : tensor<2x4xf32> -> tensor<2xi64>
  // CHECK: graph.cumsum %{{.*}} dim 1 {exclusive = true} : tensor<2x4xf32>
  %2 = graph.cumsum %x dim 1 {exclusive = true} : tensor<2x4xf32>
  // CHECK: graph.topk %{{.*}} dim 1 largest true : tensor<2x4xf32> -> tensor<2x3xf32>, tensor<2x3xi64>
  %3, %4 = graph.topk %x dim 1 largest true : tensor<2x4xf32> -> tensor<2x3xf32>, tensor<2x3xi64>
  // CHECK: graph.softmax %{{.*}} dim 0 : tensor<2x4xf32>
  %5 = graph.softmax %x dim 0 : tensor<2x4xf32>
  return
}

// CHECK-LABEL: @norms
func.func @norms(%x: tensor<2x4xf32>, %w: tensor<4xf32>) {
  // CHECK: graph.rms_norm %{{.*}}, %{{.*}} : tensor<4xf32> epsilon 1.000000e-05 : tensor<2x4xf32>
  %0 = graph.rms_norm %x, %w : tensor<4xf32> epsilon 1.0e-5 : tensor<2x4xf32>
  // CHECK: graph.rms_norm %{{.*}} epsilon 1.000000e-05 {normDims = 2 : i64} : tensor<2x4xf32>
  %1 = graph.rms_norm %x epsilon 1.0e-5 {normDims = 2 : i64} : tensor<2x4xf32>
  // CHECK: graph.layer_norm %{{.*}} weight %{{.*}} : tensor<4xf32> bias %{{.*}} : tensor<4xf32> epsilon 1.000000e-05 : tensor<2x4xf32>
  %2 = graph.layer_norm %x weight %w : tensor<4xf32> bias %w : tensor<4xf32> epsilon 1.0e-5 : tensor<2x4xf32>
  // CHECK: graph.layer_norm %{{.*}} bias %{{.*}} : tensor<4xf32> epsilon 1.000000e-05 : tensor<2x4xf32>
  %3 = graph.layer_norm %x bias %w : tensor<4xf32> epsilon 1.0e-5 : tensor<2x4xf32>
  return
}

// CHECK-LABEL: @blocks
func.func @blocks(%q: tensor<1x4x3x2xf32>, %k: tensor<1x2x5x2xf32>, %m: tensor<1x1x3x5xi1>, %s: tensor<4xf32>,
                  %t: tensor<1x3x1xf32>, %l: tensor<3x8xf32>, %y: tensor<3xi64>) {
  // CHECK: graph.rope %{{.*}}, %{{.*}}, %{{.*}} {interleaved = true} : tensor<1x4x3x2xf32>, tensor<1x3x1xf32>
  %0 = graph.rope %q, %t, %t {interleaved = true} : tensor<1x4x3x2xf32>, tensor<1x3x1xf32>
  // CHECK: graph.attention %{{.*}}, %{{.*}}, %{{.*}} mask %{{.*}} : tensor<1x1x3x5xi1> sinks %{{.*}} : tensor<4xf32> scale 5.000000e-01 {causal = true, causalOffset = 2 : i64, window = 2 : i64}
  %1 = graph.attention %q, %k, %k mask %m : tensor<1x1x3x5xi1> sinks %s : tensor<4xf32> scale 0.5 {causal = true, causalOffset = 2 : i64, window = 2 : i64} : tensor<1x4x3x2xf32>, tensor<1x2x5x2xf32>, tensor<1x2x5x2xf32> -> tensor<1x4x3x2xf32>
  // CHECK: graph.attention_grad %{{.*}}, %{{.*}}, %{{.*}} mask %{{.*}} : tensor<1x1x3x5xi1> sinks %{{.*}} : tensor<4xf32> cotangent %{{.*}} scale 5.000000e-01 {softcap = 2.000000e+00 : f64} : tensor<1x4x3x2xf32>, tensor<1x2x5x2xf32>, tensor<1x2x5x2xf32>, tensor<1x4x3x2xf32> -> tensor<1x4x3x2xf32>, tensor<1x2x5x2xf32>, tensor<1x2x5x2xf32>, tensor<4xf32>
  %3:4 = graph.attention_grad %q, %k, %k mask %m : tensor<1x1x3x5xi1> sinks %s : tensor<4xf32> cotangent %1 scale 0.5 {softcap = 2.0 : f64} : tensor<1x4x3x2xf32>, tensor<1x2x5x2xf32>, tensor<1x2x5x2xf32>, tensor<1x4x3x2xf32> -> tensor<1x4x3x2xf32>, tensor<1x2x5x2xf32>, tensor<1x2x5x2xf32>, tensor<4xf32>
  // CHECK: graph.attention_grad %{{.*}}, %{{.*}}, %{{.*}} cotangent %{{.*}} scale 1.000000e+00 : tensor<1x4x3x2xf32>, tensor<1x2x5x2xf32>, tensor<1x2x5x2xf32>, tensor<1x4x3x2xf32> -> tensor<1x4x3x2xf32>, tensor<1x2x5x2xf32>, tensor<1x2x5x2xf32>
  %4:3 = graph.attention_grad %q, %k, %k cotangent %1 scale 1.0 : tensor<1x4x3x2xf32>, tensor<1x2x5x2xf32>, tensor<1x2x5x2xf32>, tensor<1x4x3x2xf32> -> tensor<1x4x3x2xf32>, tensor<1x2x5x2xf32>, tensor<1x2x5x2xf32>
  // CHECK: graph.softmax_cross_entropy %{{.*}}, %{{.*}} : tensor<3x8xf32>, tensor<3xi64> -> tensor<3xf32>
  %2 = graph.softmax_cross_entropy %l, %y : tensor<3x8xf32>, tensor<3xi64> -> tensor<3xf32>
  return
}
