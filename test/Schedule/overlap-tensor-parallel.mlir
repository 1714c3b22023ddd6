// RUN: shard-opt %s --shard-fuse --shard-schedule="costs=%S/Inputs/slow-link.json" | FileCheck %s
// RUN: shard-opt %s --shard-fuse --shard-schedule="costs=%S/Inputs/slow-link.json tensor-parallel-overlap=none" | FileCheck %s --check-prefix=NONE
// RUN: shard-opt %s --shard-fuse --shard-schedule | FileCheck %s --check-prefix=NONE
// RUN: not shard-opt %s --shard-fuse --shard-schedule=tensor-parallel-overlap=2 2>&1 | FileCheck %s --check-prefix=VALUE

// The gradient of a weight (a product from both sides of the layer) is not needed for the sum of the input's gradient over tp: it moves behind that sum's
// start. What the sum needs stays in front of it, and the value that the norm's gradient reads is complete when it reads it.
// CHECK-LABEL: exec.program @backward
// CHECK:      exec.launch @[[INPUT:.*]](%{{.*}}, %{{.*}}) to(%[[PART:.*]]) :
// CHECK-NEXT: exec.collective start 0 "all_reduce" %[[PART]] to %[[SUM:[0-9]+]]
// CHECK-NEXT: exec.launch @{{.*}}einsum
// CHECK-NEXT: exec.wait 0
// CHECK-NEXT: exec.launch @{{.*}}softmax(%[[SUM]])

// VALUE: error: tensor-parallel-overlap "2" is not auto or none

// Also where no costs were measured.
// NONE-LABEL: exec.program @backward
// NONE-NOT:   start
// NONE-NOT:   exec.wait
shard.mesh @mesh ["tp" = 2]
func.func @backward(%dy: tensor<8x16xf32> {graph.name = "dy"}, %x: tensor<8x32xf32> {graph.name = "x"}, %w: tensor<16x32xf32> {graph.name = "w"})
    -> (tensor<8x32xf32>, tensor<16x32xf32>) {
  %dw = graph.einsum "mo,mi->oi" %dy, %x : tensor<8x16xf32>, tensor<8x32xf32> -> tensor<16x32xf32>
  %dx = graph.einsum "mo,oi->mi" %dy, %w : tensor<8x16xf32>, tensor<16x32xf32> -> tensor<8x32xf32>
  %sum = shard.all_reduce %dx over {"tp"} of @mesh sum : tensor<8x32xf32> -> tensor<8x32xf32>
  %norm = graph.softmax %sum dim 1 : tensor<8x32xf32>
  return %norm, %dw : tensor<8x32xf32>, tensor<16x32xf32>
}

// A sum of a sum has nothing to run behind.
// CHECK-LABEL: exec.program @chain
// CHECK-NOT:  start
func.func @chain(%s: tensor<64xf32> {graph.name = "s"}) -> tensor<64xf32> {
  %0 = shard.all_reduce %s over {"tp"} of @mesh sum : tensor<64xf32> -> tensor<64xf32>
  %1 = graph.softmax %0 dim 0 : tensor<64xf32>
  %2 = shard.all_reduce %1 over {"tp"} of @mesh sum : tensor<64xf32> -> tensor<64xf32>
  return %2 : tensor<64xf32>
}
