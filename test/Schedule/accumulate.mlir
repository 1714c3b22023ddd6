// RUN: shard-opt %s --shard-fuse=target=cuda --shard-schedule=target=cuda | FileCheck %s
// RUN: shard-opt %s --shard-fuse --shard-schedule | FileCheck %s

// Gradients that are added to a state tensor by tensor are added in it: nothing is zeroed, and nothing copied.
// CHECK: exec.program @accumulate
// CHECK: %[[S:.*]] = exec.buffer state "gradient/b"
// CHECK-DAG: %[[A:.*]] = exec.buffer temporary {{.*}} of 0
// CHECK-DAG: %[[B:.*]] = exec.buffer temporary {{.*}} of 0
// CHECK-NOT: exec.zero
// CHECK-NOT: exec.copy
// CHECK: exec.launch @kernel_0_einsum({{.*}}, %[[W:[0-9]+]]) to(%[[W]])
// CHECK: exec.launch @kernel_1_reduce({{.*}}) to(%[[V:[0-9]+]])
// CHECK-NOT: exec.copy
shard.mesh @mesh ["dp_shard" = 1]
shard.state @"gradient/b" "gradient" tensor<128xf32>
func.func @accumulate(%dy: tensor<16x4xf32> {graph.name = "dy"}, %x: tensor<16x8xf32> {graph.name = "x"}, %state: tensor<128xf32> {shard.state = "gradient/b"}) -> (tensor<128xf32> {shard.state = "gradient/b"}) {
  %dw = graph.einsum "bn,bk->nk" %dy, %x : tensor<16x4xf32>, tensor<16x8xf32> -> tensor<4x8xf32>
  %dv = graph.reduce sum %dy [0] : tensor<16x4xf32> -> tensor<4xf32>
  %w = shard.bucket_view %state at 0 : tensor<128xf32> -> tensor<4x8xf32>
  %v = shard.bucket_view %state at 64 : tensor<128xf32> -> tensor<4xf32>
  %nw = graph.add %w, %dw : tensor<4x8xf32>
  %nv = graph.add %v, %dv : tensor<4xf32>
  %new = shard.bucket_pack %nw, %nv at [0, 64] : tensor<4x8xf32>, tensor<4xf32> -> tensor<128xf32>
  return %new : tensor<128xf32>
}
