//===- Pipeline.h - the whole order of the compiler ------------------------------------------===//

#ifndef SHARDC_PIPELINE_PIPELINE_H
#define SHARDC_PIPELINE_PIPELINE_H

#include "mlir/IR/DialectRegistry.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <string>

namespace shardc {

/// What `--shard-pipeline` and the driver take.
struct PipelineOptions : mlir::PassPipelineOptions<PipelineOptions> {
  Option<std::string> mesh{*this, "mesh", llvm::cl::desc("axes and sizes, major to minor: dp_shard=2,tp=4"),
                           llvm::cl::init("tp=1")};
  Option<std::string> plan{*this, "plan",
                           llvm::cl::desc("built-in plan's name, or a YAML or JSON file; default: the base plan"),
                           llvm::cl::init("")};
  Option<bool> sequenceParallel{*this, "sequence-parallel",
                                llvm::cl::desc("cut the residual stream along the sequence over tp"),
                                llvm::cl::init(false)};
  Option<bool> strict{*this, "strict", llvm::cl::desc("a plan line that matches nothing is an error"),
                      llvm::cl::init(false)};
  Option<bool> printPlan{*this, "print-plan",
                         llvm::cl::desc("print the style of every parameter and where it came from"),
                         llvm::cl::init(false)};
  Option<bool> keepOutputsSharded{*this, "keep-outputs-sharded",
                                  llvm::cl::desc("leave outputs as propagation makes them"), llvm::cl::init(false)};
};

/// One step of the compiler between Import and Fuse; the module after it can be printed and interpreted.
struct Stage {
  llvm::StringLiteral name;
  void (*build)(mlir::OpPassManager &pm, const PipelineOptions &options);
};
/// All of them, in order.
llvm::ArrayRef<Stage> pipelineStages();

/// The dialects of the compiler, one by one (upstream has a `shard` too).
void registerDialects(mlir::DialectRegistry &registry);
/// The passes of all stages and the pipelines.
void registerPasses();

} // namespace shardc

#endif // SHARDC_PIPELINE_PIPELINE_H
