// RUN: shard-opt %s --shard-propagate --shard-partition --canonicalize --cse | FileCheck %s
// RUN: shard-opt %s --shard-propagate --shard-partition | shard-opt --shard-interpret - --trace --input 'x=dense<1.0>' --input 'dy=dense<2.0>' 2>&1 | FileCheck %s --check-prefix=TRACE

// Five rows over two ranks: what lies in the padding of a gradient takes part in norms and in updates, and is made zero. Of an ordinary result it may
// be anything.
shard.mesh @mesh ["tp" = 2]
// CHECK-LABEL: func.func @main
// CHECK:         %[[D:.*]] = graph.einsum "bn,bk->nk" {{.*}} -> tensor<3x2xf32>
// CHECK:         %[[BEGIN:.*]] = shard.axis_index {"tp"} of @mesh
// CHECK:         %[[Z:.*]] = graph.select %{{.*}}, %[[D]], %{{.*}} : tensor<3x2xi1>, tensor<3x2xf32>
// CHECK:         return %[[Z]], %[[D]]
// TRACE:         on 1 : tensor<3x2xf32> = {{\[\[}}4, 4], [4, 4], [4, 4]]
// TRACE:         on 1 : tensor<3x2xf32> = {{\[\[}}4, 4], [4, 4], [0, 0]]
func.func @main(%x: tensor<2x2xf32> {graph.name = "x"}, %dy: tensor<2x1xf32> {graph.name = "dy"})
    -> (tensor<5x2xf32> {graph.gradient = "w"}, tensor<5x2xf32> {shard.sharding = #shard.sharding<@mesh, [{"tp"}, {}]>}) {
  %w = graph.parameter "w" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>]} : tensor<5x2xf32>
  // In the padding this is not zero: exp(0).
  %zero = graph.constant dense<0.0> : tensor<5x2xf32>
  %0 = graph.mul %w, %zero : tensor<5x2xf32>
  %1 = graph.exp %0 : tensor<5x2xf32>
  %2 = graph.reduce max %1 [1] : tensor<5x2xf32> -> tensor<5xf32>
  %3 = graph.reshape %dy : tensor<2x1xf32> -> tensor<2xf32>
  %4 = graph.einsum "b,n->bn" %3, %2 : tensor<2xf32>, tensor<5xf32> -> tensor<2x5xf32>
  %5 = graph.einsum "bn,bk->nk" %4, %x : tensor<2x5xf32>, tensor<2x2xf32> -> tensor<5x2xf32>
  return %5, %5 : tensor<5x2xf32>, tensor<5x2xf32>
}
