// RUN: shard-opt %s --shard-annotate='mesh=dp_shard=4,tp=2 ep=4 keep-outputs-sharded' --shard-propagate --shard-partition --canonicalize --cse | FileCheck %s
// RUN: shard-opt %s --shard-annotate='mesh=dp_shard=4,tp=2 ep=8 keep-outputs-sharded' --shard-propagate --shard-partition --canonicalize --cse | FileCheck %s --check-prefix=ALL

// Two of eight experts on each rank. Tokens are gathered from the ranks that have the other experts: the minor half of dp_shard, as ranks along tp
// have the same tokens; what comes back is summed over both and scattered, then gathered where all ranks along tp need it. In between nothing
// travels, and a rank multiplies the rows of its own experts only. The origin names the plan's line.
// CHECK:     graph.parameter "up" {{.*}} : tensor<2x512x256xf32>
// CHECK:     %[[X:.*]] = shard.all_gather {{.*}} over {"dp_shard":(2)2} of @mesh dim 0 {{.*}}asked = "{{[^"]*}}grouped_gemm (base plan: \22role:experts_gate_up\22){{.*}} : tensor<512x1x256xf32> -> tensor<1024x1x256xf32>
// CHECK:     shard.all_gather {{.*}} over {"dp_shard":(2)2} of @mesh dim 0 {{.*}} : tensor<1024xi64> -> tensor<2048xi64>
// CHECK:     %[[H:.*]] = graph.grouped_matmul {{.*}} : tensor<2048x256xf32>, tensor<2x512x256xf32>, tensor<2048xi64> -> tensor<2048x512xf32>
// CHECK-NEXT: %[[A:.*]] = graph.silu %[[H]]
// CHECK:     graph.grouped_matmul %[[A]], {{.*}} : tensor<2048x512xf32>, tensor<2x256x512xf32>, tensor<2048xi64> -> tensor<2048x256xf32>
// CHECK-NOT: shard.{{all|reduce|permute}}
// CHECK:     graph.reduce sum {{.*}} : tensor<1024x2x256xf32> -> tensor<1024x256xf32>
// CHECK:     %[[Y:.*]] = shard.reduce_scatter {{.*}} over {"dp_shard":(2)2, "tp"} of @mesh sum dim 0 {{.*}} : tensor<1024x256xf32> -> tensor<256x256xf32>
// CHECK-NEXT: shard.all_gather %[[Y]] over {"tp"} of @mesh dim 0 {{.*}} : tensor<256x256xf32> -> tensor<512x256xf32>

// One expert on each rank: all of dp_shard's tokens.
// ALL:       graph.parameter "up" {{.*}} : tensor<1x512x256xf32>
// ALL:       shard.all_gather {{.*}} over {"dp_shard"} of @mesh dim 0 {{.*}} : tensor<512x1x256xf32> -> tensor<2048x1x256xf32>
// ALL:       %[[Y:.*]] = shard.reduce_scatter {{.*}} over {"dp_shard"} of @mesh sum dim 0 {{.*}} : tensor<2048x256xf32> -> tensor<512x256xf32>
// ALL-NEXT:  shard.all_reduce %[[Y]] over {"tp"} of @mesh sum
func.func @main(%x: tensor<2048x256xf32> {graph.name = "x"}, %ids: tensor<2048x2xi64> {graph.name = "ids"}) -> (tensor<2048x256xf32> {graph.name = "y"}) {
  %up = graph.parameter "up" : tensor<8x512x256xf32>
  %down = graph.parameter "down" : tensor<8x256x512xf32>
  %0 = graph.reshape %x : tensor<2048x256xf32> -> tensor<2048x1x256xf32>
  %1 = graph.broadcast %0 [0, 1, 2] : tensor<2048x1x256xf32> -> tensor<2048x2x256xf32>
  %rows = graph.reshape %1 : tensor<2048x2x256xf32> -> tensor<4096x256xf32>
  %g = graph.reshape %ids : tensor<2048x2xi64> -> tensor<4096xi64>
  %2 = graph.grouped_matmul %rows, %up by %g {graph.role = "experts_gate_up"} : tensor<4096x256xf32>, tensor<8x512x256xf32>, tensor<4096xi64> -> tensor<4096x512xf32>
  %3 = graph.silu %2 : tensor<4096x512xf32>
  %4 = graph.grouped_matmul %3, %down by %g {graph.role = "experts_down"} : tensor<4096x512xf32>, tensor<8x256x512xf32>, tensor<4096xi64> -> tensor<4096x256xf32>
  %5 = graph.reshape %4 : tensor<4096x256xf32> -> tensor<2048x2x256xf32>
  %6 = graph.reduce sum %5 [1] : tensor<2048x2x256xf32> -> tensor<2048x256xf32>
  %7 = graph.add %6, %x : tensor<2048x256xf32>
  return %7 : tensor<2048x256xf32>
}
