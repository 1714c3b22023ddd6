// RUN: shard-opt %s --allow-unregistered-dialect --split-input-file --verify-diagnostics --shard-fuse

// expected-error@+1 {{has control flow, which cannot become a command list}}
func.func @blocks(%x: tensor<4xf32>) -> tensor<4xf32> {
  "test.br"()[^bb1] : () -> ()
^bb1:
  return %x : tensor<4xf32>
}
