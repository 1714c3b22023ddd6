// RUN: shard-opt %s --shard-fuse --shard-schedule=report | FileCheck %s

// CHECK: arena {{[0-9]+}} bytes: weights {{[0-9]+}}, constants 0, temporaries at most {{[0-9]+}}; 5 commands, 1 once, 3 kernels
shard.mesh @mesh ["tp" = 2]

// Weights come first, one buffer a layout; temporaries share what is behind them.
// CHECK-LABEL: exec.program @main on @mesh arena
// CHECK: %[[X:.*]] = exec.buffer input "x" at {{[0-9]+}} size 96 {global = tensor<3x8xf32>} : memref<3x8xf32>
// CHECK: %[[G:.*]] = exec.buffer parameter "g" at 0 size 32
// CHECK: %[[W:.*]] = exec.buffer parameter "w" {{.*}}panels = {{.*}}sharding = #shard.sharding<@mesh, [{"tp"}, {}]>{{.*}} : memref<8x8xf32>
// CHECK: exec.launch init @kernel_0_softmax(%[[G]])
// CHECK: exec.launch @kernel_1_mul(%[[X]],
// CHECK: exec.launch @kernel_2_einsum({{.*}}, %[[W]]) to({{.*}}) layer 0
// CHECK: exec.collective "all_reduce" %{{.*}} to %{{.*}} over [#shard.axis<"tp">] {count = 24 : i64, reduce = "sum"} layer 0 because "plan"
// CHECK: exec.launch @kernel_2_einsum({{.*}}, %[[W]]) to({{.*}}) layer 1
// CHECK: exec.collective "all_reduce" {{.*}} layer 1
func.func @main(%x: tensor<3x8xf32> {graph.name = "x"}) -> (tensor<3x8xf32> {graph.name = "y"}) {
  %g = graph.parameter "g" : tensor<8xf32>
  %w = graph.parameter "w" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>], graph.global_type = tensor<16x8xf32>} : tensor<8x8xf32>
  %s = graph.softmax %g dim 0 : tensor<8xf32>
  %b = graph.broadcast %s [1] : tensor<8xf32> -> tensor<3x8xf32>
  %m = graph.mul %x, %b : tensor<3x8xf32>
  %0 = call @layer(%m, %w) : (tensor<3x8xf32>, tensor<8x8xf32>) -> tensor<3x8xf32>
  %1 = call @layer(%0, %w) : (tensor<3x8xf32>, tensor<8x8xf32>) -> tensor<3x8xf32>
  return %1 : tensor<3x8xf32>
}
func.func private @layer(%x: tensor<3x8xf32>, %w: tensor<8x8xf32>) -> tensor<3x8xf32> {
  %h = graph.einsum "mk,nk->mn" %x, %w : tensor<3x8xf32>, tensor<8x8xf32> -> tensor<3x8xf32>
  %y = shard.all_reduce %h over {"tp"} of @mesh sum {shard.origin = "plan"} : tensor<3x8xf32> -> tensor<3x8xf32>
  return %y : tensor<3x8xf32>
}
