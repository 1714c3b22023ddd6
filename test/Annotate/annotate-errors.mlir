// RUN: not shard-opt %s --shard-annotate='mesh=tp=3' 2>&1 | FileCheck %s --check-prefix=HEADS
// RUN: not shard-opt %s --shard-find-roles --shard-annotate='mesh=tp=8' 2>&1 | FileCheck %s --check-prefix=QUERIES
// RUN: not shard-opt %s --shard-find-roles --shard-annotate='mesh=tp=8 plan=%S/Inputs/output.json' 2>&1 | FileCheck %s --check-prefix=OUTPUT
// RUN: shard-opt %s --shard-find-roles --shard-annotate='mesh=tp=4' | FileCheck %s --check-prefix=GROUPS
// RUN: not shard-opt %s --shard-annotate='mesh=tp=0' 2>&1 | FileCheck %s --check-prefix=SIZE
// RUN: not shard-opt %s --shard-annotate='mesh=tp' 2>&1 | FileCheck %s --check-prefix=MESH
// RUN: not shard-opt %s --shard-annotate='mesh=tp=2 plan=lama' 2>&1 | FileCheck %s --check-prefix=NAME
// RUN: not shard-opt %s --shard-annotate='mesh=tp=2 plan=%S/Inputs/plan.yaml' 2>&1 | FileCheck %s --check-prefix=STYLE
// RUN: not shard-opt %s --shard-annotate='mesh=tp=2 plan=%S/Inputs/none.yaml' 2>&1 | FileCheck %s --check-prefix=FILE
// RUN: not shard-opt %s --shard-annotate='mesh=tp=2 plan=%S/Inputs/plan.json strict' 2>&1 | FileCheck %s --check-prefix=STRICT
// RUN: shard-opt %s --shard-annotate='mesh=tp=2 plan=%S/Inputs/plan.json' 2>&1 | FileCheck %s --check-prefix=WARN

// HEADS: error: "model.layers.0.self_attn.q_proj.weight": 4 heads are not divisible by tp = 3 (base plan: "layers.*.self_attn.q_proj")
// Devices beyond the query heads would do nothing; key/value heads are shared by groups of devices.
// QUERIES: error: "model.layers.0.self_attn.q_proj.weight": 4 heads are not divisible by tp = 8 (base plan: "layers.*.self_attn.q_proj")
// OUTPUT: error: "model.layers.0.self_attn.o_proj.weight": 4 heads are not divisible by tp = 8 (output.json: "layers.*.self_attn.o_proj")
// GROUPS: graph.parameter "model.layers.0.self_attn.k_proj.weight" {{.*}}[{"tp":(1)2}, {}]
// SIZE: error: mesh "tp=0": {{.*}}
// MESH: error: mesh "tp": "tp" is not of the form axis=size
// NAME: error: plan "lama" is neither a YAML or JSON file nor a built-in plan: llama, qwen2,
// STYLE: error: plan.yaml: "layers.*.o_proj": unknown style "rowwize"; known: colwise,
// FILE: error: cannot read plan {{.*}}none.yaml: {{N|n}}o such file or directory
// STRICT: error: plan.json: "nothing.here" matches no parameter or module
// WARN: warning: plan.json: "nothing.here" matches no parameter or module
func.func @main(%x: tensor<2x8x16xf32>) -> tensor<2x8x16xf32> {
  %q = graph.parameter "model.layers.0.self_attn.q_proj.weight" : tensor<16x16xf32>
  %k = graph.parameter "model.layers.0.self_attn.k_proj.weight" : tensor<8x16xf32>
  %o = graph.parameter "model.layers.0.self_attn.o_proj.weight" : tensor<16x16xf32>
  %0 = graph.einsum "bsk,nk->bsn" %x, %q : tensor<2x8x16xf32>, tensor<16x16xf32> -> tensor<2x8x16xf32>
  %1 = graph.reshape %0 : tensor<2x8x16xf32> -> tensor<2x8x4x4xf32>
  %2 = graph.transpose %1 [0, 2, 1, 3] : tensor<2x8x4x4xf32> -> tensor<2x4x8x4xf32>
  %3 = graph.einsum "bsk,nk->bsn" %x, %k : tensor<2x8x16xf32>, tensor<8x16xf32> -> tensor<2x8x8xf32>
  %4 = graph.reshape %3 : tensor<2x8x8xf32> -> tensor<2x8x2x4xf32>
  %5 = graph.transpose %4 [0, 2, 1, 3] : tensor<2x8x2x4xf32> -> tensor<2x2x8x4xf32>
  %6 = graph.attention %2, %5, %5 scale 0.5 : tensor<2x4x8x4xf32>, tensor<2x2x8x4xf32>, tensor<2x2x8x4xf32> -> tensor<2x4x8x4xf32>
  %7 = graph.transpose %6 [0, 2, 1, 3] : tensor<2x4x8x4xf32> -> tensor<2x8x4x4xf32>
  %8 = graph.reshape %7 : tensor<2x8x4x4xf32> -> tensor<2x8x16xf32>
  %9 = graph.einsum "bsk,nk->bsn" %8, %o : tensor<2x8x16xf32>, tensor<16x16xf32> -> tensor<2x8x16xf32>
  return %9 : tensor<2x8x16xf32>
}
