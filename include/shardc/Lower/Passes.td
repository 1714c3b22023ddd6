//===- Passes.td - Kernels for targets ---------------------*- tablegen -*-===//

#ifndef SHARDC_LOWER_PASSES
#define SHARDC_LOWER_PASSES

include "mlir/Pass/PassBase.td"

def LowerCudaPass : Pass<"shard-lower-cuda", "::mlir::ModuleOp"> {
  let summary = "Compile the kernels of a fused module for NVIDIA GPUs";
  let description = [{
    Takes the kernel functions that shard-fuse made (`exec.kernel`). Generated kernels are printed as PTX, compiled by ptxas where there is one;
    contractions and attention are described for libraries. Prints a JSON object with both, or writes DIR/kernels.json and for each architecture
    DIR/ARCH.ptx and DIR/ARCH.cubin; the module itself is left as it is. `emit=gpu` puts the generated kernels into the module instead, as
    `gpu.func` before any conversion. Example: test/Lower/Cuda/elementwise.mlir.
  }];
  let options = [
    ListOption<"archs", "arch", "std::string", "Architectures; default sm_90a">,
    Option<"emit", "emit", "std::string", "\"ptx\"", "gpu, ptx (without ptxas) or cubin (with ptxas, an error without)">,
    Option<"output", "output", "std::string", "", "Directory for the results; empty: PTX goes to stdout">,
    Option<"toolkit", "toolkit", "std::string", "", "CUDA toolkit, a folder with bin/ptxas; default: environment, PATH, /usr/local/cuda">,
  ];
}

#endif
