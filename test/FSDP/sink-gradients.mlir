// RUN: shard-opt %s --shard-sink-gradients | FileCheck %s
// RUN: shard-opt %s --validate-each --shard-sink-gradients -o /dev/null

// All calls widen the first result and add it to a part of the state: the layer does. The second one is widened, the third is used otherwise
// by one call, the fourth is added to what is no state: those stay.
// CHECK-LABEL: func.func @main(%arg0: tensor<64xf32>
// CHECK: %[[A:.*]] = shard.bucket_view %arg0 at 0
// CHECK: %[[F:.*]]:4 = call @layer({{.*}}, %[[A]]) : {{.*}} -> (tensor<4xf32>, tensor<4xf32>, tensor<4xbf16>, tensor<4xf32>)
// CHECK: graph.cast %[[F]]#2
// CHECK: graph.add %{{.*}}, %[[F]]#3
// CHECK: %[[B:.*]] = shard.bucket_view %arg0 at 32
// CHECK: %[[S:.*]]:4 = call @layer({{.*}}, %[[B]])
// CHECK: shard.bucket_pack %[[F]]#0, %[[S]]#0 at [0, 32]
// CHECK-LABEL: func.func private @layer(
// CHECK-SAME: %[[X:.*]]: tensor<4xbf16>, %[[G:.*]]: tensor<4xf32>, %[[P:.*]]: tensor<4xf32>)
// CHECK: %[[D:.*]] = graph.neg %[[X]]
// CHECK: %[[W:.*]] = graph.cast %[[D]] : tensor<4xbf16> -> tensor<4xf32>
// CHECK: %[[N:.*]] = graph.add %[[P]], %[[W]]
// CHECK: %[[V:.*]] = graph.cast %[[X]]
// CHECK: return %[[N]], %[[V]], %[[D]], %[[G]]
shard.mesh @mesh ["dp_shard" = 1]
func.func @main(%state: tensor<64xf32>, %x: tensor<4xbf16>, %g: tensor<4xf32>) -> (tensor<64xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xbf16>) {
  %f:4 = call @layer(%x, %g) : (tensor<4xbf16>, tensor<4xf32>) -> (tensor<4xbf16>, tensor<4xbf16>, tensor<4xbf16>, tensor<4xf32>)
  %fa = graph.cast %f#0 : tensor<4xbf16> -> tensor<4xf32>
  %fb = graph.cast %f#1 : tensor<4xbf16> -> tensor<4xf32>
  %fc = graph.cast %f#2 : tensor<4xbf16> -> tensor<4xf32>
  %fd = graph.add %g, %f#3 : tensor<4xf32>
  %va = shard.bucket_view %state at 0 : tensor<64xf32> -> tensor<4xf32>
  %na = graph.add %va, %fa : tensor<4xf32>
  %s:4 = call @layer(%x, %g) : (tensor<4xbf16>, tensor<4xf32>) -> (tensor<4xbf16>, tensor<4xbf16>, tensor<4xbf16>, tensor<4xf32>)
  %sa = graph.cast %s#0 : tensor<4xbf16> -> tensor<4xf32>
  %sb = graph.cast %s#1 : tensor<4xbf16> -> tensor<4xf32>
  %sd = graph.add %g, %s#3 : tensor<4xf32>
  %vb = shard.bucket_view %state at 32 : tensor<64xf32> -> tensor<4xf32>
  %nb = graph.add %vb, %sa : tensor<4xf32>
  %new = shard.bucket_pack %na, %nb at [0, 32] : tensor<4xf32>, tensor<4xf32> -> tensor<64xf32>
  %e = graph.add %fb, %sb : tensor<4xf32>
  %h = graph.add %fd, %sd : tensor<4xf32>
  return %new, %fc, %e, %h, %s#2 : tensor<64xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xbf16>
}
func.func private @layer(%x: tensor<4xbf16>, %g: tensor<4xf32>) -> (tensor<4xbf16>, tensor<4xbf16>, tensor<4xbf16>, tensor<4xf32>) {
  %d = graph.neg %x : tensor<4xbf16>
  return %d, %x, %d, %g : tensor<4xbf16>, tensor<4xbf16>, tensor<4xbf16>, tensor<4xf32>
}
