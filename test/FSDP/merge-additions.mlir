// RUN: shard-opt %s --shard-defer-gradient-sums | FileCheck %s
// RUN: shard-opt %s --shard-defer-gradient-sums --shard-partition --canonicalize --cse | FileCheck %s --check-prefix=LOCAL

// Terms of one sum over tp are added before it is reduced, however many there are; what is whole is added behind.
shard.mesh @mesh ["tp" = 2]
// CHECK-LABEL: func.func @main(
// CHECK:       graph.einsum "bn,nk->bk" {{.*}}partial = sum {"tp"}
// CHECK:       graph.einsum "bn,nk->bk" {{.*}}partial = sum {"tp"}
// CHECK:       graph.add {{.*}}partial = sum {"tp"}
// CHECK:       graph.einsum "bn,nk->bk" {{.*}}partial = sum {"tp"}
// CHECK:       graph.add
// CHECK-NOT:   partial
// LOCAL-LABEL: func.func @main(
// LOCAL-NOT:   shard.all_reduce
// LOCAL-COUNT-3: graph.einsum
// LOCAL:       shard.all_reduce
// LOCAL-NOT:   shard.all_reduce
// LOCAL:       graph.add
// LOCAL:       return
func.func @main(%x: tensor<2x8xf32> {graph.name = "x", shard.sharding = #shard.sharding<@mesh, [{}, {"tp"}]>}, %rest: tensor<2x4xf32> {graph.name = "rest", shard.sharding = #shard.sharding<@mesh, [{}, {}]>})
    -> (tensor<2x4xf32> {graph.name = "y"}) {
  %q = graph.parameter "q" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>]} : tensor<8x4xf32>
  %k = graph.parameter "k" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>]} : tensor<8x4xf32>
  %v = graph.parameter "v" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>]} : tensor<8x4xf32>
  %dq = graph.einsum "bn,nk->bk" %x, %q : tensor<2x8xf32>, tensor<8x4xf32> -> tensor<2x4xf32>
  %dk = graph.einsum "bn,nk->bk" %x, %k : tensor<2x8xf32>, tensor<8x4xf32> -> tensor<2x4xf32>
  %0 = graph.add %dq, %dk : tensor<2x4xf32>
  %dv = graph.einsum "bn,nk->bk" %x, %v : tensor<2x8xf32>, tensor<8x4xf32> -> tensor<2x4xf32>
  %1 = graph.add %0, %dv : tensor<2x4xf32>
  %y = graph.add %1, %rest : tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}
