// RUN: rm -rf %t.bundle && shard-opt %s --shard-bundle="output=%t.bundle model=tiny levels=x86-64-v3" -o /dev/null
// RUN: FileCheck %s --check-prefix=MANIFEST < %t.bundle/manifest.json
// RUN: FileCheck %s --check-prefix=PROGRAM < %t.bundle/program.json
// RUN: ls %t.bundle/kernels-x86-64-v3.so %t.bundle/constants.bin %t.bundle/weights/model.safetensors
// RUN: not shard-opt %s --shard-bundle=output=%t.bundle -o /dev/null 2>&1 | FileCheck %s --check-prefix=EXISTS
// RUN: shard-opt %s --shard-bundle="output=%t.bundle force levels=x86-64-v3" -o /dev/null

// MANIFEST-DAG: "model": "tiny"
// MANIFEST-DAG: "level": "x86-64-v3"
// MANIFEST-DAG: "path": "weights/model.safetensors"
// PROGRAM: "version": 2
// PROGRAM: "kind":"panels"
// PROGRAM: "entries": [{"name": "main",
// PROGRAM: "op":"launch"
// EXISTS: exists; remove it or use force to replace it
func.func @main(%x: tensor<4x8xf32> {graph.name = "x"}) -> (tensor<4x16xf32> {graph.name = "y"}) {
  %w = graph.parameter "w" {value = dense<0.5> : tensor<16x8xf32>} : tensor<16x8xf32>
  %c = graph.constant dense<[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]]> : tensor<1x8xf32>
  %b = graph.broadcast %c [0, 1] : tensor<1x8xf32> -> tensor<4x8xf32>
  %a = graph.add %x, %b : tensor<4x8xf32>
  %y = graph.einsum "mk,nk->mn" %a, %w : tensor<4x8xf32>, tensor<16x8xf32> -> tensor<4x16xf32>
  return %y : tensor<4x16xf32>
}
