//===- Pipeline.cpp - The whole order of the compiler ---------------------===//
//
//  1. Raise      first, on the flat program: constants (masks, rope tables) are still beside what
//     reads them. Per kind of layer would be less work, but the pass is linear and fast enough on
//     80 layers.
//  2. Unpack     packed weights, so that plans see q, k and v.
//  3. Roles      after Unpack, so that each piece has its own.
//  4. Annotate   on the flat program: plans name modules, and a plan may treat layers differently.
//     What it puts on ops and weights is part of a layer's kind. Mixed precision (training) behind
//     it: annotation looks at who reads a weight, which is a cast from then on. Products of 8-bit
//     floats behind that: they are scaled from the type that is computed in.
//  5. Outline    from here on work is per kind of layer.
//  6. Differentiate (training) after Outline: one backward function per kind; before Propagate, so
//     that shardings are decided for forward and backward pass together.
//  7. Propagate  shardings to all values, through calls. Gradients stay pending over the
//     data-parallel axes.
//  8. Partition  local types and collectives; then clean-up, since planned reshards overlap (q, k
//     and v gather the same input).
//  9. FSDP       (training) on local shapes: what tensor parallelism left of a parameter is what a
//     bucket holds.
// 10. Decompose  (async tensor parallelism) behind FSDP, which looks for whole products; before
//     Fuse, so that kernels of pieces are fused as those of the whole are.
//
//===----------------------------------------------------------------------===//

#include "shardc/Pipeline/Pipeline.h"

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"
#include "shardc/Annotate/Passes.h"
#include "shardc/Bundle/Passes.h"
#include "shardc/Decompose/Passes.h"
#include "shardc/Differentiate/Passes.h"
#include "shardc/FSDP/Passes.h"
#include "shardc/Fuse/Passes.h"
#include "shardc/Lower/Passes.h"
#include "shardc/Outline/Passes.h"
#include "shardc/Partition/Passes.h"
#include "shardc/Propagate/Passes.h"
#include "shardc/Raise/Passes.h"
#include "shardc/Schedule/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

namespace shardc {

static void addCleanUp(OpPassManager &pm) {
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
}

static void buildRaise(OpPassManager &pm, const PipelineOptions &) {
  pm.addPass(createRaisePass());
  pm.addPass(createUnpackParametersPass());
  addCleanUp(pm);
  pm.addPass(createFindRolesPass());
}

static void buildAnnotate(OpPassManager &pm, const PipelineOptions &options) {
  AnnotatePassOptions annotate;
  annotate.mesh = options.mesh;
  annotate.plan = options.plan;
  annotate.ep = options.ep;
  annotate.sequenceParallel = options.sequenceParallel;
  annotate.strict = options.strict;
  annotate.costs = options.costs;
  annotate.printPlan = options.printPlan;
  annotate.keepOutputsSharded = options.keepOutputsSharded;
  pm.addPass(createAnnotatePass(annotate));
  if (options.train && options.paramDtype != "f32") {
    MixedPrecisionPassOptions precision;
    precision.dtype = options.paramDtype;
    precision.keep = options.fp32Parameters;
    pm.addPass(createMixedPrecisionPass(precision));
    pm.addPass(createCanonicalizerPass());
  }
  if (!options.fp8.empty()) {
    QuantizeProductsPassOptions quantize;
    quantize.recipe = options.fp8;
    quantize.skip = options.fp8Skip;
    quantize.train = options.train;
    quantize.print = options.printPlan;
    pm.addPass(createQuantizeProductsPass(quantize));
  }
}

static void buildOutline(OpPassManager &pm, const PipelineOptions &) {
  pm.addPass(createOutlinePass());
}

static void buildDifferentiate(OpPassManager &pm, const PipelineOptions &options) {
  if (!options.train)
    return;
  DifferentiatePassOptions differentiate;
  differentiate.loss = options.loss;
  differentiate.lossChunks = options.lossChunks;
  differentiate.frozen = options.frozen;
  differentiate.checkpoint = options.activationCheckpointing;
  differentiate.checkpointLayers = options.checkpointLayers;
  pm.addPass(createDifferentiatePass(differentiate));
  addCleanUp(pm);
}

static void buildPropagate(OpPassManager &pm, const PipelineOptions &options) {
  pm.addPass(createShardPropagate());
  if (options.train)
    pm.addPass(createDeferGradientSumsPass());
}

static void buildFSDP(OpPassManager &pm, const PipelineOptions &options) {
  if (!options.train)
    return;
  FSDPPassOptions fsdp;
  fsdp.zero = options.zeroDpStrategy;
  fsdp.outer = options.outerDpShardingStrategy;
  fsdp.checkGradients = options.checkForNanInGrad;
  fsdp.reshard = options.reshardAfterForward;
  fsdp.optimizer = options.optimizer;
  fsdp.noDecay = options.noDecay;
  fsdp.clipNorm = options.clipNorm;
  fsdp.reduceDtype = options.reduceDtype;
  fsdp.separateEntries = options.separateEntries;
  fsdp.deferSync = options.deferGradSync;
  pm.addPass(createFSDPPass(fsdp));
  addCleanUp(pm);
  pm.addPass(createSinkGradientsPass());
}

static void buildPartition(OpPassManager &pm, const PipelineOptions &) {
  pm.addPass(createShardPartition());
  addCleanUp(pm);
}

static void buildDecompose(OpPassManager &pm, const PipelineOptions &options) {
  if (!options.asyncTensorParallel)
    return;
  DecomposePassOptions decompose;
  decompose.pieces = options.asyncTensorParallelPieces;
  decompose.costs = options.costs;
  decompose.target = options.target;
  pm.addPass(createDecomposePass(decompose));
}

llvm::ArrayRef<Stage> pipelineStages() {
  static const Stage stages[] = {
      {"raise", buildRaise},         {"annotate", buildAnnotate},
      {"outline", buildOutline},     {"differentiate", buildDifferentiate},
      {"propagate", buildPropagate}, {"partition", buildPartition},
      {"fsdp", buildFSDP},           {"decompose", buildDecompose}};
  return stages;
}

void registerDialects(DialectRegistry &registry) {
  registry.insert<func::FuncDialect, arith::ArithDialect, graph::GraphDialect, shard::ShardDialect,
                  exec::ExecDialect>();
}

void registerPasses() {
  registerCanonicalizerPass();
  registerCSEPass();
  registerSymbolDCEPass();
  registerAnnotatePasses();
  registerDecomposePasses();
  registerDifferentiatePasses();
  registerFSDPPasses();
  registerOutlinePasses();
  registerPartitionPasses();
  registerPropagatePasses();
  registerRaisePasses();
  registerFusePasses();
  registerLowerPasses();
  registerSchedulePasses();
  registerBundlePasses();
  PassPipelineRegistration<PipelineOptions>(
      "shard-pipeline",
      "Imported model to the program that each device runs: raise, annotate, outline, "
      "differentiate, propagate, partition, fsdp, decompose",
      [](OpPassManager &pm, const PipelineOptions &options) {
        for (const Stage &stage : pipelineStages())
          stage.build(pm, options);
      });
}

} // namespace shardc
