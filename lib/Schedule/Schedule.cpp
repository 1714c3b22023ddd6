//===- Schedule.cpp - one command list ------------------------------------===//
#include "shardc/Lower/LowerKernels.h"
#include "shardc/Schedule/Passes.h"
#include "shardc/Schedule/Program.h"

using namespace mlir;

namespace shardc {

#define GEN_PASS_DEF_SCHEDULEPASS
#include "lib/Schedule/Passes.h.inc"

namespace {

struct SchedulePass : impl::SchedulePassBase<SchedulePass> {
  using SchedulePassBase::SchedulePassBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<Program> program = flattenProgram(module, entry);
    if (failed(program))
      return signalPassFailure();
    planArena(*program);
    if (report)
      llvm::outs() << "arena " << program->arenaBytes << " bytes: weights " << program->bytesOf(BufferKind::Parameter) << ", constants "
                   << program->bytesOf(BufferKind::Constant) << ", temporaries at most " << program->temporaryBytes << "; "
                   << program->commands.size() << " commands, " << program->init.size() << " once, " << program->kernels.size()
                   << " kernels\n";
    for (auto function : llvm::make_early_inc_range(module.getOps<func::FuncOp>()))
      if (!function->hasAttr(kExecKernelAttr))
        function.erase();
    buildExecProgram(*program, module, entry);
  }
};

} // namespace
} // namespace shardc
