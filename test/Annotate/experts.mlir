// RUN: shard-opt %s --shard-annotate='mesh=tp=2 plan=mixtral' | FileCheck %s
// RUN: shard-opt %s --shard-annotate='mesh=tp=2 plan=%S/Inputs/experts.json' | FileCheck %s --check-prefix=UNGATED

// An exporter folded transposes into the experts' weights, and their names are lost: what they are for says which line speaks of them,
// and what their dimensions do says which one is cut. The module's own line is about its output.
// CHECK: graph.parameter "model.layers.0.mlp.experts.folded" {shard.plan = "packed_colwise (built-in plan mixtral: \22layers.*.mlp.experts.gate_up_proj\22)", shard.shardings = [#shard.sharding<@mesh, [{}, {}, {"tp"}]>]}
// CHECK: graph.parameter "model.layers.0.mlp.experts.folded_1" {shard.plan = "rowwise (built-in plan mixtral: \22layers.*.mlp.experts.down_proj\22)", shard.shardings = [#shard.sharding<@mesh, [{}, {"tp"}, {}]>]}
// Without a gate the line has another name.
// UNGATED: graph.parameter "model.layers.0.mlp.experts.folded" {shard.plan = "colwise (experts.json: \22layers.*.mlp.experts.up_proj\22)"
// A name of its own that no line has: the module's line does not make it whole.
// CHECK: graph.parameter "model.layers.0.mlp.experts.scale" : tensor<8xf32>
func.func @main(%x: tensor<6x8xf32>, %g: tensor<6xi64>) -> tensor<6x8xf32> {
  %up = graph.parameter "model.layers.0.mlp.experts.folded" : tensor<4x8x16xf32>
  %down = graph.parameter "model.layers.0.mlp.experts.folded_1" : tensor<4x16x8xf32>
  %scale = graph.parameter "model.layers.0.mlp.experts.scale" : tensor<8xf32>
  %ut = graph.transpose %up [0, 2, 1] : tensor<4x8x16xf32> -> tensor<4x16x8xf32>
  %dt = graph.transpose %down [0, 2, 1] : tensor<4x16x8xf32> -> tensor<4x8x16xf32>
  %0 = graph.grouped_matmul %x, %ut by %g {graph.path = "model.layers.0.mlp.experts", graph.role = "experts_gate_up"} : tensor<6x8xf32>, tensor<4x16x8xf32>, tensor<6xi64> -> tensor<6x16xf32>
  %1 = graph.relu %0 {graph.path = "model.layers.0.mlp.experts"} : tensor<6x16xf32>
  %2 = graph.grouped_matmul %1, %dt by %g {graph.path = "model.layers.0.mlp.experts", graph.role = "experts_down"} : tensor<6x16xf32>, tensor<4x8x16xf32>, tensor<6xi64> -> tensor<6x8xf32>
  %b = graph.broadcast %scale [1] : tensor<8xf32> -> tensor<6x8xf32>
  %3 = graph.mul %2, %b {graph.path = "model.layers.0.mlp.experts"} : tensor<6x8xf32>
  return %3 : tensor<6x8xf32>
}
