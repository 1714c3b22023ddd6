//===- Passes.td - One command list ------------------------*- tablegen -*-===//

#ifndef SHARDC_SCHEDULE_PASSES
#define SHARDC_SCHEDULE_PASSES

include "mlir/Pass/PassBase.td"

def SchedulePass : Pass<"shard-schedule", "::mlir::ModuleOp"> {
  let summary = "Flatten kernel and layer calls into one command list over one arena";
  let description = [{
    After shard-fuse. Each public function and the layers it calls become an `exec.program`; the kernels stay. Weights get a buffer per layout
    that kernels want, reshapes are other names of a buffer, what depends on weights only runs once. The arena is planned by lifetimes
    and its size is the peak. Example: test/Schedule/schedule.mlir.
  }];
  let options = [
    Option<"forwardPrefetch", "forward-prefetch", "std::string", "\"\"", "Units whose parameters are gathered ahead of use in the forward pass; auto: as late as hides the gather; default: auto with costs, else 1">,
    Option<"backwardPrefetch", "backward-prefetch", "std::string", "\"\"", "Likewise in the backward pass">,
    Option<"reductions", "reductions", "std::string", "\"\"", "Gradient reductions that may be under way when the next one starts; 0: none; auto: by costs">,
    Option<"tensorParallel", "tensor-parallel-overlap", "std::string", "\"\"", "Tensor parallelism's collectives beside products, where costs say that it is faster: auto, none; default: auto with costs">,
    Option<"costs", "costs", "std::string", "\"\"", "Table of shardc profile; default: a model">,
    Option<"memoryLimit", "memory-limit", "int64_t", "0", "Bytes of the arena that auto keeps if it can; 0: any">,
    Option<"target", "target", "::shardc::Target", "::shardc::Target::Cpu", "What ranks are",
           [{::llvm::cl::values(clEnumValN(::shardc::Target::Cpu, "cpu", "processors"), clEnumValN(::shardc::Target::Cuda, "cuda", "NVIDIA GPUs"))}]>,
    Option<"workspace", "workspace", "int64_t", "int64_t(32) << 20", "Bytes of cuBLASLt's workspace (cuda)">,
    Option<"offload", "offload", "std::string", "\"none\"", "States in the machine's memory (cuda): none, optimizer, parameters">,
    Option<"report", "report", "bool", "false", "Print arena, weights, temporaries and the number of commands">,
  ];
}

#endif
