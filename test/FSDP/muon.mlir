// Two matrices of a layer, whose gradients are x and its transpose, and a vector; a matrix outside of layers.
// DEFINE: %{mesh} = "dp_shard" = 1
// DEFINE: %{fsdp} = momentum=0,nesterov=false,newton-schulz-dtype=float32
// DEFINE: %{more} =
// DEFINE: %{build} = sed 's/MESH/%{mesh}/' %s | shard-opt --shard-fsdp="optimizer=muon,%{fsdp} %{more}"
shard.mesh @mesh [MESH]
func.func @main(%x: tensor<2x4xf32> {graph.name = "x"})
    -> (tensor<f32> {graph.name = "loss"}, tensor<f32> {graph.name = "tokens"}, tensor<2x4xf32> {graph.gradient = "wide"},
        tensor<4x2xf32> {graph.gradient = "tall"}, tensor<4xf32> {graph.gradient = "norm"}, tensor<2x4xf32> {graph.gradient = "table"}) {
  %one = graph.constant dense<1.0> : tensor<f32>
  %wide = graph.parameter "wide" : tensor<2x4xf32>
  %tall = graph.parameter "tall" : tensor<4x2xf32>
  %norm = graph.parameter "norm" : tensor<4xf32>
  %table = graph.parameter "table" : tensor<2x4xf32>
  %0 = graph.mul %x, %table : tensor<2x4xf32>
  %g:3 = call @layer(%0, %wide, %tall, %norm) {graph.path = "layers.0"} : (tensor<2x4xf32>, tensor<2x4xf32>, tensor<4x2xf32>, tensor<4xf32>) -> (tensor<2x4xf32>, tensor<4x2xf32>, tensor<4xf32>)
  return %one, %one, %g#0, %g#1, %g#2, %x : tensor<f32>, tensor<f32>, tensor<2x4xf32>, tensor<4x2xf32>, tensor<4xf32>, tensor<2x4xf32>
}
func.func private @layer(%x: tensor<2x4xf32>, %wide: tensor<2x4xf32>, %tall: tensor<4x2xf32>, %norm: tensor<4xf32>) -> (tensor<2x4xf32>, tensor<4x2xf32>, tensor<4xf32>) {
  %t = graph.transpose %x [1, 0] : tensor<2x4xf32> -> tensor<4x2xf32>
  %s = graph.reduce sum %x [0] : tensor<2x4xf32> -> tensor<4xf32>
  %0 = graph.mul %x, %wide : tensor<2x4xf32>
  return %x, %t, %s : tensor<2x4xf32>, tensor<4x2xf32>, tensor<4xf32>
}

// Singular values 2 and 2: by the norm 1/sqrt(2), and after five steps of s <- 3.4445 s - 4.775 s^3 + 2.0315 s^5 about one. Half of it is subtracted
// from one; of the tall matrix sqrt(4 / 2) times as much. The vector and the table have AdamW's: rate * sign of the gradient.
// DEFINE: %{run} = %{build} | shard-opt --shard-interpret - --entry step --input 'x=dense<[[2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]]>' --input 'parameter/embedding=dense<1.0>' --input 'parameter/layers.0=dense<1.0>' --input 'parameter/layers.0/1=dense<1.0>' --input 'learning_rate=dense<0.5>' --input 'bias_correction1=dense<0.1>' --input 'bias_correction2=dense<0.05>' --input 'exp_avg/embedding=dense<0.0>' --input 'exp_avg_sq/embedding=dense<0.0>' --input 'exp_avg/layers.0/1=dense<0.0>' --input 'exp_avg_sq/layers.0/1=dense<0.0>' --input 'momentum/layers.0=dense<0.0>'
// RUN: %{run} | FileCheck %s --check-prefix=VALUES
// VALUES-DAG: parameter/embedding : tensor<64xf32> = [0.5, 1, 1, 1, 1, 1, 0.5, 1, 1,
// VALUES-DAG: parameter/layers.0/1 : tensor<64xf32> = [0.5, 1, 0.5, 1, 1,
// Two elements of 0.44594, two of 0.21645.
// VALUES-DAG: parameter/layers.0 : tensor<128xf32> min 0.21644{{[0-9]*}} max 1 mean 0.9791

// Over two ranks: momenta are gathered, each rank has one of the two matrices, and takes its part of all directions.
// REDEFINE: %{mesh} = "dp_shard" = 2
// REDEFINE: %{fsdp} = newton-schulz-steps=2
// RUN: %{build} | FileCheck %s
// CHECK:      shard.state @"momentum/layers.0" "momentum" tensor<64xf32> of @layers.0 over {"dp_shard"}
// CHECK-LABEL: func.func @step(
// CHECK:      %[[ALL:.*]] = shard.all_gather %{{.*}} : tensor<64xbf16> -> tensor<128xbf16>
// CHECK-DAG:  shard.bucket_view %[[ALL]] at 0 : tensor<128xbf16> -> tensor<2x4xbf16>
// CHECK-DAG:  shard.bucket_view %[[ALL]] at 64 : tensor<128xbf16> -> tensor<4x2xbf16>
// CHECK:      %[[BATCH:.*]] = graph.concat {{.*}} -> tensor<2x2x4xbf16>
// CHECK:      shard.slice %[[BATCH]] {{.*}} dim 0 {{.*}} : tensor<2x2x4xbf16> -> tensor<1x2x4xbf16>
// CHECK-COUNT-2: graph.einsum "bik,bjk->bij"
// CHECK-NOT:  graph.einsum "bik,bjk->bij"
// CHECK:      shard.all_gather {{.*}} : tensor<1x2x4xbf16> -> tensor<2x2x4xbf16>
// CHECK:      %[[FLAT:.*]] = shard.bucket_pack {{.*}} at [0, 64] : tensor<2x4xf32>, tensor<4x2xf32> -> tensor<128xf32>
// CHECK:      shard.slice %[[FLAT]] {{.*}} dim 0 {{.*}} : tensor<128xf32> -> tensor<64xf32>
