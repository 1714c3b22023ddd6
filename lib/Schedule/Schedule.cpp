//===- Schedule.cpp - one command list ------------------------------------===//
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
  overlapCollectives(*program, options.overlap);
  planArena(*program);
  if (program->cuda && failed(lowerForCuda(*program, module, options)))
    return failure();
  return program;
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
    FailureOr<Program> program = scheduleProgram(module, {{forwardPrefetch, backwardPrefetch, reductions}, target, workspace});
    if (failed(program))
      return signalPassFailure();
    size_t commands = 0;
    for (const ProgramEntry &entry : program->entries)
      commands += entry.commands.size();
    if (report)
      llvm::outs() << "arena " << program->arenaBytes << " bytes: weights " << program->bytesOf(BufferKind::Parameter) << ", constants "
                   << program->bytesOf(BufferKind::Constant) << ", temporaries at most " << program->temporaryBytes << "; "
                   << commands << " commands, " << program->init.size() << " once, " << program->kernels.size()
                   << " kernels\n";
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
