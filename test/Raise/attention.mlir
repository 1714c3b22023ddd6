// RUN: shard-opt %s --shard-raise | FileCheck %s

// What torch writes below opset 23: repeated key heads, scale on both sides, a constant mask, a guard against NaN.
// CHECK-LABEL: @grouped_query_causal
// CHECK-SAME: (%[[Q:.*]]: tensor<2x4x3x8xf32>, %[[K:.*]]: tensor<2x2x3x8xf32>, %[[V:.*]]: tensor<2x2x3x8xf32>)
func.func @grouped_query_causal(%q: tensor<2x4x3x8xf32>, %k: tensor<2x2x3x8xf32>, %v: tensor<2x2x3x8xf32>) -> tensor<2x4x3x8xf32> {
  // CHECK-NEXT: %[[A:.*]] = graph.attention %[[Q]], %[[K]], %[[V]] scale 2.500000e-01 {causal = true}
  // CHECK-SAME: tensor<2x4x3x8xf32>, tensor<2x2x3x8xf32>, tensor<2x2x3x8xf32> -> tensor<2x4x3x8xf32>
  // CHECK-NEXT: return %[[A]]
  %mask = graph.constant dense<[[[0.0, -3.4e+38, -3.4e+38], [0.0, 0.0, -3.4e+38], [0.0, 0.0, 0.0]]]> : tensor<1x3x3xf32>
  %rootq = graph.constant dense<0.5> : tensor<2x4x3x8xf32>
  %rootk = graph.constant dense<0.5> : tensor<2x4x8x3xf32>
  %zero = graph.constant dense<0.0> : tensor<2x4x3x3xf32>
  %k5 = graph.reshape %k : tensor<2x2x3x8xf32> -> tensor<2x2x1x3x8xf32>
  %ke = graph.broadcast %k5 [0, 1, 2, 3, 4] : tensor<2x2x1x3x8xf32> -> tensor<2x2x2x3x8xf32>
  %k3 = graph.reshape %ke : tensor<2x2x2x3x8xf32> -> tensor<8x3x8xf32>
  %kt = graph.transpose %k3 [0, 2, 1] : tensor<8x3x8xf32> -> tensor<8x8x3xf32>
  %k4 = graph.reshape %kt : tensor<8x8x3xf32> -> tensor<2x4x8x3xf32>
  %v5 = graph.reshape %v : tensor<2x2x3x8xf32> -> tensor<2x2x1x3x8xf32>
  %ve = graph.broadcast %v5 [0, 1, 2, 3, 4] : tensor<2x2x1x3x8xf32> -> tensor<2x2x2x3x8xf32>
  %v4 = graph.reshape %ve : tensor<2x2x2x3x8xf32> -> tensor<2x4x3x8xf32>
  %qs = graph.mul %q, %rootq : tensor<2x4x3x8xf32>
  %ks = graph.mul %k4, %rootk : tensor<2x4x8x3xf32>
  %s = graph.einsum "abcd,abde->abce" %qs, %ks : tensor<2x4x3x8xf32>, tensor<2x4x8x3xf32> -> tensor<2x4x3x3xf32>
  %mb = graph.broadcast %mask [1, 2, 3] : tensor<1x3x3xf32> -> tensor<2x4x3x3xf32>
  %sm = graph.add %s, %mb : tensor<2x4x3x3xf32>
  %p = graph.softmax %sm dim 3 : tensor<2x4x3x3xf32>
  %nan = graph.is_nan %p : tensor<2x4x3x3xf32> -> tensor<2x4x3x3xi1>
  %safe = graph.select %nan, %zero, %p : tensor<2x4x3x3xi1>, tensor<2x4x3x3xf32>
  %o = graph.einsum "abce,abed->abcd" %safe, %v4 : tensor<2x4x3x3xf32>, tensor<2x4x3x8xf32> -> tensor<2x4x3x8xf32>
  return %o : tensor<2x4x3x8xf32>
}

// Gemma 2: scale, soft cap, mask, in this order. The result's dimensions are in another order.
// CHECK-LABEL: @soft_cap
// CHECK: %[[A:.*]] = graph.attention %arg0, %arg1, %arg2 mask %arg3 : tensor<2x1x3x5xf32> scale 2.500000e-01 {softcap = 5.000000e+01 : f64}
// CHECK-NEXT: graph.transpose %[[A]] [0, 2, 1, 3]
func.func @soft_cap(%q: tensor<2x4x3x8xf32>, %k: tensor<2x4x5x8xf32>, %v: tensor<2x4x5x6xf32>, %mask: tensor<2x1x3x5xf32>) -> tensor<2x3x4x6xf32> {
  %scale = graph.constant dense<0.25> : tensor<2x4x3x5xf32>
  %cap = graph.constant dense<50.0> : tensor<2x4x3x5xf32>
  %s = graph.einsum "bhsd,bhtd->bhst" %q, %k : tensor<2x4x3x8xf32>, tensor<2x4x5x8xf32> -> tensor<2x4x3x5xf32>
  %ss = graph.mul %s, %scale : tensor<2x4x3x5xf32>
  %d = graph.div %ss, %cap : tensor<2x4x3x5xf32>
  %t = graph.tanh %d : tensor<2x4x3x5xf32>
  %c = graph.mul %t, %cap : tensor<2x4x3x5xf32>
  %mb = graph.broadcast %mask [0, 1, 2, 3] : tensor<2x1x3x5xf32> -> tensor<2x4x3x5xf32>
  %sm = graph.add %mb, %c : tensor<2x4x3x5xf32>
  %p = graph.softmax %sm dim 3 : tensor<2x4x3x5xf32>
  %o = graph.einsum "bhst,bhtd->bshd" %p, %v : tensor<2x4x3x5xf32>, tensor<2x4x5x6xf32> -> tensor<2x3x4x6xf32>
  return %o : tensor<2x3x4x6xf32>
}

// Batch and heads as one dimension; the query's view says how they divide.
// CHECK-LABEL: @three_dimensional
// CHECK: %[[A:.*]] = graph.attention %arg0, %arg1, %arg2 scale 1.000000e+00
// CHECK-NEXT: graph.reshape %[[A]] : tensor<2x4x3x8xf32> -> tensor<8x3x8xf32>
func.func @three_dimensional(%q: tensor<2x4x3x8xf32>, %k: tensor<2x4x5x8xf32>, %v: tensor<2x4x5x8xf32>) -> tensor<8x3x8xf32> {
  %q3 = graph.reshape %q : tensor<2x4x3x8xf32> -> tensor<8x3x8xf32>
  %k3 = graph.reshape %k : tensor<2x4x5x8xf32> -> tensor<8x5x8xf32>
  %v3 = graph.reshape %v : tensor<2x4x5x8xf32> -> tensor<8x5x8xf32>
  %s = graph.einsum "nsd,ntd->nst" %q3, %k3 : tensor<8x3x8xf32>, tensor<8x5x8xf32> -> tensor<8x3x5xf32>
  %p = graph.softmax %s dim 2 : tensor<8x3x5xf32>
  %o = graph.einsum "nst,ntd->nsd" %p, %v3 : tensor<8x3x5xf32>, tensor<8x5x8xf32> -> tensor<8x3x8xf32>
  return %o : tensor<8x3x8xf32>
}

// Groups of queries as a dimension of their own.
// CHECK-LABEL: @five_dimensional
// CHECK: %[[Q:.*]] = graph.reshape %arg0 : tensor<2x2x3x4x8xf32> -> tensor<2x6x4x8xf32>
// CHECK: %[[A:.*]] = graph.attention %[[Q]], %arg1, %arg2 scale 1.000000e+00
// CHECK: graph.reshape %[[A]] : tensor<2x6x4x8xf32> -> tensor<2x2x3x4x8xf32>
func.func @five_dimensional(%q: tensor<2x2x3x4x8xf32>, %k: tensor<2x2x5x8xf32>, %v: tensor<2x2x5x8xf32>) -> tensor<2x2x3x4x8xf32> {
  %s = graph.einsum "bhgsd,bhtd->bhgst" %q, %k : tensor<2x2x3x4x8xf32>, tensor<2x2x5x8xf32> -> tensor<2x2x3x4x5xf32>
  %p = graph.softmax %s dim 4 : tensor<2x2x3x4x5xf32>
  %o = graph.einsum "bhgst,bhtd->bhgsd" %p, %v : tensor<2x2x3x4x5xf32>, tensor<2x2x5x8xf32> -> tensor<2x2x3x4x8xf32>
  return %o : tensor<2x2x3x4x8xf32>
}

// gpt-oss: a learnt logit per head joins the softmax and its column is dropped; the shift by the maximum goes.
// CHECK-LABEL: @sinks
// CHECK: graph.attention %arg0, %arg1, %arg2 sinks %arg3 : tensor<4xf32> scale 5.000000e-01
func.func @sinks(%q: tensor<2x4x3x8xf32>, %k: tensor<2x4x5x8xf32>, %v: tensor<2x4x5x8xf32>, %sink: tensor<4xf32>) -> tensor<2x4x3x8xf32> {
  %scale = graph.constant dense<0.5> : tensor<2x4x3x5xf32>
  %s = graph.einsum "bhsd,bhtd->bhst" %q, %k : tensor<2x4x3x8xf32>, tensor<2x4x5x8xf32> -> tensor<2x4x3x5xf32>
  %ss = graph.mul %s, %scale : tensor<2x4x3x5xf32>
  %r = graph.reshape %sink : tensor<4xf32> -> tensor<1x4x1x1xf32>
  %col = graph.broadcast %r [0, 1, 2, 3] : tensor<1x4x1x1xf32> -> tensor<2x4x3x1xf32>
  %all = graph.concat %ss, %col dim 3 : tensor<2x4x3x5xf32>, tensor<2x4x3x1xf32> -> tensor<2x4x3x6xf32>
  %max = graph.reduce max %all [3] : tensor<2x4x3x6xf32> -> tensor<2x4x3xf32>
  %maxb = graph.broadcast %max [0, 1, 2] : tensor<2x4x3xf32> -> tensor<2x4x3x6xf32>
  %shifted = graph.sub %all, %maxb : tensor<2x4x3x6xf32>
  %p = graph.softmax %shifted dim 3 : tensor<2x4x3x6xf32>
  %cut = graph.slice %p [0, 0, 0, 0] step [1, 1, 1, 1] : tensor<2x4x3x6xf32> -> tensor<2x4x3x5xf32>
  %o = graph.einsum "bhst,bhtd->bhsd" %cut, %v : tensor<2x4x3x5xf32>, tensor<2x4x5x8xf32> -> tensor<2x4x3x8xf32>
  return %o : tensor<2x4x3x8xf32>
}

// Scores in bf16, softmax in f32.
// CHECK-LABEL: @casts
// CHECK: graph.attention %arg0, %arg1, %arg2 mask %arg3 : tensor<1x1x3x5xi1> scale 1.000000e+00
func.func @casts(%q: tensor<2x4x3x8xbf16>, %k: tensor<2x4x5x8xbf16>, %v: tensor<2x4x5x8xbf16>, %seen: tensor<1x1x3x5xi1>) -> tensor<2x4x3x8xbf16> {
  %hidden = graph.constant dense<0xFF80> : tensor<2x4x3x5xbf16>
  %s = graph.einsum "bhsd,bhtd->bhst" %q, %k : tensor<2x4x3x8xbf16>, tensor<2x4x5x8xbf16> -> tensor<2x4x3x5xbf16>
  %b = graph.broadcast %seen [0, 1, 2, 3] : tensor<1x1x3x5xi1> -> tensor<2x4x3x5xi1>
  %m = graph.select %b, %s, %hidden : tensor<2x4x3x5xi1>, tensor<2x4x3x5xbf16>
  %w = graph.cast %m : tensor<2x4x3x5xbf16> -> tensor<2x4x3x5xf32>
  %p = graph.softmax %w dim 3 : tensor<2x4x3x5xf32>
  %n = graph.cast %p : tensor<2x4x3x5xf32> -> tensor<2x4x3x5xbf16>
  %o = graph.einsum "bhst,bhtd->bhsd" %n, %v : tensor<2x4x3x5xbf16>, tensor<2x4x5x8xbf16> -> tensor<2x4x3x8xbf16>
  return %o : tensor<2x4x3x8xbf16>
}

// The model returns the probabilities.
// CHECK-LABEL: @probabilities_used_elsewhere
// CHECK-NOT: graph.attention
// CHECK: return
func.func @probabilities_used_elsewhere(%q: tensor<2x4x3x8xf32>, %k: tensor<2x4x5x8xf32>, %v: tensor<2x4x5x8xf32>) -> (tensor<2x4x3x8xf32>, tensor<2x4x3x5xf32>) {
  %s = graph.einsum "bhsd,bhtd->bhst" %q, %k : tensor<2x4x3x8xf32>, tensor<2x4x5x8xf32> -> tensor<2x4x3x5xf32>
  %p = graph.softmax %s dim 3 : tensor<2x4x3x5xf32>
  %o = graph.einsum "bhst,bhtd->bhsd" %p, %v : tensor<2x4x3x5xf32>, tensor<2x4x5x8xf32> -> tensor<2x4x3x8xf32>
  return %o, %p : tensor<2x4x3x8xf32>, tensor<2x4x3x5xf32>
}

// The probabilities are contracted along the queries.
// CHECK-LABEL: @wrong_contraction
// CHECK-NOT: graph.attention
// CHECK: return
func.func @wrong_contraction(%q: tensor<2x4x5x8xf32>, %k: tensor<2x4x5x8xf32>, %v: tensor<2x4x5x8xf32>) -> tensor<2x4x5x8xf32> {
  %s = graph.einsum "bhsd,bhtd->bhst" %q, %k : tensor<2x4x5x8xf32>, tensor<2x4x5x8xf32> -> tensor<2x4x5x5xf32>
  %p = graph.softmax %s dim 3 : tensor<2x4x5x5xf32>
  %o = graph.einsum "bhst,bhsd->bhtd" %p, %v : tensor<2x4x5x5xf32>, tensor<2x4x5x8xf32> -> tensor<2x4x5x8xf32>
  return %o : tensor<2x4x5x8xf32>
}

// No kernel attends in f64.
// CHECK-LABEL: @double
// CHECK-NOT: graph.attention
// CHECK: graph.softmax
func.func @double(%q: tensor<2x4x3x8xf64>, %k: tensor<2x4x5x8xf64>, %v: tensor<2x4x5x6xf64>) -> tensor<2x4x3x6xf64> {
  %s = graph.einsum "abcd,abed->abce" %q, %k : tensor<2x4x3x8xf64>, tensor<2x4x5x8xf64> -> tensor<2x4x3x5xf64>
  %p = graph.softmax %s dim 3 : tensor<2x4x3x5xf64>
  %o = graph.einsum "abce,abed->abcd" %p, %v : tensor<2x4x3x5xf64>, tensor<2x4x5x6xf64> -> tensor<2x4x3x6xf64>
  return %o : tensor<2x4x3x6xf64>
}
