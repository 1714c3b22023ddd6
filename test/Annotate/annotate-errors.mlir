// RUN: not shard-opt %s --shard-annotate='mesh=tp=3' 2>&1 | FileCheck %s --check-prefix=HEADS
// RUN: not shard-opt %s --shard-annotate='mesh=tp=0' 2>&1 | FileCheck %s --check-prefix=SIZE
// RUN: not shard-opt %s --shard-annotate='mesh=tp' 2>&1 | FileCheck %s --check-prefix=MESH
// RUN: not shard-opt %s --shard-annotate='mesh=tp=2 plan=lama' 2>&1 | FileCheck %s --check-prefix=NAME
// RUN: not shard-opt %s --shard-annotate='mesh=tp=2 plan=%S/Inputs/plan.yaml' 2>&1 | FileCheck %s --check-prefix=STYLE
// RUN: not shard-opt %s --shard-annotate='mesh=tp=2 plan=%S/Inputs/none.yaml' 2>&1 | FileCheck %s --check-prefix=FILE
// RUN: not shard-opt %s --shard-annotate='mesh=tp=2 plan=%S/Inputs/plan.json strict' 2>&1 | FileCheck %s --check-prefix=STRICT
// RUN: shard-opt %s --shard-annotate='mesh=tp=2 plan=%S/Inputs/plan.json' 2>&1 | FileCheck %s --check-prefix=WARN

// HEADS: error: "model.layers.0.self_attn.q_proj.weight": 4 heads are not divisible by tp = 3 (base plan: "layers.*.self_attn.q_proj")
// SIZE: error: mesh "tp=0": {{.*}}
// MESH: error: mesh "tp": "tp" is not of the form axis=size
// NAME: error: plan "lama" is neither a YAML or JSON file nor a built-in plan: llama, qwen2,
// STYLE: error: plan.yaml: "layers.*.o_proj": unknown style "rowwize"; known: colwise,
// FILE: error: cannot read plan {{.*}}none.yaml: {{N|n}}o such file or directory
// STRICT: error: plan.json: "nothing.here" matches no parameter or module
// WARN: warning: plan.json: "nothing.here" matches no parameter or module
func.func @main(%x: tensor<2x8x16xf32>) -> tensor<2x8x4x4xf32> {
  %q = graph.parameter "model.layers.0.self_attn.q_proj.weight" : tensor<16x16xf32>
  %0 = graph.einsum "bsk,nk->bsn" %x, %q : tensor<2x8x16xf32>, tensor<16x16xf32> -> tensor<2x8x16xf32>
  %1 = graph.reshape %0 : tensor<2x8x16xf32> -> tensor<2x8x4x4xf32>
  return %1 : tensor<2x8x4x4xf32>
}
