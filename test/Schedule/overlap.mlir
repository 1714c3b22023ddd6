// RUN: shard-opt %s --shard-fuse --shard-schedule | FileCheck %s
// RUN: shard-opt %s --shard-fuse --shard-schedule="forward-prefetch=0 reductions=0" | FileCheck %s --check-prefix=NONE
// RUN: shard-opt %s --shard-fuse --shard-schedule="forward-prefetch=2 reductions=2" | FileCheck %s --check-prefix=TWO

// The second unit is gathered behind the first one's computation; a reduction runs behind what is computed until the next one starts, and the
// update that needs its result follows when it has ended.
// CHECK-LABEL: exec.program @step
// CHECK:      exec.collective start 0 "all_gather" {{.*}} because "first"
// CHECK-NEXT: exec.wait 0
// CHECK-NEXT: exec.collective start 1 "all_gather" {{.*}} because "second"
// CHECK-NEXT: exec.launch @[[UNIT:.*softmax]](%2,
// CHECK-NEXT: exec.wait 1
// CHECK-NEXT: exec.launch @[[UNIT]](
// CHECK-NEXT: exec.collective start 2 "reduce_scatter" {{.*}} because "gradient of second"
// CHECK-NEXT: exec.launch @{{.*}}cumsum
// CHECK-NEXT: exec.wait 2
// CHECK-NEXT: exec.launch @[[SUB:.*sub]](%1,
// CHECK-NEXT: exec.collective start 3 "reduce_scatter" {{.*}} because "gradient of first"
// CHECK-NEXT: exec.wait 3
// CHECK-NEXT: exec.launch @[[SUB]](%0,

// Without, each completes where it stands, and has no ticket.
// NONE-LABEL: exec.program @step
// NONE-NOT:   exec.wait
// NONE-NOT:   start
// NONE:       exec.collective "all_gather" {{.*}} because "first"
// NONE-NEXT:  exec.launch
// NONE-NEXT:  exec.collective "all_gather" {{.*}} because "second"
// NONE-NOT:   exec.wait

// Two ahead: both gathers start at once, in their order; both reductions are under way before either is waited for.
// TWO-LABEL:  exec.program @step
// TWO:        exec.collective start 0 {{.*}} because "first"
// TWO-NEXT:   exec.collective start 1 {{.*}} because "second"
// TWO-NEXT:   exec.wait 0
// TWO:        exec.collective start 2 {{.*}} because "gradient of second"
// TWO-NOT:    exec.wait 2
// TWO:        exec.collective start 3 {{.*}} because "gradient of first"
// TWO-NEXT:   exec.wait 2
shard.mesh @mesh ["dp_shard" = 2]
shard.state @p0 "parameter" tensor<64xf32>
shard.state @p1 "parameter" tensor<64xf32>
func.func @step(%x: tensor<128xf32> {graph.name = "x"}, %p0: tensor<64xf32> {shard.state = "p0", shard.sharding = #shard.sharding<@mesh, [{"dp_shard"}]>, graph.global_type = tensor<128xf32>}, %p1: tensor<64xf32> {shard.state = "p1", shard.sharding = #shard.sharding<@mesh, [{"dp_shard"}]>, graph.global_type = tensor<128xf32>})
    -> (tensor<64xf32> {shard.state = "p0"}, tensor<64xf32> {shard.state = "p1"}) {
  %w0 = shard.all_gather %p0 over {"dp_shard"} of @mesh dim 0 {shard.overlap, shard.origin = "first"} : tensor<64xf32> -> tensor<128xf32>
  %h0 = graph.mul %x, %w0 : tensor<128xf32>
  %y0 = graph.softmax %h0 dim 0 : tensor<128xf32>
  %w1 = shard.all_gather %p1 over {"dp_shard"} of @mesh dim 0 {shard.overlap, shard.origin = "second"} : tensor<64xf32> -> tensor<128xf32>
  %h1 = graph.mul %y0, %w1 : tensor<128xf32>
  %y1 = graph.softmax %h1 dim 0 : tensor<128xf32>
  %g1 = shard.reduce_scatter %y1 over {"dp_shard"} of @mesh sum dim 0 {shard.overlap, shard.origin = "gradient of second"} : tensor<128xf32> -> tensor<64xf32>
  %n1 = graph.sub %p1, %g1 : tensor<64xf32>
  %y2 = graph.cumsum %y1 dim 0 : tensor<128xf32>
  %g0 = shard.reduce_scatter %y2 over {"dp_shard"} of @mesh sum dim 0 {shard.overlap, shard.origin = "gradient of first"} : tensor<128xf32> -> tensor<64xf32>
  %n0 = graph.sub %p0, %g0 : tensor<64xf32>
  return %n0, %n1 : tensor<64xf32>, tensor<64xf32>
}
