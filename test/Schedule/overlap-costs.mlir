// RUN: shard-opt %s --shard-fuse --shard-schedule="forward-prefetch=auto reductions=auto costs=%S/Inputs/fast-link.json" | FileCheck %s --check-prefix=FAST
// RUN: shard-opt %s --shard-fuse --shard-schedule="forward-prefetch=auto reductions=auto costs=%S/Inputs/slow-link.json" | FileCheck %s --check-prefix=SLOW
// RUN: shard-opt %s --shard-fuse --shard-schedule="forward-prefetch=auto reductions=auto costs=%S/Inputs/slow-link.json memory-limit=1800" | FileCheck %s --check-prefix=TIGHT
// RUN: shard-opt %s --shard-fuse --shard-schedule="forward-prefetch=1 reductions=auto costs=%S/Inputs/slow-link.json memory-limit=1800" | FileCheck %s --check-prefix=GIVEN
// RUN: not shard-opt %s --shard-fuse --shard-schedule="backward-prefetch=-1" 2>&1 | FileCheck %s --check-prefix=DISTANCE
// RUN: not shard-opt %s --shard-fuse --shard-schedule="costs=%S/Inputs/none.json" 2>&1 | FileCheck %s --check-prefix=TABLE

// A launch takes 1000 us. Over the fast link a gather takes 100: it starts in front of the last launch that hides it, and a reduction is waited for
// behind the first one.
// FAST-LABEL: exec.program @step
// FAST:      start 0 "all_gather" {{.*}} because "first"
// FAST-NEXT: exec.wait 0
// FAST-COUNT-4: exec.launch @{{.*}}cumsum
// FAST-NEXT: start 1 "all_gather" {{.*}} because "second"
// FAST-NEXT: exec.launch @{{.*}}cumsum
// FAST-NEXT: exec.wait 1
// FAST-NEXT: exec.launch @{{.*}}mul
// FAST-NEXT: start 2 "reduce_scatter"
// FAST-NEXT: exec.launch @{{.*}}cumsum
// FAST-NEXT: exec.wait 2
// FAST-NEXT: exec.launch @{{.*}}sub

// Over the slow one, 2500 us and half of that as a reserve: four launches.
// SLOW-LABEL: exec.program @step
// SLOW:      exec.launch @{{.*}}mul
// SLOW-NEXT: exec.launch @{{.*}}cumsum
// SLOW-NEXT: start 1 "all_gather" {{.*}} because "second"
// SLOW-COUNT-4: exec.launch @{{.*}}cumsum
// SLOW-NEXT: exec.wait 1
// SLOW-NEXT: exec.launch @{{.*}}mul
// SLOW-NEXT: start 2 "reduce_scatter"
// SLOW-COUNT-4: exec.launch @{{.*}}cumsum
// SLOW-NEXT: exec.wait 2
// SLOW-NEXT: exec.launch @{{.*}}sub

// In 1800 bytes there is no room for a second unit or a pack under way.
// TIGHT-LABEL: exec.program @step on @mesh arena 1792
// TIGHT-NOT:   exec.wait

// What was asked for as a number stays, whatever the limit: whoever set that decides.
// GIVEN-LABEL: exec.program @step
// GIVEN:      exec.wait 0
// GIVEN-NEXT: start 1 "all_gather" {{.*}} because "second"
// GIVEN-NEXT: exec.launch @{{.*}}mul

// DISTANCE: error: backward-prefetch "-1" is not auto or a number of at least 0
// TABLE: error: costs: {{.*}}none.json: No such file or directory
shard.mesh @mesh ["dp_shard" = 2]
shard.state @p0 "parameter" tensor<64xf32>
shard.state @p1 "parameter" tensor<64xf32>
func.func @step(%x: tensor<128xf32> {graph.name = "x"}, %p0: tensor<64xf32> {shard.state = "p0", shard.sharding = #shard.sharding<@mesh, [{"dp_shard"}]>, graph.global_type = tensor<128xf32>}, %p1: tensor<64xf32> {shard.state = "p1", shard.sharding = #shard.sharding<@mesh, [{"dp_shard"}]>, graph.global_type = tensor<128xf32>})
    -> (tensor<64xf32> {shard.state = "p0"}, tensor<64xf32> {shard.state = "p1"}) {
  %w0 = shard.all_gather %p0 over {"dp_shard"} of @mesh dim 0 {shard.overlap, shard.origin = "first"} : tensor<64xf32> -> tensor<128xf32>
  %h0 = graph.mul %x, %w0 : tensor<128xf32>
  %a0 = graph.cumsum %h0 dim 0 : tensor<128xf32>
  %a1 = graph.cumsum %a0 dim 0 : tensor<128xf32>
  %a2 = graph.cumsum %a1 dim 0 : tensor<128xf32>
  %a3 = graph.cumsum %a2 dim 0 : tensor<128xf32>
  %a4 = graph.cumsum %a3 dim 0 : tensor<128xf32>
  %w1 = shard.all_gather %p1 over {"dp_shard"} of @mesh dim 0 {shard.overlap, shard.origin = "second"} : tensor<64xf32> -> tensor<128xf32>
  %h1 = graph.mul %a4, %w1 : tensor<128xf32>
  %g1 = shard.reduce_scatter %h1 over {"dp_shard"} of @mesh sum dim 0 {shard.overlap, shard.origin = "gradient of second"} : tensor<128xf32> -> tensor<64xf32>
  %n1 = graph.sub %p1, %g1 : tensor<64xf32>
  %b0 = graph.cumsum %a4 dim 0 : tensor<128xf32>
  %b1 = graph.cumsum %b0 dim 0 : tensor<128xf32>
  %b2 = graph.cumsum %b1 dim 0 : tensor<128xf32>
  %b3 = graph.cumsum %b2 dim 0 : tensor<128xf32>
  %b4 = graph.cumsum %b3 dim 0 : tensor<128xf32>
  %g0 = shard.reduce_scatter %b4 over {"dp_shard"} of @mesh sum dim 0 {shard.overlap, shard.origin = "gradient of first"} : tensor<128xf32> -> tensor<64xf32>
  %n0 = graph.sub %p0, %g0 : tensor<64xf32>
  return %n0, %n1 : tensor<64xf32>, tensor<64xf32>
}
