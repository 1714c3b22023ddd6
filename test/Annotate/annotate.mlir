// RUN: shard-opt %s --shard-annotate='mesh=dp_shard=2,tp=4 plan=llama' | FileCheck %s
// RUN: shard-opt %s --shard-annotate='mesh=tp=4 plan=llama sequence-parallel' | FileCheck %s --check-prefix=SP
// RUN: shard-opt %s --shard-annotate='mesh=tp=4 plan=%S/Inputs/plan.json print-plan' -o /dev/null | FileCheck %s --check-prefix=PRINT

// CHECK: shard.mesh @mesh ["dp_shard" = 2, "tp" = 4]
// CHECK: func.func @main(%{{.*}}: tensor<2x8xi64> {graph.name = "ids", shard.sharding = #shard.sharding<@mesh, [{"dp_shard", ?}, {?}]>})
// CHECK-SAME: -> (tensor<2x8x32xf32> {shard.sharding = #shard.sharding<@mesh, [{}, {}, {}]>})
func.func @main(%ids: tensor<2x8xi64> {graph.name = "ids"}) -> tensor<2x8x32xf32> {
  // CHECK: "model.embed_tokens.weight" {shard.plan = "embedding_rowwise (built-in plan llama: \22embed_tokens\22)", shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>]}
  %e = graph.parameter "model.embed_tokens.weight" : tensor<32x16xf32>
  // Eight query heads, cut four ways.
  // CHECK: "model.layers.0.self_attn.q_proj.weight" {{.*}}[{"tp"}, {}]
  %q = graph.parameter "model.layers.0.self_attn.q_proj.weight" : tensor<16x16xf32>
  // Two key heads: pairs of devices share one.
  // CHECK: "model.layers.0.self_attn.k_proj.weight" {{.*}}[{"tp":(1)2}, {}]
  %k = graph.parameter "model.layers.0.self_attn.k_proj.weight" : tensor<4x16xf32>
  // CHECK: "model.layers.0.self_attn.k_proj.bias" {{.*}}[{"tp":(1)2}]
  %kb = graph.parameter "model.layers.0.self_attn.k_proj.bias" : tensor<4xf32>
  // CHECK: "model.layers.0.self_attn.o_proj.weight" {{.*}}[{}, {"tp"}]
  %o = graph.parameter "model.layers.0.self_attn.o_proj.weight" : tensor<16x16xf32>
  // Not in the plan: left to propagation.
  // CHECK: "model.norm.weight" :
  %n = graph.parameter "model.norm.weight" : tensor<16xf32>
  // CHECK: "lm_head.weight" {{.*}}[{"tp"}, {}]
  %h = graph.parameter "lm_head.weight" : tensor<32x16xf32>
  %0 = graph.gather %e, %ids axis 0 : tensor<32x16xf32>, tensor<2x8xi64> -> tensor<2x8x16xf32>
  // SP: %[[E:.*]] = graph.gather
  // SP: shard.constraint %[[E]] {{.*}} to <@mesh, [{?}, {"tp"}, {}]>
  // SP: %[[X:.*]] = graph.rms_norm
  // The sequence is gathered once for both projections.
  // SP: %[[G:.*]] = shard.constraint %[[X]] {{.*}} to <@mesh, [{?}, {}, {}]>
  // SP: graph.einsum "bsk,nk->bsn" %[[G]]
  // SP: graph.einsum "bsk,nk->bsn" %[[G]]
  %1 = graph.rms_norm %0, %n : tensor<16xf32> epsilon 1.0e-6 : tensor<2x8x16xf32>
  %2 = graph.einsum "bsk,nk->bsn" %1, %q : tensor<2x8x16xf32>, tensor<16x16xf32> -> tensor<2x8x16xf32>
  %3 = graph.einsum "bsk,nk->bsn" %1, %k : tensor<2x8x16xf32>, tensor<4x16xf32> -> tensor<2x8x4xf32>
  %b = graph.broadcast %kb [2] : tensor<4xf32> -> tensor<2x8x4xf32>
  %4 = graph.add %3, %b : tensor<2x8x4xf32>
  %5 = graph.reshape %2 : tensor<2x8x16xf32> -> tensor<2x8x8x2xf32>
  %6 = graph.transpose %5 [0, 2, 1, 3] : tensor<2x8x8x2xf32> -> tensor<2x8x8x2xf32>
  %7 = graph.reshape %4 : tensor<2x8x4xf32> -> tensor<2x8x2x2xf32>
  %8 = graph.transpose %7 [0, 2, 1, 3] : tensor<2x8x2x2xf32> -> tensor<2x2x8x2xf32>
  %9 = graph.attention %6, %8, %8 scale 0.5 {causal = true} : tensor<2x8x8x2xf32>, tensor<2x2x8x2xf32>, tensor<2x2x8x2xf32> -> tensor<2x8x8x2xf32>
  %10 = graph.transpose %9 [0, 2, 1, 3] : tensor<2x8x8x2xf32> -> tensor<2x8x8x2xf32>
  %11 = graph.reshape %10 : tensor<2x8x8x2xf32> -> tensor<2x8x16xf32>
  // SP: %[[O:.*]] = graph.einsum "bsk,nk->bsn" {{.*}}tensor<2x8x16xf32>, tensor<16x16xf32>
  // SP: shard.constraint %[[O]] {{.*}} to <@mesh, [{?}, {"tp"}, {}]>
  %12 = graph.einsum "bsk,nk->bsn" %11, %o : tensor<2x8x16xf32>, tensor<16x16xf32> -> tensor<2x8x16xf32>
  %13 = graph.einsum "bsk,nk->bsn" %12, %h : tensor<2x8x16xf32>, tensor<32x16xf32> -> tensor<2x8x32xf32>
  // CHECK: shard.constraint %{{.*}} to <@mesh, [{?}, {?}, {}]>
  return %13 : tensor<2x8x32xf32>
}

// PRINT: model.embed_tokens.weight {{.*}}propagated (no plan line)
// PRINT: model.layers.0.self_attn.q_proj.weight {{.*}}propagated
// PRINT: lm_head.weight {{ *}}colwise_gather_output {{ *}}[{tp}, {}]  from plan.json: "lm_head"
// PRINT: matches nothing: "model.layers.*.q_proj" (plan.json)
// PRINT: matches nothing: "nothing.here" (plan.json)
