// RUN: shard-opt %s --shard-differentiate="entry=main loss-chunks=2" --canonicalize --cse | FileCheck %s
// RUN: shard-opt %s --shard-differentiate="entry=main loss-chunks=2" | shard-opt --shard-interpret - --entry main --input 'ids=dense<[[0, 1, 2, 0], [2, 2, 1, 1]]>' --input 'labels=dense<[[1, 2, -100, 3], [0, 0, 3, 2]]>' | FileCheck %s --check-prefix=VALUES
// RUN: shard-opt %s --shard-differentiate="entry=main loss-chunks=1" | shard-opt --shard-interpret - --entry main --input 'ids=dense<[[0, 1, 2, 0], [2, 2, 1, 1]]>' --input 'labels=dense<[[1, 2, -100, 3], [0, 0, 3, 2]]>' | FileCheck %s --check-prefix=VALUES
// RUN: shard-opt %s --shard-differentiate="entry=main loss-chunks=4 frozen=head" --canonicalize --cse | FileCheck %s --check-prefix=FROZEN
// RUN: shard-opt %s --shard-differentiate="entry=narrow loss-chunks=2" --canonicalize --cse | FileCheck %s --check-prefix=NARROW
// RUN: shard-opt %s --shard-differentiate="entry=large" | FileCheck %s --check-prefix=AUTO

// Logits of two positions of each sequence at a time, through a bias and a soft cap; the gathering that a plan asks of them is not for the loss.
// The second chunk's gradients are added to the first one's; nothing has all four positions and the vocabulary.
// CHECK-LABEL: func.func @main(
// CHECK-NOT:     tensor<2x4x5xf32>
// CHECK:         graph.einsum "bsh,vh->bsv" {{.*}} -> tensor<2x2x5xf32>
// CHECK:         graph.einsum "bsh,vh->bsv" {{.*}} -> tensor<2x2x5xf32>
// CHECK:         %[[W1:.*]] = graph.einsum "bsv,bsh->vh"
// CHECK:         graph.add %{{.*}}, %[[W1]] : tensor<5x3xf32>
// CHECK-NOT:     tensor<2x4x5xf32>
// CHECK:         return

// The same numbers, with all logits at once and in chunks.
// VALUES: loss : tensor<f32> = 1.39005
// VALUES: tokens : tensor<f32> = 0.875
// VALUES: embed : tensor<3x3xf32> = {{\[\[}}0.13500{{[0-9]+}}, -0.12960{{[0-9]+}}, -0.042566
// VALUES: head : tensor<5x3xf32> = {{\[\[}}-0.16327{{[0-9]+}}, 0.11967{{[0-9]+}}, -0.051044
// VALUES: bias : tensor<5xf32> = [-0.08354{{[0-9]+}}, 0.01473{{[0-9]+}}, -0.15684{{[0-9]+}}, -0.02698{{[0-9]+}}, 0.19381

// A head that is not trained has no gradient to sum.
// FROZEN-LABEL: func.func @main(
// FROZEN-COUNT-4: graph.einsum "bsh,vh->bsv"
// FROZEN-NOT:   -> tensor<5x3xf32>
// FROZEN:       return
shard.mesh @mesh ["tp" = 1]
func.func @main(%ids: tensor<2x4xi64> {graph.name = "ids"}) -> (tensor<2x4x5xf32> {graph.name = "logits"}) {
  %e = graph.parameter "embed" {value = dense<[[0.5, -0.25, 0.75], [0.125, 0.5, -0.5], [1.0, -0.5, 0.25]]> : tensor<3x3xf32>} : tensor<3x3xf32>
  %w = graph.parameter "head" {value = dense<[[0.5, 0.25, 0.0], [-0.5, 1.0, 0.5], [0.25, 0.25, -1.0], [0.0, 0.75, 0.5], [1.0, -0.25, 0.5]]> : tensor<5x3xf32>} : tensor<5x3xf32>
  %b = graph.parameter "bias" {value = dense<[0.0, 0.25, -0.5, 0.5, 0.125]> : tensor<5xf32>} : tensor<5xf32>
  %x = graph.gather %e, %ids axis 0 : tensor<3x3xf32>, tensor<2x4xi64> -> tensor<2x4x3xf32>
  %y = graph.einsum "bsh,vh->bsv" %x, %w : tensor<2x4x3xf32>, tensor<5x3xf32> -> tensor<2x4x5xf32>
  %g = shard.constraint %y : tensor<2x4x5xf32> to #shard.sharding<@mesh, [{}, {}, {}]>
  %bb = graph.broadcast %b [2] : tensor<5xf32> -> tensor<2x4x5xf32>
  %z = graph.add %g, %bb : tensor<2x4x5xf32>
  %cap = graph.constant dense<2.0> : tensor<2x4x5xf32>
  %q = graph.div %z, %cap : tensor<2x4x5xf32>
  %t = graph.tanh %q : tensor<2x4x5xf32>
  %logits = graph.mul %t, %cap : tensor<2x4x5xf32>
  return %logits : tensor<2x4x5xf32>
}

// Gradients of a narrow copy are summed in f32 and rounded once.
// NARROW-LABEL: func.func @narrow(
// NARROW:       %[[D0:.*]] = graph.cast %{{.*}} : tensor<5x3xbf16> -> tensor<5x3xf32>
// NARROW:       %[[D1:.*]] = graph.cast %{{.*}} : tensor<5x3xbf16> -> tensor<5x3xf32>
// NARROW:       %[[D:.*]] = graph.add %[[D0]], %[[D1]] : tensor<5x3xf32>
// NARROW:       graph.cast %[[D]] : tensor<5x3xf32> -> tensor<5x3xbf16>
func.func @narrow(%x: tensor<2x4x3xbf16> {graph.name = "x"}) -> (tensor<2x4x5xf32> {graph.name = "logits"}) {
  %w = graph.parameter "head" : tensor<5x3xf32>
  %n = graph.cast %w : tensor<5x3xf32> -> tensor<5x3xbf16>
  %y = graph.einsum "bsh,vh->bsv" %x, %n : tensor<2x4x3xbf16>, tensor<5x3xbf16> -> tensor<2x4x5xbf16>
  %logits = graph.cast %y : tensor<2x4x5xbf16> -> tensor<2x4x5xf32>
  return %logits : tensor<2x4x5xf32>
}

// By size: chunks have at least 512 positions.
// AUTO-LABEL: func.func @large(
// AUTO-COUNT-4: graph.einsum "bsh,vh->bsv" {{.*}} -> tensor<2x256x5xf32>
// AUTO-NOT:   graph.einsum "bsh,vh->bsv"
func.func @large(%x: tensor<2x1024x3xf32> {graph.name = "x"}) -> (tensor<2x1024x5xf32> {graph.name = "logits"}) {
  %w = graph.parameter "head" : tensor<5x3xf32>
  %logits = graph.einsum "bsh,vh->bsv" %x, %w : tensor<2x1024x3xf32>, tensor<5x3xf32> -> tensor<2x1024x5xf32>
  return %logits : tensor<2x1024x5xf32>
}
