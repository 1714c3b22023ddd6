// RUN: shard-opt --shard-interpret %s --entry uneven --input 'x=dense<[1.0, 2.0, 3.0, 4.0, 5.0]>' | FileCheck %s --check-prefix=UNEVEN
// RUN: shard-opt --shard-interpret %s --entry reduced | FileCheck %s --check-prefix=REDUCED
// RUN: shard-opt --shard-interpret %s --entry exchanged --input 'x=dense<[[1, 2, 3], [4, 5, 6], [7, 8, 9]]>' | FileCheck %s --check-prefix=EXCHANGED
// RUN: shard-opt --shard-interpret %s --entry moved | FileCheck %s --check-prefix=MOVED

shard.mesh @mesh ["dp" = 2, "tp" = 2]

// Five rows on four devices: 2, 2, 1 and none.
func.func @uneven(%x: tensor<2xf32> {graph.name = "x", shard.sharding = #shard.sharding<@mesh, [{"dp", "tp"}]>, graph.global_type = tensor<5xf32>})
    -> (tensor<5xf32>, tensor<2xf32> {shard.sharding = #shard.sharding<@mesh, [{"dp", "tp"}]>, graph.global_type = tensor<5xf32>}) {
  // UNEVEN: result0 {{.*}} = [1, 2, 3, 4, 5]
  %0 = shard.all_gather %x over {"dp", "tp"} of @mesh dim 0 : tensor<2xf32> -> tensor<5xf32>
  %1 = graph.add %0, %0 : tensor<5xf32>
  // UNEVEN: result1 {{.*}} = [2, 4, 6, 8, 10]
  %2 = shard.slice %1 over {"dp", "tp"} of @mesh dim 0 : tensor<5xf32> -> tensor<2xf32>
  return %0, %2 : tensor<5xf32>, tensor<2xf32>
}

// Device r holds r + 1 everywhere: 1 + 2 along tp on dp = 0, 3 + 4 on dp = 1.
func.func @reduced() -> (tensor<3xi64> {shard.sharding = #shard.sharding<@mesh, [{"dp"}]>}, tensor<4xi64> {shard.sharding = #shard.sharding<@mesh, [{"tp"}], partial = max {"dp"}>, graph.global_type = tensor<7xi64>}) {
  %r = shard.axis_index {"dp", "tp"} of @mesh : tensor<i64>
  %one = graph.constant dense<1> : tensor<i64>
  %s = graph.add %r, %one : tensor<i64>
  %x = graph.broadcast %s [] : tensor<i64> -> tensor<3xi64>
  // REDUCED: result0 {{.*}} = [3, 3, 3, 7, 7, 7]
  %0 = shard.all_reduce %x over {"tp"} of @mesh sum : tensor<3xi64> -> tensor<3xi64>
  // Padding is not reduced, and a pending maximum is resolved on the way out.
  // REDUCED: result1 {{.*}} = [12, 12, 12, 12, 12, 12, 12]
  %y = graph.broadcast %s [] : tensor<i64> -> tensor<7xi64>
  %1 = shard.reduce_scatter %y over {"tp"} of @mesh prod dim 0 : tensor<7xi64> -> tensor<4xi64>
  return %0, %1 : tensor<3xi64>, tensor<4xi64>
}

// Rows to columns, both uneven: ceil(3 / 2) = 2.
func.func @exchanged(%x: tensor<2x3xi64> {graph.name = "x", shard.sharding = #shard.sharding<@mesh, [{"tp"}, {}]>, graph.global_type = tensor<3x3xi64>})
    -> (tensor<3x2xi64> {shard.sharding = #shard.sharding<@mesh, [{}, {"tp"}]>, graph.global_type = tensor<3x3xi64>}) {
  // EXCHANGED: result0 {{.*}} = {{\[\[}}1, 2, 3], [4, 5, 6], [7, 8, 9]]
  %0 = shard.all_to_all %x over {"tp"} of @mesh split 1 total 3 concat 0 total 3 : tensor<2x3xi64> -> tensor<3x2xi64>
  return %0 : tensor<3x2xi64>
}

func.func @moved() -> (tensor<1xi64> {shard.sharding = #shard.sharding<@mesh, [{"dp", "tp"}]>}, tensor<1xi64> {shard.sharding = #shard.sharding<@mesh, [{"dp", "tp"}]>}) {
  %r = shard.axis_index {"dp", "tp"} of @mesh : tensor<i64>
  %x = graph.reshape %r : tensor<i64> -> tensor<1xi64>
  %one = graph.constant dense<1> : tensor<1xi64>
  %y = graph.add %x, %one : tensor<1xi64>
  // Who receives nothing gets zero.
  // MOVED: result0 {{.*}} = [0, 0, 1, 2]
  %0 = shard.permute %y over {"dp"} of @mesh [0, 1] : tensor<1xi64> -> tensor<1xi64>
  // MOVED: result1 {{.*}} = [2, 2, 4, 4]
  %1 = shard.broadcast %y over {"tp"} of @mesh root 1 : tensor<1xi64> -> tensor<1xi64>
  return %0, %1 : tensor<1xi64>, tensor<1xi64>
}
