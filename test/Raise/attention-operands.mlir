// RUN: shard-opt %s --shard-raise | FileCheck %s

// CHECK-LABEL: @repeated_heads
// CHECK-NEXT: graph.attention %arg0, %arg1, %arg2 scale
func.func @repeated_heads(%q: tensor<2x4x3x8xf32>, %k: tensor<2x2x3x8xf32>, %v: tensor<2x2x3x8xf32>) -> tensor<2x4x3x8xf32> {
  %kb = graph.broadcast %k [0, 1, 3, 4] : tensor<2x2x3x8xf32> -> tensor<2x2x2x3x8xf32>
  %kr = graph.reshape %kb : tensor<2x2x2x3x8xf32> -> tensor<2x4x3x8xf32>
  %vb = graph.broadcast %v [0, 1, 3, 4] : tensor<2x2x3x8xf32> -> tensor<2x2x2x3x8xf32>
  %vr = graph.reshape %vb : tensor<2x2x2x3x8xf32> -> tensor<2x4x3x8xf32>
  %o = graph.attention %q, %kr, %vr scale 1.0 : tensor<2x4x3x8xf32>, tensor<2x4x3x8xf32>, tensor<2x4x3x8xf32> -> tensor<2x4x3x8xf32>
  return %o : tensor<2x4x3x8xf32>
}

// Heads in the order 0 1 0 1: query head 1 reads key head 1, which no grouping says.
// CHECK-LABEL: @tiled_heads_stay
// CHECK: graph.broadcast
// CHECK: graph.attention %arg0, %{{.*}}, %{{.*}} scale 1.000000e+00 : tensor<2x4x3x8xf32>, tensor<2x4x3x8xf32>
func.func @tiled_heads_stay(%q: tensor<2x4x3x8xf32>, %k: tensor<2x2x3x8xf32>) -> tensor<2x4x3x8xf32> {
  %kb = graph.broadcast %k [0, 2, 3, 4] : tensor<2x2x3x8xf32> -> tensor<2x2x2x3x8xf32>
  %kr = graph.reshape %kb : tensor<2x2x2x3x8xf32> -> tensor<2x4x3x8xf32>
  %o = graph.attention %q, %kr, %kr scale 1.0 : tensor<2x4x3x8xf32>, tensor<2x4x3x8xf32>, tensor<2x4x3x8xf32> -> tensor<2x4x3x8xf32>
  return %o : tensor<2x4x3x8xf32>
}

// CHECK-LABEL: @sliding_window
// CHECK-NEXT: graph.attention %arg0, %arg0, %arg0 scale 1.000000e+00 {causal = true, window = 2 : i64}
func.func @sliding_window(%q: tensor<1x2x4x8xf32>) -> tensor<1x2x4x8xf32> {
  %mask = graph.constant dense<[[[[true, false, false, false], [true, true, false, false], [false, true, true, false], [false, false, true, true]]]]> : tensor<1x1x4x4xi1>
  %o = graph.attention %q, %q, %q mask %mask : tensor<1x1x4x4xi1> scale 1.0 : tensor<1x2x4x8xf32>, tensor<1x2x4x8xf32>, tensor<1x2x4x8xf32> -> tensor<1x2x4x8xf32>
  return %o : tensor<1x2x4x8xf32>
}

// Two new queries after three cached keys.
// CHECK-LABEL: @cached_keys
// CHECK-NEXT: graph.attention %arg0, %arg1, %arg1 scale 1.000000e+00 {causal = true, causalOffset = 3 : i64}
func.func @cached_keys(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x5x8xf32>) -> tensor<1x2x2x8xf32> {
  %mask = graph.constant dense<[[[[0.0, 0.0, 0.0, 0.0, 0xFF800000], [0.0, 0.0, 0.0, 0.0, 0.0]]]]> : tensor<1x1x2x5xf32>
  %o = graph.attention %q, %k, %k mask %mask : tensor<1x1x2x5xf32> scale 1.0 : tensor<1x2x2x8xf32>, tensor<1x2x5x8xf32>, tensor<1x2x5x8xf32> -> tensor<1x2x2x8xf32>
  return %o : tensor<1x2x2x8xf32>
}

// One query sees everything.
// CHECK-LABEL: @mask_of_zeros
// CHECK-NEXT: graph.attention %arg0, %arg1, %arg1 scale 1.000000e+00 :
func.func @mask_of_zeros(%q: tensor<1x2x1x8xf32>, %k: tensor<1x2x5x8xf32>) -> tensor<1x2x1x8xf32> {
  %mask = graph.constant dense<0.0> : tensor<1x1x1x5xf32>
  %o = graph.attention %q, %k, %k mask %mask : tensor<1x1x1x5xf32> scale 1.0 : tensor<1x2x1x8xf32>, tensor<1x2x5x8xf32>, tensor<1x2x5x8xf32> -> tensor<1x2x1x8xf32>
  return %o : tensor<1x2x1x8xf32>
}

// What remains of a mask that is too large to fold: positions compared, a window of 3, and a padding mask that stays.
// CHECK-LABEL: @computed_mask
// CHECK: graph.attention %arg0, %arg0, %arg0 mask %arg1 : tensor<2x1x1x8xi1> scale 1.000000e+00 {causal = true, window = 3 : i64}
func.func @computed_mask(%q: tensor<2x2x8x4xf32>, %padding: tensor<2x1x1x8xi1>) -> tensor<2x2x8x4xf32> {
  %three = graph.constant dense<3> : tensor<8x8xi64>
  %zero = graph.constant dense<0.0> : tensor<2x1x8x8xf32>
  %hidden = graph.constant dense<0xFF800000> : tensor<2x1x8x8xf32>
  %row = graph.iota dim 0 : tensor<8x8xi64>
  %key = graph.iota dim 1 : tensor<8x8xi64>
  %past = graph.compare le %key, %row : tensor<8x8xi64> -> tensor<8x8xi1>
  %first = graph.sub %row, %three : tensor<8x8xi64>
  %recent = graph.compare gt %key, %first : tensor<8x8xi64> -> tensor<8x8xi1>
  %band = graph.and %past, %recent : tensor<8x8xi1>
  %b = graph.broadcast %band [2, 3] : tensor<8x8xi1> -> tensor<2x1x8x8xi1>
  %p = graph.broadcast %padding [0, 1, 2, 3] : tensor<2x1x1x8xi1> -> tensor<2x1x8x8xi1>
  %seen = graph.and %b, %p : tensor<2x1x8x8xi1>
  %mask = graph.select %seen, %zero, %hidden : tensor<2x1x8x8xi1>, tensor<2x1x8x8xf32>
  %o = graph.attention %q, %q, %q mask %mask : tensor<2x1x8x8xf32> scale 1.0 : tensor<2x2x8x4xf32>, tensor<2x2x8x4xf32>, tensor<2x2x8x4xf32> -> tensor<2x2x8x4xf32>
  return %o : tensor<2x2x8x4xf32>
}

// A row that sees nothing: an average under this mask, zeros under an attribute.
// CHECK-LABEL: @row_without_keys
// CHECK: graph.attention %arg0, %arg0, %arg0 mask
func.func @row_without_keys(%q: tensor<1x2x2x8xf32>) -> tensor<1x2x2x8xf32> {
  %mask = graph.constant dense<[[[[-1.0e+30, -1.0e+30], [0.0, -1.0e+30]]]]> : tensor<1x1x2x2xf32>
  %o = graph.attention %q, %q, %q mask %mask : tensor<1x1x2x2xf32> scale 1.0 : tensor<1x2x2x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x2x8xf32> -> tensor<1x2x2x8xf32>
  return %o : tensor<1x2x2x8xf32>
}

// A bias, not a mask.
// CHECK-LABEL: @bias_stays
// CHECK: graph.attention %arg0, %arg0, %arg0 mask
func.func @bias_stays(%q: tensor<1x2x2x8xf32>) -> tensor<1x2x2x8xf32> {
  %mask = graph.constant dense<[[[[0.0, -1.0e+30], [-2.0, 0.0]]]]> : tensor<1x1x2x2xf32>
  %o = graph.attention %q, %q, %q mask %mask : tensor<1x1x2x2xf32> scale 1.0 : tensor<1x2x2x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x2x8xf32> -> tensor<1x2x2x8xf32>
  return %o : tensor<1x2x2x8xf32>
}

// Batches that see different keys.
// CHECK-LABEL: @batches_differ
// CHECK: graph.attention %arg0, %arg0, %arg0 mask
func.func @batches_differ(%q: tensor<2x2x2x8xf32>) -> tensor<2x2x2x8xf32> {
  %mask = graph.constant dense<[[[[true, false], [true, true]]], [[[true, true], [true, true]]]]> : tensor<2x1x2x2xi1>
  %o = graph.attention %q, %q, %q mask %mask : tensor<2x1x2x2xi1> scale 1.0 : tensor<2x2x2x8xf32>, tensor<2x2x2x8xf32>, tensor<2x2x2x8xf32> -> tensor<2x2x2x8xf32>
  return %o : tensor<2x2x2x8xf32>
}
