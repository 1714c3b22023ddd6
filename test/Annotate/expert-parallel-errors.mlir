// DEFINE: %{annotate} = not shard-opt %s --shard-annotate
// RUN: %{annotate}='mesh=dp_shard=4,tp=2 plan=mixtral ep=3' 2>&1 | FileCheck %s --check-prefix=MULTIPLE
// RUN: %{annotate}='mesh=dp_shard=4,tp=2 plan=mixtral ep=16' 2>&1 | FileCheck %s --check-prefix=LARGE
// RUN: %{annotate}='mesh=dp_shard=6 plan=mixtral ep=4' 2>&1 | FileCheck %s --check-prefix=DIVIDES
// RUN: %{annotate}='mesh=dp_replicate=2 plan=mixtral ep=2' 2>&1 | FileCheck %s --check-prefix=REPLICATE
// RUN: %{annotate}='mesh=tp=2 plan=mixtral ep=0' 2>&1 | FileCheck %s --check-prefix=BELOW
// RUN: %{annotate}='mesh=dp_shard=4 plan=mixtral ep=4' 2>&1 | FileCheck %s --check-prefix=EXPERTS
// RUN: %{annotate}='mesh=dp_shard=2 plan=llama ep=2' 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: %{annotate}='mesh=dp_shard=2 plan=granitemoe ep=2' 2>&1 | FileCheck %s --check-prefix=NAMES
// RUN: %{annotate}='mesh=dp_shard=2 plan=%S/Inputs/expert-router.json ep=2' 2>&1 | FileCheck %s --check-prefix=ROUTER
// RUN: %{annotate}='mesh=dp_shard=2 plan=%S/Inputs/expert-tp.json ep=2' 2>&1 | FileCheck %s --check-prefix=STYLE

// MULTIPLE: error: ep = 3 is not a multiple of tp = 2
// LARGE: error: ep = 16 does not divide dp_shard x tp = 4 x 2
// DIVIDES: error: ep = 4 does not divide dp_shard x tp = 6 x 1
// REPLICATE: error: ep = 2 does not divide dp_shard x tp = 1 x 1
// BELOW: error: ep = 0 is below 1
// EXPERTS: error: "model.layers.0.mlp.experts.gate_up_proj": 6 experts are not divisible by ep = 4 (built-in plan mixtral: "layers.*.mlp.experts.gate_up_proj")
// NONE: error: ep = 2: built-in plan llama has no lines for experts (grouped_gemm, ep_dispatch_experts)
// NAMES: error: ep = 2: no line of built-in plan granitemoe names the weights of experts
// ROUTER: error: expert-router.json: "layers.*.mlp.gate": ep_router is no style of an expert-parallel plan: grouped_gemm, ep_dispatch_experts
// STYLE: error: expert-tp.json: "layers.*.mlp.experts": moe_tp_experts is no style of an expert-parallel plan
func.func @main(%x: tensor<8x2xf32>, %g: tensor<8xi64>) -> tensor<8x3xf32> {
  %up = graph.parameter "model.layers.0.mlp.experts.gate_up_proj" : tensor<6x3x2xf32>
  %0 = graph.grouped_matmul %x, %up by %g {graph.path = "model.layers.0.mlp.experts"} : tensor<8x2xf32>, tensor<6x3x2xf32>, tensor<8xi64> -> tensor<8x3xf32>
  return %0 : tensor<8x3xf32>
}
