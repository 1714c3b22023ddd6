//===- MemoryLimit.cpp - The peak is known before anything runs -----------===//
//
// The arena of a training step follows from its schedule, without compiled kernels: milliseconds.
// `auto` looks for the least recomputation that fits:
//
//   1. nothing is recomputed; 2. the first K layers are, K by bisection (the arena shrinks with K:
//      what a layer keeps lives from its forward to its backward pass, and all of them live at the
//      turn); 3. all are, and nothing is gathered ahead of use.
//
//===----------------------------------------------------------------------===//

#include "shardc/Driver/Driver.h"

#include "shardc/Fuse/Passes.h"
#include "shardc/Schedule/Program.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;

namespace shardc {

static FailureOr<int64_t> arenaBytes(ModuleOp outlined, PipelineOptions &pipeline,
                                     const ScheduleOptions &schedule) {
  OwningOpRef<ModuleOp> module = outlined.clone();
  PassManager pm(outlined.getContext());
  bool isBehind = false;
  for (const Stage &stage : pipelineStages()) {
    if (isBehind)
      stage.build(pm, pipeline);
    isBehind |= stage.name == "outline";
  }
  pm.addPass(createFusePass({schedule.target}));
  if (failed(pm.run(*module)))
    return failure();
  FailureOr<Program> program = scheduleProgram(*module, schedule);
  if (failed(program))
    return failure();
  return program->arenaBytes;
}

LogicalResult fitMemory(ModuleOp outlined, TrainOptions &train, PipelineOptions &pipeline,
                        ScheduleOptions schedule) {
  bool isAuto = pipeline.activationCheckpointing == "auto";
  if (!train.memoryLimit)
    return success();
  llvm::DenseMap<int64_t, int64_t> known; // bytes by layers
  auto fits = [&](int64_t layers, bool &result) -> LogicalResult {
    if (isAuto) {
      pipeline.activationCheckpointing = layers == 0 ? "none" : "full";
      pipeline.checkpointLayers = layers;
    }
    schedule.overlap = train.overlap;
    schedule.memoryLimit = train.memoryLimit; // explicit distances stay, auto gives way
    if (auto found = known.find(layers); found != known.end()) {
      train.arenaBytes = found->second;
    } else {
      FailureOr<int64_t> bytes = arenaBytes(outlined, pipeline, schedule);
      if (failed(bytes))
        return failure();
      known[layers] = train.arenaBytes = *bytes;
    }
    result = train.arenaBytes <= train.memoryLimit;
    return success();
  };
  int64_t layers = 0;
  outlined.walk([&](func::CallOp) { ++layers; });
  bool ok = false;
  if (failed(fits(0, ok)))
    return failure();
  if (ok)
    return success();
  if (isAuto) {
    if (failed(fits(layers, ok)))
      return failure();
    if (!ok && (train.overlap.forwardPrefetch || train.overlap.backwardPrefetch)) {
      train.overlap.forwardPrefetch = train.overlap.backwardPrefetch = 0;
      known.clear();
      if (failed(fits(layers, ok)))
        return failure();
    } else if (ok) {
      int64_t tooFew = 0, enough = layers;
      while (enough - tooFew > 1) {
        int64_t middle = (tooFew + enough) / 2;
        if (failed(fits(middle, ok)))
          return failure();
        (ok ? enough : tooFew) = middle;
      }
      return fits(enough, ok);
    }
    if (ok)
      return success();
  }
  llvm::errs() << "error: --memory-limit " << train.memoryLimit << " bytes: a rank's step needs "
               << train.arenaBytes << " bytes"
               << (isAuto ? " with every layer recomputed and nothing gathered ahead"
                          : "; --activation-checkpointing auto looks for what fits")
               << "; smaller batches, more ranks along dp_shard or tp need less\n";
  return failure();
}

} // namespace shardc
