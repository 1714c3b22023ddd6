// RUN: shard-opt %s --shard-propagate --shard-defer-gradient-sums | FileCheck %s
// RUN: shard-opt %s --shard-propagate --shard-defer-gradient-sums --shard-partition --canonicalize --cse | FileCheck %s --check-prefix=LOCAL
// One device and eight compute the same gradients.
// DEFINE: %{run} = shard-opt --shard-interpret - --input 'x=dense<[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0], [1.0, 0.0, -1.0]]>' --input 'dy=dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [-7.0, 8.0]]>'
// RUN: %{run} < %s > %t.whole
// RUN: shard-opt %s --shard-propagate --shard-defer-gradient-sums --shard-partition | %{run} | diff %t.whole -

// The batch is cut over both data-parallel axes. A gradient's sum over it stays pending as far as the ops behind it are linear, also
// through calls. What depends on a gradient otherwise needs it whole, and the sum is made there. Sums over tp are none of FSDP's business.
shard.mesh @mesh ["dp_replicate" = 2, "dp_shard" = 2, "tp" = 2]

// CHECK-LABEL: func.func @main(
// CHECK-SAME:    tensor<2x3xf32> {graph.gradient = "direct", shard.sharding = [[PENDING:#shard.sharding<@mesh, \[\{\}, \{\}\], partial = sum \{"dp_replicate", "dp_shard"\}>]]}
// CHECK-SAME:    tensor<3x2xf32> {graph.gradient = "linear", shard.sharding = [[PENDING]]}
// CHECK-SAME:    tensor<2x3xf32> {graph.gradient = "called", shard.sharding = [[PENDING]]}
// CHECK-SAME:    tensor<2x3xf32> {graph.gradient = "squared", shard.sharding = #shard.sharding<@mesh, [{}, {}]>}
// CHECK-SAME:    tensor<2x3xf32> {graph.gradient = "decayed", shard.sharding = #shard.sharding<@mesh, [{}, {}]>}
// CHECK-SAME:    tensor<2x3xf32> {graph.gradient = "tensor", shard.sharding = #shard.sharding<@mesh, [{"tp"}, {}], partial = sum {"dp_replicate", "dp_shard"}>}
// Nothing is summed over the data-parallel axes but what is squared, or added to what does not pend.
// LOCAL-LABEL: func.func @main(
// LOCAL:         %[[D:.*]] = graph.einsum "bn,bk->nk" %arg1, %arg0
// LOCAL-NOT:     shard.all_reduce
// LOCAL:         %[[N:.*]] = graph.einsum
// LOCAL-NEXT:    %[[S:.*]] = shard.all_reduce %[[N]] over {"dp_replicate", "dp_shard"} of @mesh sum
// LOCAL-NEXT:    graph.mul %[[S]], %[[S]]
// LOCAL-NEXT:    %[[A:.*]] = shard.all_reduce %[[D]] over {"dp_replicate", "dp_shard"} of @mesh sum
// LOCAL-NEXT:    graph.add %[[A]]
// LOCAL-NOT:     shard.all_reduce
func.func @main(%x: tensor<4x3xf32> {graph.name = "x", shard.sharding = #shard.sharding<@mesh, [{"dp_replicate", "dp_shard"}, {}]>},
                %dy: tensor<4x2xf32> {graph.name = "dy", shard.sharding = #shard.sharding<@mesh, [{"dp_replicate", "dp_shard"}, {}]>})
    -> (tensor<f32> {graph.name = "loss"}, tensor<f32> {graph.name = "tokens"},
        tensor<2x3xf32> {graph.gradient = "direct"}, tensor<3x2xf32> {graph.gradient = "linear"}, tensor<2x3xf32> {graph.gradient = "called"},
        tensor<2x3xf32> {graph.gradient = "squared"}, tensor<2x3xf32> {graph.gradient = "decayed"}, tensor<2x3xf32> {graph.gradient = "tensor"}) {
  %one = graph.constant dense<1.0> : tensor<f32>
  %direct = graph.parameter "direct" : tensor<2x3xf32>
  %linear = graph.parameter "linear" : tensor<3x2xf32>
  %called = graph.parameter "called" : tensor<2x3xf32>
  %squared = graph.parameter "squared" : tensor<2x3xf32>
  %decayed = graph.parameter "decayed" : tensor<2x3xf32>
  %tensor = graph.parameter "tensor" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>]} : tensor<2x3xf32>
  // CHECK: graph.einsum "bn,bk->nk" {{.*}} {shard.shardings = [#shard.sharding<@mesh, [{}, {}], partial = sum {"dp_replicate", "dp_shard"}>]}
  %d0 = graph.einsum "bn,bk->nk" %dy, %x : tensor<4x2xf32>, tensor<4x3xf32> -> tensor<2x3xf32>
  %d1 = graph.add %d0, %d0 : tensor<2x3xf32>
  %d2 = graph.transpose %d1 [1, 0] : tensor<2x3xf32> -> tensor<3x2xf32>
  %d3 = call @layer(%x, %dy) : (tensor<4x3xf32>, tensor<4x2xf32>) -> tensor<2x3xf32>
  %n0 = graph.neg %dy : tensor<4x2xf32>
  %s0 = graph.einsum "bn,bk->nk" %n0, %x : tensor<4x2xf32>, tensor<4x3xf32> -> tensor<2x3xf32>
  %d4 = graph.mul %s0, %s0 : tensor<2x3xf32>
  %weight = graph.constant dense<2.0> : tensor<2x3xf32>
  %d5 = graph.add %d0, %weight : tensor<2x3xf32>
  %d6 = graph.einsum "bn,bk->nk" %dy, %x {shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>]} : tensor<4x2xf32>, tensor<4x3xf32> -> tensor<2x3xf32>
  return %one, %one, %d0, %d2, %d3, %d4, %d5, %d6
      : tensor<f32>, tensor<f32>, tensor<2x3xf32>, tensor<3x2xf32>, tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>
}
// CHECK: func.func private @layer({{.*}}) -> (tensor<2x3xf32> {shard.sharding = [[PENDING]]})
func.func private @layer(%x: tensor<4x3xf32>, %dy: tensor<4x2xf32>) -> tensor<2x3xf32> {
  %0 = graph.einsum "bn,bk->nk" %dy, %x : tensor<4x2xf32>, tensor<4x3xf32> -> tensor<2x3xf32>
  return %0 : tensor<2x3xf32>
}
