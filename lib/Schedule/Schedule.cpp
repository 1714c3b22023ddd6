//===- Schedule.cpp - One command list ------------------------------------===//
#include "dialects/Shard/Shard.h"
#include "shardc/Lower/CudaKernels.h"
#include "shardc/Lower/LowerKernels.h"
#include "shardc/Schedule/Passes.h"
#include "shardc/Schedule/Program.h"

using namespace mlir;

namespace shardc {

FailureOr<Program> scheduleProgram(ModuleOp module, const ScheduleOptions &options) {
  FailureOr<Program> program = flattenProgram(module);
  if (failed(program))
    return failure();
  if (options.target == Target::Cuda)
    program->cuda.emplace();
  shareTemporaries(*program, module);
  placeStorage(*program, module);
  if (options.offload != Offload::None) {
    if (!program->cuda)
      return module.emitError() << "offload " << str(options.offload)
                                << ": a rank's memory is the machine's already, only GPUs have "
                                   "memory of their own";
    offloadStates(*program, module, options.offload);
  }
  if (program->cuda && failed(lowerForCuda(*program, module, options)))
    return failure();
  overlapAndPlace(*program, module, options);
  if (program->cuda)
    placeCudaRanges(*program);
  return program;
}

bool parseTensorParallel(StringRef text, std::optional<bool> &overlap) {
  overlap = text == "auto";
  return text == "auto" || text == "none";
}

bool parseDistance(StringRef text, int64_t &distance) {
  if (text == "auto")
    distance = OverlapOptions::kAuto;
  return text == "auto" || (!text.getAsInteger(10, distance) && distance >= 0);
}

#define GEN_PASS_DEF_SCHEDULEPASS
#include "lib/Schedule/Passes.h.inc"

namespace {

struct SchedulePass : impl::SchedulePassBase<SchedulePass> {
  using SchedulePassBase::SchedulePassBase;

  void getDependentDialects(DialectRegistry &registry) const override {
    registry.insert<exec::ExecDialect>();
    registerCudaDialects(registry);
  }

  void runOnOperation() override {
    ModuleOp module = getOperation();
    int64_t distances[3] = {OverlapOptions::kNotGiven, OverlapOptions::kNotGiven,
                            OverlapOptions::kNotGiven};
    for (auto [n, name, text] : {std::tuple(0, "forward-prefetch", forwardPrefetch.getValue()),
                                 std::tuple(1, "backward-prefetch", backwardPrefetch.getValue()),
                                 std::tuple(2, "reductions", reductions.getValue())})
      if (!text.empty() && !parseDistance(text, distances[n])) {
        module.emitError() << name << " \"" << text << "\" is not auto or a number of at least 0";
        return signalPassFailure();
      }
    std::optional<bool> splits;
    if (!tensorParallel.empty() && !parseTensorParallel(tensorParallel, splits)) {
      module.emitError() << "tensor-parallel-overlap \"" << tensorParallel
                         << "\" is not auto or none";
      return signalPassFailure();
    }
    llvm::Expected<CostTable> table = costs.empty() ? CostTable() : CostTable::read(costs);
    if (!table) {
      module.emitError() << "costs: " << llvm::toString(table.takeError());
      return signalPassFailure();
    }
    ScheduleOptions options{{distances[0], distances[1], distances[2], splits}, target, workspace};
    options.costs = std::move(*table);
    options.memoryLimit = memoryLimit;
    if (!parseOffload(offload, options.offload)) {
      module.emitError() << "offload \"" << offload << "\" is not none, optimizer or parameters";
      return signalPassFailure();
    }
    FailureOr<Program> program = scheduleProgram(module, options);
    if (failed(program))
      return signalPassFailure();
    size_t commands = 0;
    for (const ProgramEntry &entry : program->entries)
      commands += entry.commands.size();
    if (report)
      llvm::outs() << "arena " << program->arenaBytes << " bytes: weights "
                   << program->bytesOf(BufferKind::Parameter) << ", constants "
                   << program->bytesOf(BufferKind::Constant) << ", temporaries at most "
                   << program->temporaryBytes << "; " << commands << " commands, "
                   << program->init.size() << " once, " << program->kernels.size() << " kernels\n";
    for (auto function : llvm::make_early_inc_range(module.getOps<func::FuncOp>()))
      if (!function->hasAttr(kExecKernelAttr))
        function.erase();
    for (Operation &op : llvm::make_early_inc_range(module.getOps()))
      if (isa<shard::BucketOp, shard::StateOp>(op))
        op.erase();
    buildExecPrograms(*program, module);
  }
};

} // namespace
} // namespace shardc
