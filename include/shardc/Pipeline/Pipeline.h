//===- Pipeline.h - The whole order of the compiler -----------------------===//

#ifndef SHARDC_PIPELINE_PIPELINE_H
#define SHARDC_PIPELINE_PIPELINE_H

#include "shardc/Support/Target.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <string>

namespace shardc {

/// What `--shard-pipeline` and the driver take.
struct PipelineOptions : mlir::PassPipelineOptions<PipelineOptions> {
  Option<std::string> mesh{*this, "mesh",
                           llvm::cl::desc("axes and sizes, major to minor: dp_shard=2,tp=4"),
                           llvm::cl::init("")};
  Option<std::string> plan{
      *this, "plan",
      llvm::cl::desc(
          "built-in plan's name, a YAML or JSON file, or onnx: the file's device configuration"),
      llvm::cl::init("")};
  Option<int64_t> ep{*this, "ep",
                     llvm::cl::desc("ranks over which experts are cut, of tp and dp_shard"),
                     llvm::cl::init(1)};
  Option<bool> sequenceParallel{
      *this, "sequence-parallel",
      llvm::cl::desc("cut the residual stream along the sequence over tp"), llvm::cl::init(false)};
  Option<bool> asyncTensorParallel{
      *this, "async-tensor-parallel",
      llvm::cl::desc("cut collectives along the sequence and products beside them into pieces"),
      llvm::cl::init(false)};
  Option<int64_t> asyncTensorParallelPieces{
      *this, "async-tensor-parallel-pieces",
      llvm::cl::desc("how many; 0: by costs where they were measured, else by size"),
      llvm::cl::init(0)};
  Option<Target> target{*this, "target", llvm::cl::desc("what ranks are"),
                        llvm::cl::values(clEnumValN(Target::Cpu, "cpu", "processors"),
                                         clEnumValN(Target::Cuda, "cuda", "NVIDIA GPUs")),
                        llvm::cl::init(Target::Cpu)};
  Option<std::string> costs{
      *this, "costs",
      llvm::cl::desc("table of shardc profile: what computing and moving bytes costs"),
      llvm::cl::init("")};
  Option<bool> strict{*this, "strict",
                      llvm::cl::desc("a plan line that matches nothing is an error"),
                      llvm::cl::init(false)};
  Option<bool> printPlan{
      *this, "print-plan",
      llvm::cl::desc("print the style of every parameter and where it came from"),
      llvm::cl::init(false)};
  Option<std::string> fp8{
      *this, "fp8",
      llvm::cl::desc(
          "products of linear layers in 8-bit floats: e4m3, or hybrid (e5m2 for gradients)"),
      llvm::cl::init("")};
  Option<std::string> fp8Skip{
      *this, "fp8-skip", llvm::cl::desc("parameters (regular expression) whose products are not"),
      llvm::cl::init("")};
  Option<bool> keepOutputsSharded{*this, "keep-outputs-sharded",
                                  llvm::cl::desc("leave outputs as propagation makes them"),
                                  llvm::cl::init(false)};

  // Training: the seeds' names. Stages Differentiate and FSDP do nothing without `train`.
  Option<bool> train{*this, "train", llvm::cl::desc("compile the training step"),
                     llvm::cl::init(false)};
  Option<std::string> loss{*this, "loss", llvm::cl::desc("output to minimise, or logits"),
                           llvm::cl::init("")};
  Option<int64_t> lossChunks{
      *this, "loss-chunks",
      llvm::cl::desc(
          "chunks of each sequence whose logits exist one after the other; 0: chosen by size"),
      llvm::cl::init(0)};
  Option<std::string> frozen{*this, "frozen",
                             llvm::cl::desc("parameters (regular expression) that are not trained"),
                             llvm::cl::init("")};
  Option<std::string> paramDtype{
      *this, "param-dtype",
      llvm::cl::desc("type that parameters are gathered and used in: f32, bf16, f16"),
      llvm::cl::init("f32")};
  Option<std::string> fp32Parameters{
      *this, "fp32-parameters", llvm::cl::desc("parameters (regular expression) that stay f32"),
      llvm::cl::init("")};
  Option<std::string> activationCheckpointing{*this, "activation-checkpointing",
                                              llvm::cl::desc("none, selective or full"),
                                              llvm::cl::init("none")};
  Option<int64_t> checkpointLayers{
      *this, "checkpoint-layers",
      llvm::cl::desc("how many of the first layers that is for; -1: all"), llvm::cl::init(-1)};
  Option<int64_t> zeroDpStrategy{*this, "zero-dp-strategy",
                                 llvm::cl::desc("what dp_shard cuts: 0 to 3"), llvm::cl::init(3)};
  Option<std::string> outerDpShardingStrategy{
      *this, "outer-dp-sharding-strategy",
      llvm::cl::desc("what dp_replicate cuts: no_shard or optim"), llvm::cl::init("no_shard")};
  Option<bool> checkForNanInGrad{
      *this, "check-for-nan-in-grad",
      llvm::cl::desc("check gradients, and skip updates by what is not finite"),
      llvm::cl::init(false)};
  Option<std::string> reshardAfterForward{*this, "reshard-after-forward",
                                          llvm::cl::desc("true, false or a number of ranks"),
                                          llvm::cl::init("")};
  Option<bool> separateEntries{
      *this, "separate-entries",
      llvm::cl::desc("entries of their own for backward pass, synchronisation and optimizer"),
      llvm::cl::init(false)};
  Option<bool> deferGradSync{*this, "defer-grad-sync",
                             llvm::cl::desc("reduce gradients after the last micro-batch"),
                             llvm::cl::init(true)};
  Option<std::string> reduceDtype{*this, "reduce-dtype",
                                  llvm::cl::desc("element type of gradient reductions"),
                                  llvm::cl::init("")};
  Option<std::string> optimizer{
      *this, "optimizer",
      llvm::cl::desc(
          "adamw, sgd or muon and its options, as in muon,momentum=0.95,weight-decay=0.1"),
      llvm::cl::init("adamw")};
  Option<std::string> noDecay{
      *this, "no-decay", llvm::cl::desc("parameters (regular expression) without weight decay"),
      llvm::cl::init("")};
  Option<double> clipNorm{*this, "clip-norm",
                          llvm::cl::desc("largest global norm of the gradient; 0: any"),
                          llvm::cl::init(0.0)};
};

/// One step of the compiler between Import and Fuse; the module after it can be printed and
/// interpreted.
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
