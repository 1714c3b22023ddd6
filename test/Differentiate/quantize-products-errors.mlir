// RUN: not shard-opt %s --shard-quantize-products=entry=other 2>&1 | FileCheck %s --check-prefix=ENTRY
// RUN: not shard-opt %s --shard-quantize-products=recipe=mxfp8 2>&1 | FileCheck %s --check-prefix=RECIPE
// RUN: not shard-opt %s --shard-quantize-products="skip=[" 2>&1 | FileCheck %s --check-prefix=SKIP
// RUN: shard-opt %s --shard-quantize-products -o /dev/null 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: not shard-opt %s --shard-differentiate=entry=raw 2>&1 | FileCheck %s --check-prefix=RAW

// ENTRY: error: no function @other of one block
// RECIPE: error: recipe: "mxfp8" is not e4m3 or hybrid
// SKIP: error: skip: "[" is not a regular expression: brackets ([ ]) not balanced
// NONE: warning: fp8 e4m3: none of 0 products of linear layers is computed in 8 bits
func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
  return %x : tensor<2xf32>
}

// RAW: error: 'graph.einsum' op of 'f8E4M3FN' has no derivative; what is quantized to be multiplied is graph.scaled_einsum
func.func @raw(%x: tensor<2x2xf8E4M3FN>) -> (tensor<f32> {graph.name = "loss"}) {
  %w = graph.parameter "w" : tensor<2x2xf32>
  %0 = graph.cast %w : tensor<2x2xf32> -> tensor<2x2xf8E4M3FN>
  %1 = graph.einsum "mk,nk->mn" %x, %0 : tensor<2x2xf8E4M3FN>, tensor<2x2xf8E4M3FN> -> tensor<2x2xf32>
  %2 = graph.reduce sum %1 [0, 1] : tensor<2x2xf32> -> tensor<f32>
  return %2 : tensor<f32>
}
