//===- CudaProgram.cpp - What GPUs need besides ---------------------------===//
//
// Kernels become calls (lib/Lower/Cuda). Commands on the compute stream are in order, so that all
// kernels share one scratch area, all matrix multiplications one workspace, all staged collectives
// one staging area; they lie behind the buffers and are part of the arena, whose size is the proven
// peak.
//
//===----------------------------------------------------------------------===//
#include "shardc/Lower/CudaKernels.h"
#include "shardc/Lower/LowerKernels.h"
#include "shardc/Schedule/Program.h"
#include "shardrt/staging.h"

using namespace mlir;

namespace shardc {

int64_t stagingBytes(const Program &program, const ProgramCommand &command) {
  if (command.group < 0 || command.kind == CommandKind::Slice)
    return 0;
  int64_t ranks = 1;
  for (const AxisRef &axis : program.groups[command.group])
    ranks *= axis.size;
  RankedTensorType source = program.buffers[command.buffers[0]].type;
  int64_t size = elementBytes(source.getElementType());
  if (command.kind == CommandKind::AllGather || command.kind == CommandKind::ReduceScatter)
    return shardrt_rows_staging(ranks, size, command.outer, command.inner, command.total);
  if (command.kind == CommandKind::AllToAll)
    return shardrt_all_to_all_staging(ranks, size, command.shape.data(), command.shape.size(),
                                      command.splitDim, command.splitTotal);
  return 0;
}

static bool usesGemm(const CudaProgram &cuda) {
  return llvm::any_of(cuda.kernels, [](const CudaKernel &kernel) {
    return llvm::any_of(
        kernel.calls, [](const CudaCall &call) { return std::holds_alternative<CudaGemm>(call); });
  });
}

LogicalResult lowerForCuda(Program &program, ModuleOp module, const ScheduleOptions &options) {
  CudaProgram &cuda = *program.cuda;
  MLIRContext *context = module.getContext();
  DialectRegistry registry;
  registerCudaDialects(registry);
  context->appendDialectRegistry(registry);
  for (StringRef dialect : registry.getDialectNames())
    context->getOrLoadDialect(dialect);
  OpBuilder builder(context);
  cuda.code = ModuleOp::create(module.getLoc());
  builder.setInsertionPointToEnd(cuda.code->getBody());
  auto code = gpu::GPUModuleOp::create(builder, module.getLoc(), "cuda_kernels");
  SymbolTable symbols(module);
  for (const std::string &name : program.kernels) {
    auto function = symbols.lookup<func::FuncOp>(name);
    FailureOr<CudaKernel> kernel = lowerCudaKernel(function, code);
    if (failed(kernel))
      return failure();
    cuda.scratch.bytes =
        std::max<int64_t>(cuda.scratch.bytes, llvm::alignTo(kernel->scratchBytes, kCudaAlignment));
    function->setAttr(kScratchAttr,
                      builder.getI64IntegerAttr(kernel->scratchBytes)); // for the proof
    for (auto *calls : {&kernel->calls, &kernel->otherwise})
      for (CudaCall &call : *calls)
        if (auto *gemm = std::get_if<CudaGemm>(&call);
            gemm && gemm->a.dtype == "f32" && options.allowTf32)
          gemm->compute = "tf32";
    cuda.kernels.push_back(std::move(*kernel));
  }
  forEachNote(module, [](Location loc, StringRef path, StringRef note) {
    emitWarning(loc) << path << (path.empty() ? "" : ": ") << note;
  });
  for (const ProgramEntry &entry : program.entries)
    for (const ProgramCommand &command : entry.commands)
      cuda.staging.bytes = std::max(cuda.staging.bytes, stagingBytes(program, command));
  for (const ProgramCommand &command : program.init)
    cuda.staging.bytes = std::max(cuda.staging.bytes, stagingBytes(program, command));
  cuda.workspace.bytes = usesGemm(cuda) ? llvm::alignTo(options.workspaceBytes, kCudaAlignment) : 0;
  return success();
}

void placeCudaRanges(Program &program) {
  for (ArenaRange *range :
       {&program.cuda->scratch, &program.cuda->workspace, &program.cuda->staging}) {
    range->offset = program.arenaBytes;
    program.arenaBytes += range->bytes;
  }
  // One space of addresses for both memories: places say which one is meant.
  ArenaRange &host = program.cuda->host;
  host.offset = program.arenaBytes;
  for (auto [i, buffer] : llvm::enumerate(program.buffers))
    if (program.isOnHost(i))
      buffer.offset += host.offset;
}

} // namespace shardc
