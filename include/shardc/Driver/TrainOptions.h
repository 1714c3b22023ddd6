//===- TrainOptions.h - How a model is trained ----------------------------===//

#ifndef SHARDC_DRIVER_TRAINOPTIONS_H
#define SHARDC_DRIVER_TRAINOPTIONS_H

#include "shardc/Pipeline/Pipeline.h"
#include "shardc/Schedule/Program.h"

#include "mlir/IR/BuiltinOps.h"

#include "llvm/ADT/StringSet.h"

namespace shardc {

/// Options of `shardc compile --train` that are not those of a pass. Names and rules are the seeds'
/// (reference/semantics.md §3–§8).
struct TrainOptions {
  bool enabled = false;
  std::string strategy = "fsdp2";               ///< fsdp2, megatron_fsdp or ddp
  int64_t dpReplicate = 0, dpShard = 0, tp = 0; ///< 0: not given
  int64_t memoryLimit = 0;                      ///< bytes of a rank's arena; 0: any
  int64_t arenaBytes = 0;                       ///< what fitMemory found
  OverlapOptions overlap;
  Offload offload = Offload::None;
  std::string optimizer = "adamw";
  std::vector<std::pair<std::string, std::string>> optimizerOptions; ///< as given
  int64_t accumulation = 1;                                          ///< micro-batches a step
  double learningRate = 1e-3;
  std::string schedule = "constant"; ///< constant, linear or cosine
  int64_t warmupSteps = 0, decaySteps = 0;
  double minimumLearningRate = 0;
  llvm::StringSet<> given; ///< names of the training options that were given
};

/// Makes the mesh from the sizes and applies the strategy's rules to the pipeline. An error names
/// the option.
llvm::Error applyTrainOptions(const TrainOptions &train, PipelineOptions &pipeline);

/// Under a memory limit: chooses what is recomputed if that is `auto`, and fails if the step does
/// not fit. `outlined`: the module after the stage "outline", which stays. `schedule`: but for its
/// overlap, which is the training options'.
mlir::LogicalResult fitMemory(mlir::ModuleOp outlined, TrainOptions &train,
                              PipelineOptions &pipeline, ScheduleOptions schedule);

/// The manifest's "training" object. `module` has gone through the pipeline.
std::string trainingJson(const TrainOptions &train, const PipelineOptions &pipeline,
                         mlir::ModuleOp module);

} // namespace shardc

#endif // SHARDC_DRIVER_TRAINOPTIONS_H
