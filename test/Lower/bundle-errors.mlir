// RUN: rm -rf %t.bundle
// RUN: not shard-opt %s --shard-bundle="output=%t.bundle levels=pentium" -o /dev/null 2>&1 | FileCheck %s --check-prefix=LEVEL
// RUN: not ls %t.bundle 2>/dev/null
// RUN: not shard-opt %s --shard-bundle -o /dev/null 2>&1 | FileCheck %s --check-prefix=PATH
// RUN: mkdir -p %t.folder && not shard-opt %s --shard-bundle="output=%t.folder force" -o /dev/null 2>&1 | FileCheck %s --check-prefix=OTHER

// LEVEL: unknown cpu level "pentium", expected x86-64-v3, x86-64-v4 or native
// PATH: no path was given for the bundle
// OTHER: exists and is no bundle (it has no manifest.json); it will not be replaced
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %y = graph.exp %x : tensor<4xf32>
  return %y : tensor<4xf32>
}
