// Two layers x + down(relu(up(x))), and the sum of (y * norm . head)^2 as the loss. Tests choose MESH, and the axes of BATCH and TENSOR.
shard.mesh @mesh [MESH]
func.func @main(%x: tensor<4x2xf32> {graph.name = "x", shard.sharding = #shard.sharding<@mesh, [{BATCH}, {}]>}) -> (tensor<f32> {graph.name = "loss"}) {
  %up0 = graph.parameter "layers.0.up" {shard.shardings = [#shard.sharding<@mesh, [{TENSOR}, {}]>]} : tensor<2x2xf32>
  %up1 = graph.parameter "layers.1.up" {shard.shardings = [#shard.sharding<@mesh, [{TENSOR}, {}]>]} : tensor<2x2xf32>
  %down0 = graph.parameter "layers.0.down" {shard.shardings = [#shard.sharding<@mesh, [{}, {TENSOR}]>]} : tensor<2x2xf32>
  %down1 = graph.parameter "layers.1.down" {shard.shardings = [#shard.sharding<@mesh, [{}, {TENSOR}]>]} : tensor<2x2xf32>
  %norm = graph.parameter "norm" {shard.shardings = [#shard.sharding<@mesh, [{}]>]} : tensor<2xf32>
  %head = graph.parameter "head" {shard.shardings = [#shard.sharding<@mesh, [{TENSOR}]>]} : tensor<2xf32>
  %0 = call @layer(%x, %up0, %down0) {graph.path = "layers.0"} : (tensor<4x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<4x2xf32>
  %1 = call @layer(%0, %up1, %down1) {graph.path = "layers.1"} : (tensor<4x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<4x2xf32>
  %2 = graph.broadcast %norm [1] : tensor<2xf32> -> tensor<4x2xf32>
  %3 = graph.mul %1, %2 : tensor<4x2xf32>
  %4 = graph.einsum "bk,k->b" %3, %head : tensor<4x2xf32>, tensor<2xf32> -> tensor<4xf32>
  %5 = graph.mul %4, %4 : tensor<4xf32>
  %6 = graph.reduce sum %5 [0] : tensor<4xf32> -> tensor<f32>
  return %6 : tensor<f32>
}
func.func private @layer(%x: tensor<4x2xf32>, %up: tensor<2x2xf32> {graph.parameter = "up"}, %down: tensor<2x2xf32> {graph.parameter = "down"})
    -> tensor<4x2xf32> attributes {graph.layer = "layers"} {
  %h = graph.einsum "bk,nk->bn" %x, %up : tensor<4x2xf32>, tensor<2x2xf32> -> tensor<4x2xf32>
  %r = graph.relu %h : tensor<4x2xf32>
  %d = graph.einsum "bk,nk->bn" %r, %down : tensor<4x2xf32>, tensor<2x2xf32> -> tensor<4x2xf32>
  %y = graph.add %x, %d : tensor<4x2xf32>
  return %y : tensor<4x2xf32>
}
