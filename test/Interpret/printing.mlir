// RUN: shard-opt --shard-interpret %s --input 'x=dense<2.0>' | FileCheck %s --check-prefix=TEXT
// RUN: shard-opt --shard-interpret %s --input 'x=dense<2.0>' --json | FileCheck %s --check-prefix=JSON
// RUN: shard-opt --shard-interpret %s --input 'x=dense<2.0>' --output many=%t.npy > /dev/null
// RUN: shard-opt --shard-interpret %s --entry shift --input many=%t.npy | FileCheck %s --check-prefix=FILE
// RUN: shard-opt --shard-interpret %s --seed 3 > %t.a
// RUN: shard-opt --shard-interpret %s --seed 3 > %t.b
// RUN: cmp %t.a %t.b
// RUN: shard-opt --shard-interpret %s --seed 4 > %t.c
// RUN: not cmp %t.a %t.c

// Few elements are printed, of many a summary.
// TEXT: few : tensor<2xbf16> = [2, 4]
// TEXT: many : tensor<5x20xf32> min 2 max 2 mean 2 hash {{[0-9a-f]{16}$}}
// JSON-DAG: "name": "few"
// JSON-DAG: "type": "tensor<5x20xf32>"
// JSON-DAG: "max": 2
func.func @main(%x: tensor<5x20xf32> {graph.name = "x"}) -> (tensor<2xbf16> {graph.name = "few"}, tensor<5x20xf32> {graph.name = "many"}) {
  %0 = graph.constant dense<[2.0, 4.0]> : tensor<2xbf16>
  return %0, %x : tensor<2xbf16>, tensor<5x20xf32>
}

// FILE: result0 : tensor<5x1xf32> = {{\[\[}}2], [2], [2], [2], [2]]
func.func @shift(%x: tensor<5x20xf32> {graph.name = "many"}) -> tensor<5x1xf32> {
  %0 = graph.slice %x [0, 19] step [1, 1] : tensor<5x20xf32> -> tensor<5x1xf32>
  return %0 : tensor<5x1xf32>
}
