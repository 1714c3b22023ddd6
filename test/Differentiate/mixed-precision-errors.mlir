// RUN: not shard-opt %s --shard-mixed-precision=entry=other 2>&1 | FileCheck %s --check-prefix=ENTRY
// RUN: not shard-opt %s --shard-mixed-precision=dtype=f8 2>&1 | FileCheck %s --check-prefix=DTYPE
// RUN: not shard-opt %s --shard-mixed-precision="keep=[" 2>&1 | FileCheck %s --check-prefix=KEEP

// ENTRY: error: no function @other of one block
// DTYPE: error: dtype: "f8" is not f32, bf16 or f16
// KEEP: error: keep: "[" is not a regular expression: brackets ([ ]) not balanced
func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
  return %x : tensor<2xf32>
}
