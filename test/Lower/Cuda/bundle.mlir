// PTX only: needs nothing of NVIDIA's.
// RUN: rm -rf %t.bundle && shardc compile %s --target cuda --arch compute_80,compute_90 --cuda-workspace 1MiB -o %t.bundle
// RUN: FileCheck %s < %t.bundle/program.json
// RUN: FileCheck %s --check-prefix=MANIFEST < %t.bundle/manifest.json
// RUN: FileCheck %s --check-prefix=PTX < %t.bundle/kernels-compute_90.ptx
// RUN: shardc inspect %t.bundle | FileCheck %s --check-prefix=INSPECT
// RUN: shardc plan %t.bundle | FileCheck %s --check-prefix=PLAN
// RUN: shardc compile %s --target cuda --arch compute_80 --allow-tf32 -o %t.bundle --force && FileCheck %s --check-prefix=TF32 < %t.bundle/program.json
// TF32: "compute":"tf32"
// RUN: shardc explain %t.bundle | FileCheck %s --check-prefix=EXPLAIN

// CHECK: "target": "cuda",
// CHECK: "cuda": {"scratch":{"bytes":0,"offset":[[END:[0-9]+]]},"staging":{"bytes":0,"offset":{{[0-9]+}}},"workspace":{"bytes":1048576,"offset":[[END]]}}
// CHECK: "layout":{"kind":"row_major"}
// The weight is read transposed: its columns are contiguous.
// CHECK: {"calls":[{"arguments":[0,1,2],"blocks":1,"kind":"launch","shared":0,"symbol":"kernel_{{.*}}","threads":32}],"name":"kernel_{{.*}}"}
// CHECK: {"calls":[{"a":{"argument":0,"batch":[],"column":1,"dtype":"f32","row":8},"accumulate":false,"b":{"argument":1,"batch":[],"column":8,"dtype":"f32","row":1},"batch":[],"compute":"f32","d":{"argument":2,"batch":[],"column":1,"dtype":"f32","row":16},"epilogue":"none","k":8,"kind":"gemm","m":4,"n":16}],"name":"{{.*}}einsum"}
// CHECK: {"buffers":[{{.*}}],"kernel":0,"op":"launch","results":1}
// MANIFEST-DAG: "target": "cuda"
// MANIFEST-DAG: "arch": "compute_80"
// MANIFEST-DAG: "format": "ptx"
// MANIFEST-DAG: "file": "kernels-compute_90.ptx"
// MANIFEST-DAG: "path": "kernels-compute_90.ptx"
// PTX: .target sm_90
// PTX: .entry kernel_
// INSPECT: code      compute_80  kernels-compute_80.ptx
// INSPECT-NEXT: {{^}}          compute_90  kernels-compute_90.ptx
// PLAN: entry main: 2 commands, 0 collectives
// EXPLAIN: 0 collectives
func.func @main(%x: tensor<4x8xf32> {graph.name = "x"}) -> (tensor<4x16xf32> {graph.name = "y"}) {
  %w = graph.parameter "w" {value = dense<0.5> : tensor<16x8xf32>} : tensor<16x8xf32>
  %c = graph.constant dense<[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]]> : tensor<1x8xf32>
  %b = graph.broadcast %c [0, 1] : tensor<1x8xf32> -> tensor<4x8xf32>
  %a = graph.add %x, %b : tensor<4x8xf32>
  %y = graph.einsum "mk,nk->mn" %a, %w : tensor<4x8xf32>, tensor<16x8xf32> -> tensor<4x16xf32>
  return %y : tensor<4x16xf32>
}
