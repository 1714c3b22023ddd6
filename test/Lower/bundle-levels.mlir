// A program that multiplies bf16 has files for levels with instructions for it, which hold the products only; what they lack is in
// the plain level's. Whatever level the processor has, the sums of these small integers are exact.
// RUN: rm -rf %t.bundle && shard-opt %s --shard-bundle="output=%t.bundle" -o /dev/null
// RUN: FileCheck %s --check-prefix=MANIFEST < %t.bundle/manifest.json
// RUN: shard-run %t.bundle --output y=%t.best.npy
// RUN: shard-run %t.bundle --output y=%t.v3.npy --isa x86-64-v3
// RUN: cmp %t.best.npy %t.v3.npy
// A level that stands alone has all kernels.
// RUN: shard-opt %s --shard-bundle="output=%t.bundle force levels=x86-64-v4+amx-bf16" -o /dev/null
// RUN: FileCheck %s --check-prefix=ALONE < %t.bundle/manifest.json

// MANIFEST: "kernels": [
// MANIFEST: "file": "kernels-x86-64-v4+amx-bf16.so",
// MANIFEST-NEXT: "level": "x86-64-v4+amx-bf16",
// MANIFEST-NEXT: "rest": "kernels-x86-64-v4.so"
// MANIFEST: "level": "x86-64-v4+avx512bf16",
// MANIFEST-NEXT: "rest": "kernels-x86-64-v4.so"
// MANIFEST: "level": "x86-64-v4"
// MANIFEST: "level": "x86-64-v3"
// ALONE: "level": "x86-64-v4+amx-bf16"
// ALONE-NOT: "rest"
func.func @main() -> (tensor<20x24xf32> {graph.name = "y"}) {
  %x = graph.parameter "x" {value = dense<3.0> : tensor<20x64xbf16>} : tensor<20x64xbf16>
  %w = graph.parameter "w" {value = dense<-5.0> : tensor<24x64xbf16>} : tensor<24x64xbf16>
  %p = graph.einsum "mk,nk->mn" %x, %w : tensor<20x64xbf16>, tensor<24x64xbf16> -> tensor<20x24xbf16>
  %i = graph.iota dim 1 : tensor<20x24xf32>
  %q = graph.cast %p : tensor<20x24xbf16> -> tensor<20x24xf32>
  %m = graph.reduce max %i [1] : tensor<20x24xf32> -> tensor<20xf32>
  %s = graph.broadcast %m [0] : tensor<20xf32> -> tensor<20x24xf32>
  %y = graph.add %q, %s : tensor<20x24xf32>
  return %y : tensor<20x24xf32>
}
