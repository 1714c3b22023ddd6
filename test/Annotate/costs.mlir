// RUN: shard-opt %s --shard-annotate="mesh=dp_shard=2,pp=1,tp=2 costs=%S/Inputs/machine.json" | FileCheck %s
// RUN: shard-opt %s --shard-pipeline="mesh=dp_shard=2,pp=1,tp=2 costs=%S/Inputs/machine.json" | FileCheck %s
// RUN: not shard-opt %s --shard-annotate="mesh=tp=2 costs=%S/Inputs/none.json" 2>&1 | FileCheck %s --check-prefix=MISSING
// RUN: sed s/launch_us/start_us/ %S/Inputs/machine.json > %t.json
// RUN: not shard-opt %s --shard-annotate="mesh=tp=2 costs=%t.json" 2>&1 | FileCheck %s --check-prefix=FIELD

// The links that shardc profile measured stand on the mesh: of two ranks a gather sends half of its result. An axis of one rank has none.
// CHECK: shard.mesh @mesh ["dp_shard" = 2, "pp" = 1, "tp" = 2] {bandwidth = array<f64: 1.000000e+00, 5.000000e+01, 8.000000e+00>, latency = array<f64: 4.000000e+01, 2.000000e+00, 4.000000e+00>}
// MISSING: error: costs: {{.*}}none.json: No such file or directory
// FIELD: error: costs: {{.*}}.json: "kernels.launch_us" is missing or no number
func.func @main(%x: tensor<4x8xf32> {graph.name = "x"}) -> (tensor<4x8xf32> {graph.name = "y"}) {
  %0 = graph.relu %x : tensor<4x8xf32>
  return %0 : tensor<4x8xf32>
}
