// RUN: shard-opt %s --shard-find-roles | FileCheck %s

// CHECK-LABEL: @decoder
func.func @decoder(%ids: tensor<2x3xi64>, %cos: tensor<1x3x2xf32>, %sin: tensor<1x3x2xf32>) -> tensor<2x3x16xf32> {
  %table = graph.parameter "a" : tensor<16x8xf32>
  %wn = graph.parameter "b" : tensor<8xf32>
  %wq = graph.parameter "c" : tensor<8x8xf32>
  %bq = graph.parameter "c2" : tensor<8xf32>
  %wk = graph.parameter "d" : tensor<8x8xf32>
  %wv = graph.parameter "e" : tensor<8x8xf32>
  %wo = graph.parameter "f" : tensor<8x8xf32>
  %wqn = graph.parameter "g" : tensor<4xf32>
  %wg = graph.parameter "h" : tensor<12x8xf32>
  %wu = graph.parameter "i" : tensor<12x8xf32>
  %wd = graph.parameter "j" : tensor<8x12xf32>
  // CHECK: graph.gather {{.*}} {graph.role = "embedding"}
  %x = graph.gather %table, %ids axis 0 : tensor<16x8xf32>, tensor<2x3xi64> -> tensor<2x3x8xf32>
  // CHECK: graph.rms_norm {{.*}} {graph.role = "norm"}
  %n = graph.rms_norm %x, %wn : tensor<8xf32> epsilon 1.0e-6 : tensor<2x3x8xf32>
  // CHECK: graph.einsum {{.*}} {graph.role = "q_proj"}
  %q = graph.einsum "bsk,nk->bsn" %n, %wq : tensor<2x3x8xf32>, tensor<8x8xf32> -> tensor<2x3x8xf32>
  %bb = graph.broadcast %bq [2] : tensor<8xf32> -> tensor<2x3x8xf32>
  // CHECK: graph.add {{.*}} {graph.role = "q_proj"}
  %qb = graph.add %q, %bb : tensor<2x3x8xf32>
  %qr = graph.reshape %qb : tensor<2x3x8xf32> -> tensor<2x3x2x4xf32>
  // CHECK: graph.rms_norm {{.*}} {graph.role = "q_norm"}
  %qn = graph.rms_norm %qr, %wqn : tensor<4xf32> epsilon 1.0e-6 : tensor<2x3x2x4xf32>
  %qt = graph.transpose %qn [0, 2, 1, 3] : tensor<2x3x2x4xf32> -> tensor<2x2x3x4xf32>
  %qp = graph.rope %qt, %cos, %sin : tensor<2x2x3x4xf32>, tensor<1x3x2xf32>
  // CHECK: graph.einsum {{.*}} {graph.role = "k_proj"}
  %k = graph.einsum "bsk,nk->bsn" %n, %wk : tensor<2x3x8xf32>, tensor<8x8xf32> -> tensor<2x3x8xf32>
  %kr = graph.reshape %k : tensor<2x3x8xf32> -> tensor<2x3x2x4xf32>
  %kt = graph.transpose %kr [0, 2, 1, 3] : tensor<2x3x2x4xf32> -> tensor<2x2x3x4xf32>
  // CHECK: graph.einsum {{.*}} {graph.role = "v_proj"}
  %v = graph.einsum "bsk,nk->bsn" %n, %wv : tensor<2x3x8xf32>, tensor<8x8xf32> -> tensor<2x3x8xf32>
  %vr = graph.reshape %v : tensor<2x3x8xf32> -> tensor<2x3x2x4xf32>
  %vt = graph.transpose %vr [0, 2, 1, 3] : tensor<2x3x2x4xf32> -> tensor<2x2x3x4xf32>
  // CHECK: graph.attention {{.*}} graph.role = "attention"
  %a = graph.attention %qp, %kt, %vt scale 0.5 {causal = true} : tensor<2x2x3x4xf32>, tensor<2x2x3x4xf32>, tensor<2x2x3x4xf32> -> tensor<2x2x3x4xf32>
  %at = graph.transpose %a [0, 2, 1, 3] : tensor<2x2x3x4xf32> -> tensor<2x3x2x4xf32>
  %ar = graph.reshape %at : tensor<2x3x2x4xf32> -> tensor<2x3x8xf32>
  // CHECK: graph.einsum {{.*}} {graph.role = "o_proj"}
  %o = graph.einsum "bsk,nk->bsn" %ar, %wo : tensor<2x3x8xf32>, tensor<8x8xf32> -> tensor<2x3x8xf32>
  %h = graph.add %x, %o : tensor<2x3x8xf32>
  // CHECK: graph.einsum {{.*}} {graph.role = "gate_proj"}
  %g = graph.einsum "bsk,nk->bsn" %h, %wg : tensor<2x3x8xf32>, tensor<12x8xf32> -> tensor<2x3x12xf32>
  %s = graph.silu %g : tensor<2x3x12xf32>
  // CHECK: graph.einsum {{.*}} {graph.role = "up_proj"}
  %u = graph.einsum "bsk,nk->bsn" %h, %wu : tensor<2x3x8xf32>, tensor<12x8xf32> -> tensor<2x3x12xf32>
  %m = graph.mul %s, %u : tensor<2x3x12xf32>
  // CHECK: graph.einsum {{.*}} {graph.role = "down_proj"}
  %d = graph.einsum "bsk,nk->bsn" %m, %wd : tensor<2x3x12xf32>, tensor<8x12xf32> -> tensor<2x3x8xf32>
  %r = graph.add %h, %d : tensor<2x3x8xf32>
  // CHECK: graph.einsum {{.*}} {graph.role = "lm_head"}
  %l = graph.einsum "bsk,nk->bsn" %r, %table : tensor<2x3x8xf32>, tensor<16x8xf32> -> tensor<2x3x16xf32>
  return %l : tensor<2x3x16xf32>
}

// CHECK-LABEL: @two_layers
func.func @two_layers(%x: tensor<3x8xf32>) -> tensor<3x8xf32> {
  // CHECK: graph.einsum {{.*}} {graph.role = "fc1"}
  // CHECK: graph.einsum {{.*}} {graph.role = "fc2"}
  %w1 = graph.parameter "w1" : tensor<8x16xf32>
  %w2 = graph.parameter "w2" : tensor<16x8xf32>
  %a = graph.einsum "mk,kn->mn" %x, %w1 : tensor<3x8xf32>, tensor<8x16xf32> -> tensor<3x16xf32>
  %g = graph.gelu_tanh %a : tensor<3x16xf32>
  %y = graph.einsum "mk,kn->mn" %g, %w2 : tensor<3x16xf32>, tensor<16x8xf32> -> tensor<3x8xf32>
  %z = graph.add %x, %y : tensor<3x8xf32>
  return %z : tensor<3x8xf32>
}

// CHECK-LABEL: @experts
func.func @experts(%x: tensor<3x8xf32>) -> tensor<3x8xf32> {
  // CHECK: graph.einsum {{.*}} {graph.role = "router"}
  // CHECK: graph.grouped_matmul {{.*}} {graph.role = "experts_gate_up"}
  // CHECK: graph.grouped_matmul {{.*}} {graph.role = "experts_gate_up"}
  // CHECK: graph.grouped_matmul {{.*}} {graph.role = "experts_down"}
  %wr = graph.parameter "r" : tensor<4x8xf32>
  %wg = graph.parameter "gu" segment [1, 0, 6] of 12 : tensor<4x6x8xf32>
  %wu = graph.parameter "gu" segment [1, 6, 6] of 12 : tensor<4x6x8xf32>
  %wd = graph.parameter "d" : tensor<4x8x6xf32>
  %scores = graph.einsum "mk,nk->mn" %x, %wr : tensor<3x8xf32>, tensor<4x8xf32> -> tensor<3x4xf32>
  %p = graph.softmax %scores dim 1 : tensor<3x4xf32>
  %values, %ids = graph.topk %p dim 1 largest true : tensor<3x4xf32> -> tensor<3x1xf32>, tensor<3x1xi64>
  %i = graph.reshape %ids : tensor<3x1xi64> -> tensor<3xi64>
  %g = graph.grouped_matmul %x, %wg by %i : tensor<3x8xf32>, tensor<4x6x8xf32>, tensor<3xi64> -> tensor<3x6xf32>
  %u = graph.grouped_matmul %x, %wu by %i : tensor<3x8xf32>, tensor<4x6x8xf32>, tensor<3xi64> -> tensor<3x6xf32>
  %s = graph.silu %g : tensor<3x6xf32>
  %m = graph.mul %s, %u : tensor<3x6xf32>
  %d = graph.grouped_matmul %m, %wd by %i : tensor<3x6xf32>, tensor<4x8x6xf32>, tensor<3xi64> -> tensor<3x8xf32>
  %v = graph.broadcast %values [0, 1] : tensor<3x1xf32> -> tensor<3x8xf32>
  %w = graph.mul %d, %v : tensor<3x8xf32>
  %y = graph.add %x, %w : tensor<3x8xf32>
  return %y : tensor<3x8xf32>
}

// A gate on something that is no product: a state-space layer, no feed-forward block.
// CHECK-LABEL: @gated_state
// CHECK-NOT: "fc1"
// CHECK-NOT: "gate_proj"
// CHECK: return
func.func @gated_state(%x: tensor<3x8xf32>, %state: tensor<3x16xf32>) -> tensor<3x8xf32> {
  %w1 = graph.parameter "w1" : tensor<8x16xf32>
  %w2 = graph.parameter "w2" : tensor<16x8xf32>
  %z = graph.einsum "mk,kn->mn" %x, %w1 : tensor<3x8xf32>, tensor<8x16xf32> -> tensor<3x16xf32>
  %s = graph.silu %z : tensor<3x16xf32>
  %c = graph.cumsum %state dim 0 : tensor<3x16xf32>
  %m = graph.mul %c, %s : tensor<3x16xf32>
  %y = graph.einsum "mk,kn->mn" %m, %w2 : tensor<3x16xf32>, tensor<16x8xf32> -> tensor<3x8xf32>
  %r = graph.add %x, %y : tensor<3x8xf32>
  return %r : tensor<3x8xf32>
}

// Keys that are written into a cache on their way to the attention.
// CHECK-LABEL: @cache
func.func @cache(%x: tensor<1x1x8xf32>, %past: tensor<1x2x4x4xf32>, %at: tensor<1x2x1x4xi64>) -> (tensor<1x1x8xf32>, tensor<1x2x4x4xf32>) {
  %wq = graph.parameter "q" : tensor<8x8xf32>
  %wk = graph.parameter "k" : tensor<8x8xf32>
  %wo = graph.parameter "o" : tensor<8x8xf32>
  %q = graph.einsum "bsk,nk->bsn" %x, %wq : tensor<1x1x8xf32>, tensor<8x8xf32> -> tensor<1x1x8xf32>
  %qh = graph.reshape %q : tensor<1x1x8xf32> -> tensor<1x2x1x4xf32>
  // CHECK: graph.einsum {{.*}} {graph.role = "k_proj"}
  %k = graph.einsum "bsk,nk->bsn" %x, %wk : tensor<1x1x8xf32>, tensor<8x8xf32> -> tensor<1x1x8xf32>
  %kh = graph.reshape %k : tensor<1x1x8xf32> -> tensor<1x2x1x4xf32>
  %keys = graph.scatter_elements replace %past, %at, %kh axis 2 : tensor<1x2x4x4xf32>, tensor<1x2x1x4xi64>, tensor<1x2x1x4xf32>
  %a = graph.attention %qh, %keys, %past scale 0.5 : tensor<1x2x1x4xf32>, tensor<1x2x4x4xf32>, tensor<1x2x4x4xf32> -> tensor<1x2x1x4xf32>
  %ar = graph.reshape %a : tensor<1x2x1x4xf32> -> tensor<1x1x8xf32>
  %o = graph.einsum "bsk,nk->bsn" %ar, %wo : tensor<1x1x8xf32>, tensor<8x8xf32> -> tensor<1x1x8xf32>
  return %o, %keys : tensor<1x1x8xf32>, tensor<1x2x4x4xf32>
}
