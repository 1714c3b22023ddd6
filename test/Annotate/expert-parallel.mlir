// RUN: shard-opt %s --shard-annotate='mesh=dp_shard=4,tp=2 plan=mixtral ep=4' | FileCheck %s
// RUN: shard-opt %s --shard-annotate='mesh=dp_shard=4,tp=2 plan=mixtral ep=4 print-plan' -o /dev/null | FileCheck %s --check-prefix=PLAN
// By role, for models without names, and from a file with plans of both kinds; both say the same.
// RUN: shard-opt %s --shard-annotate='mesh=dp_shard=4,tp=2 ep=4' | FileCheck %s --check-prefixes=SAME,ROLE
// RUN: shard-opt %s --shard-annotate='mesh=dp_shard=4,tp=2 ep=4 plan=%S/Inputs/expert-parallel.json' | FileCheck %s --check-prefixes=SAME,FILE
// A plan that cuts experts does so over tp where nothing else is said.
// RUN: shard-opt %s --shard-annotate='mesh=dp_shard=4,tp=2 plan=%S/Inputs/grouped.yaml' | FileCheck %s --check-prefix=TP
// Without expert parallelism the other lines hold.
// RUN: shard-opt %s --shard-annotate='mesh=dp_shard=4,tp=2 plan=%S/Inputs/expert-parallel.json' | FileCheck %s --check-prefix=DENSE
// One device and eight compute the same, with each half of the experts on two of them.
// DEFINE: %{run} = shard-opt --shard-interpret - --input 'x=dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [0.0, 1.0], [2.0, -1.0], [1.0, 1.0], [-2.0, 3.0]]>' --input 'ids=dense<[[0, 1], [3, 2], [1, 3], [0, 2], [2, 3], [1, 0], [3, 3], [2, 0]]>'
// RUN: %{run} < %s > %t.whole
// RUN: shard-opt %s --shard-pipeline='mesh=dp_shard=4,tp=2 plan=mixtral ep=4' -o %t.mlir
// RUN: %{run} < %t.mlir | diff %t.whole -

// Experts are cut over tp and the minor half of dp_shard, so that two ranks (the major half) have the same ones. The batch is second.
// CHECK:      func.func @main(%arg0: tensor<8x2xf32> {graph.name = "x", shard.sharding = #shard.sharding<@mesh, [{"dp_shard", ?}p1, {?}]>}
// CHECK:      %[[UP:.*]] = graph.parameter "model.layers.0.mlp.experts.gate_up_proj" {shard.plan = "grouped_gemm (built-in plan mixtral: \22layers.*.mlp.experts.gate_up_proj\22)", shard.shardings = [#shard.sharding<@mesh, [{"dp_shard":(2)2, "tp"}, {}, {}]>]
// CHECK:      %[[DOWN:.*]] = graph.parameter "model.layers.0.mlp.experts.down_proj" {{.*}}[{"dp_shard":(2)2, "tp"}, {}, {}]
// Four copies of the tokens, before each becomes a row for each of its experts.
// CHECK:      %[[B:.*]] = graph.broadcast %{{.*}} [1, 2, 3] {graph.path = "model.layers.0.mlp.experts"} : tensor<8x1x2xf32> -> tensor<4x8x1x2xf32>
// CHECK-NEXT: %[[R:.*]] = graph.reshape %[[B]] {{.*}} -> tensor<32x1x2xf32>
// CHECK-NEXT: %[[K:.*]] = graph.broadcast %[[R]] {{.*}} -> tensor<32x2x2xf32>
// CHECK-NEXT: %[[X:.*]] = graph.reshape %[[K]] {{.*}} -> tensor<64x2xf32>
// CHECK:      %[[G:.*]] = graph.reshape {{.*}} : tensor<4x16xi64> -> tensor<64xi64>
// CHECK-NEXT: %[[H:.*]] = graph.grouped_matmul %[[X]], %[[UP]] by %[[G]] {blocks = 4 : i64
// CHECK-NEXT: %[[A:.*]] = graph.relu %[[H]]
// CHECK-NEXT: graph.grouped_matmul %[[A]], %[[DOWN]] by %[[G]] {blocks = 4 : i64
// Summed behind the sum over a token's experts.
// CHECK:      graph.mul
// CHECK:      graph.reduce sum %{{.*}} [1] {{.*}} : tensor<32x2x2xf32> -> tensor<32x2xf32>
// CHECK-NEXT: %[[P:.*]] = graph.reshape {{.*}} -> tensor<4x8x2xf32>
// CHECK-NEXT: %[[S:.*]] = graph.reduce sum %[[P]] [0] {{.*}} -> tensor<8x2xf32>
// CHECK-NEXT: return %[[S]]

// PLAN: model.layers.0.mlp.experts.gate_up_proj                  grouped_gemm           [{dp_shard:(2)2, tp}, {}, {}]  from built-in plan mixtral: "layers.*.mlp.experts.gate_up_proj"
// PLAN: layers.*.mlp.experts                                     ep_dispatch_experts    over {dp_shard:(2)2, tp}  from built-in plan mixtral

// ROLE: "grouped_gemm (base plan: \22role:experts_gate_up\22)"
// FILE: "grouped_gemm (expert-parallel.json: \22layers.*.mlp.experts.gate_up_proj\22)"
// SAME-COUNT-2: graph.grouped_matmul {{.*}}blocks = 4 : i64

// TP:   graph.parameter {{.*}}[{"tp"}, {}, {}]
// TP-COUNT-2: graph.grouped_matmul {{.*}}blocks = 2 : i64

// DENSE: "packed_colwise (expert-parallel.json: \22layers.*.mlp.experts.gate_up_proj\22)", shard.shardings = [#shard.sharding<@mesh, [{}, {"tp"}, {}]>]
// DENSE-NOT: blocks
func.func @main(%x: tensor<8x2xf32> {graph.name = "x"}, %ids: tensor<8x2xi64> {graph.name = "ids"}) -> (tensor<8x2xf32> {graph.name = "y"}) {
  %up = graph.parameter "model.layers.0.mlp.experts.gate_up_proj" {value = dense<[[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [[2.0, 1.0], [-1.0, 0.0], [0.0, 3.0]], [[1.0, -1.0], [1.0, 2.0], [0.0, 1.0]], [[0.0, 1.0], [4.0, 0.0], [1.0, -2.0]]]> : tensor<4x3x2xf32>} : tensor<4x3x2xf32>
  %down = graph.parameter "model.layers.0.mlp.experts.down_proj" {value = dense<[[[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]], [[2.0, 1.0, 0.0], [1.0, 1.0, 1.0]], [[0.0, 1.0, 2.0], [3.0, 0.0, 1.0]], [[1.0, 1.0, 1.0], [0.0, -1.0, 0.0]]]> : tensor<4x2x3xf32>} : tensor<4x2x3xf32>
  %share = graph.constant dense<[[1.0, 2.0], [1.0, 1.0], [0.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 1.0], [2.0, 1.0], [1.0, -1.0]]> : tensor<8x2xf32>
  %0 = graph.reshape %x {graph.path = "model.layers.0.mlp.experts"} : tensor<8x2xf32> -> tensor<8x1x2xf32>
  %1 = graph.broadcast %0 [0, 1, 2] {graph.path = "model.layers.0.mlp.experts"} : tensor<8x1x2xf32> -> tensor<8x2x2xf32>
  %rows = graph.reshape %1 {graph.path = "model.layers.0.mlp.experts"} : tensor<8x2x2xf32> -> tensor<16x2xf32>
  %g = graph.reshape %ids {graph.path = "model.layers.0.mlp.experts"} : tensor<8x2xi64> -> tensor<16xi64>
  %2 = graph.grouped_matmul %rows, %up by %g {graph.path = "model.layers.0.mlp.experts", graph.role = "experts_gate_up"} : tensor<16x2xf32>, tensor<4x3x2xf32>, tensor<16xi64> -> tensor<16x3xf32>
  %3 = graph.relu %2 {graph.path = "model.layers.0.mlp.experts.act_fn"} : tensor<16x3xf32>
  %4 = graph.grouped_matmul %3, %down by %g {graph.path = "model.layers.0.mlp.experts", graph.role = "experts_down"} : tensor<16x3xf32>, tensor<4x2x3xf32>, tensor<16xi64> -> tensor<16x2xf32>
  %5 = graph.reshape %share {graph.path = "model.layers.0.mlp.experts"} : tensor<8x2xf32> -> tensor<16x1xf32>
  %6 = graph.broadcast %5 [0, 1] {graph.path = "model.layers.0.mlp.experts"} : tensor<16x1xf32> -> tensor<16x2xf32>
  %7 = graph.mul %4, %6 {graph.path = "model.layers.0.mlp.experts"} : tensor<16x2xf32>
  %8 = graph.reshape %7 {graph.path = "model.layers.0.mlp.experts"} : tensor<16x2xf32> -> tensor<8x2x2xf32>
  %9 = graph.reduce sum %8 [1] {graph.path = "model.layers.0.mlp.experts"} : tensor<8x2x2xf32> -> tensor<8x2xf32>
  return %9 : tensor<8x2xf32>
}
