// RUN: mkdir -p %t.empty && rm -rf %t.bundle
// RUN: not shardc compile %s --target gpu -o %t.bundle 2>&1 | FileCheck %s --check-prefix=TARGET
// RUN: not shardc compile %s --target cuda --arch sm_81 -o %t.bundle 2>&1 | FileCheck %s --check-prefix=ARCH
// RUN: not shardc compile %s --target cuda --arch compute_90a -o %t.bundle 2>&1 | FileCheck %s --check-prefix=PTX
// RUN: not shardc compile %s --target cuda --arch compute_80,compute_80 -o %t.bundle 2>&1 | FileCheck %s --check-prefix=TWICE
// RUN: not shardc compile %s --target cuda --arch sm_90a --toolkit %t.empty -o %t.bundle 2>&1 | FileCheck %s --check-prefix=PTXAS
// RUN: not shardc compile %s --target cuda --isa x86-64-v3 -o %t.bundle 2>&1 | FileCheck %s --check-prefix=ISA
// RUN: not shardc compile %s --arch sm_80 -o %t.bundle 2>&1 | FileCheck %s --check-prefix=CPU-ARCH
// RUN: not shardc compile %s --toolkit %t.empty -o %t.bundle 2>&1 | FileCheck %s --check-prefix=CPU-TOOLKIT
// RUN: not shardc compile %s --train --offload optimizer -o %t.bundle 2>&1 | FileCheck %s --check-prefix=CPU-OFFLOAD
// RUN: not shardc compile %s --target cuda --offload optimizer -o %t.bundle 2>&1 | FileCheck %s --check-prefix=NO-TRAIN
// RUN: not shardc compile %s --train --target cuda --offload all -o %t.bundle 2>&1 | FileCheck %s --check-prefix=OFFLOAD
// RUN: not shardc compile %s --cuda-workspace 1MiB -o %t.bundle 2>&1 | FileCheck %s --check-prefix=CPU-WORKSPACE
// RUN: not shardc compile %s --allow-tf32 -o %t.bundle 2>&1 | FileCheck %s --check-prefix=CPU-TF32
// RUN: not shardc compile %s --target cuda --cuda-workspace much -o %t.bundle 2>&1 | FileCheck %s --check-prefix=WORKSPACE
// RUN: not shardc compile %s --target cuda --arch compute_80 -o %t.bundle 2>&1 | FileCheck %s --check-prefix=CODE
// RUN: not ls %t.bundle 2>/dev/null

// TARGET: --target "gpu" is not cpu or cuda
// ARCH: --arch: unknown cuda architecture "sm_81", expected sm_80, sm_86,
// PTX: cuda architecture "compute_90a" runs on that device only, which is what sm_90a is for; PTX for later ones is compute_90
// TWICE: cuda architecture "compute_80" is given twice
// PTXAS: sm_90a needs ptxas, and there is none in {{.*}}.empty; give a toolkit, a folder with bin/ptxas, or compute_90 instead
// ISA: --isa is for --target cpu, the target is cuda
// CPU-ARCH: --arch is for --target cuda, the target is cpu
// CPU-TOOLKIT: --toolkit is for --target cuda, the target is cpu
// CPU-OFFLOAD: --offload optimizer is for --target cuda: where ranks are processors, their memory is the machine's already
// NO-TRAIN: --offload needs --train
// OFFLOAD: --offload "all" is not none, optimizer or parameters
// CPU-WORKSPACE: --cuda-workspace is for --target cuda, the target is cpu
// CPU-TF32: --allow-tf32 is for --target cuda, the target is cpu
// WORKSPACE: --cuda-workspace "much" is not a size like 2GiB or 500MB
// CODE: there is no code for {{.*}}tan
func.func @main(%x: tensor<4xf64> {graph.name = "x"}) -> (tensor<4xf64> {graph.name = "y"}) {
  %y = graph.tan %x : tensor<4xf64>
  return %y : tensor<4xf64>
}
