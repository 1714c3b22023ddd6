//===- AttentionGradient.cpp - Kernels of attention's gradient ------------===//
#include "AttentionGradient.h"
#include "lib/Lower/Kernels/AttentionOperands.h"

using namespace mlir;

namespace shardc {

AttentionGradKernel::AttentionGradKernel(CudaLowering &lowering, const AttentionGradSpec &spec)
    : lowering(lowering), gradient(spec), spec(spec.attention), e{lowering.builder, lowering.loc()},
      grid(e, spec.attention), tensorCores(WarpTile::usesTensorCores(spec.attention.q.type)) {}

void AttentionGradKernel::begin(StringRef suffix, std::vector<const CudaBuffer *> buffers) {
  SmallVector<CudaBuffer> list;
  for (const CudaBuffer *buffer : buffers)
    list.push_back(*buffer);
  KernelBody body = lowering.beginKernel(spec.symbol + suffix.str(), list);
  for (auto [buffer, value] : llvm::zip(buffers, body.buffers))
    arguments.push_back({buffer, value});
}

Value AttentionGradKernel::bufferOf(const CudaBuffer &buffer) {
  for (auto [known, value] : arguments)
    if (known == &buffer)
      return value;
  llvm_unreachable("not a buffer of this kernel");
}

/// A block adds up a head's queries: each thread some of them, then all threads in order.
CudaLaunch lowerAttentionGradSinks(CudaLowering &lowering, const AttentionGradSpec &spec,
                                   const AttentionGradBuffers &buffers) {
  AttentionGradKernel kernel(lowering, spec);
  kernel.begin("_sinks", {&*buffers.sinks, &buffers.denominator, &buffers.delta, &*buffers.dsinks});
  Emitter &e = kernel.e;
  AttentionGrid &grid = kernel.grid;
  const AttentionSpec &attention = spec.attention;
  int64_t count = attention.batch * attention.queries;
  int64_t threads = std::clamp<int64_t>(llvm::alignTo(count, kWarp), kWarp, 256);
  lowering.setGrid(attention.queryHeads, threads);
  WarpTile warp(lowering, e, e.b.getF32Type(), threads);
  Value head = lowering.blockIndex();
  Value sink = grid.logit(warp.load(kernel.bufferOf(*buffers.sinks), head));
  Value mine =
      e.loop(warp.thread, e.index(count), threads, grid.f32(0), [&](Value item, ValueRange sum) {
        grid.batch = e.div(item, attention.queries);
        Value at = grid.statistic({head, e.rem(item, attention.queries), {}});
        Value denominator = e.loadScalar(kernel.bufferOf(buffers.denominator), at);
        Value delta = e.loadScalar(kernel.bufferOf(buffers.delta), at);
        Value power = warp.exp2(grid.minus(sink, denominator));
        return Emitter::Values{grid.plus(sum[0], grid.times(power, delta))};
      })[0];
  Value places = lowering.sharedMemory(e.b.getF32Type(), threads);
  e.storeScalar(mine, places, warp.thread);
  lowering.barrier();
  e.ifThen(e.equal(warp.thread, e.index(0)), [&] {
    Value sum = e.loop(e.index(0), e.index(threads), 1, grid.f32(0), [&](Value n, ValueRange sum) {
      return Emitter::Values{grid.plus(sum[0], e.loadScalar(places, n))};
    })[0];
    Type type = buffers.dsinks->type.getElementType();
    e.storeScalar(e.convert(grid.minus(grid.f32(0), sum), type), kernel.bufferOf(*buffers.dsinks),
                  head);
  });
  return lowering.launch();
}

FailureOr<CudaKernel> lowerAttentionGradGrid(CudaLowering &lowering, graph::AttentionGradOp op) {
  AttentionOperands<graph::AttentionGradOp> operands(lowering, op);
  AttentionGradSpec spec;
  operands.spec.out = operands.read(op.getCotangent());
  spec.dq = operands.write(op.getDquery());
  spec.dk = operands.write(op.getDkey());
  spec.dv = operands.write(op.getDvalue());
  if (op.getDsinks())
    operands.writePlain(op.getDsinks());
  if (failed(operands.check()))
    return failure();
  spec.attention = operands.spec;
  std::string reason = AttentionGrid::reasonAgainst(spec.attention);
  if (!reason.empty())
    return op.emitOpError() << reason;

  AttentionGradBuffers buffers;
  unsigned next = 0;
  auto take = [&] { return lowering.bufferOf(operands.buffers[next++]); };
  for (CudaBuffer *buffer : {&buffers.query, &buffers.key, &buffers.value})
    *buffer = take();
  if (op.getMask())
    buffers.mask = take();
  if (op.getSinks())
    buffers.sinks = take();
  for (CudaBuffer *buffer : {&buffers.cotangent, &buffers.dquery, &buffers.dkey, &buffers.dvalue})
    *buffer = take();
  if (op.getDsinks())
    buffers.dsinks = take();

  CudaKernel kernel;
  kernel.name = spec.attention.symbol;
  const AttentionSpec &attention = spec.attention;
  int64_t rows = attention.batch * attention.queryHeads * attention.queries;
  if (rows == 0 || attention.keys == 0 || attention.dim == 0 || attention.valueDim == 0) {
    SmallVector<CudaBuffer> results{buffers.dquery, buffers.dkey, buffers.dvalue};
    if (buffers.dsinks)
      results.push_back(*buffers.dsinks);
    for (CudaBuffer &result : results)
      if (result.bytes())
        kernel.calls.push_back(CudaMemset{result.argument, result.bytes()});
    return kernel;
  }
  auto type = MemRefType::get({rows}, Float32Type::get(op.getContext()));
  buffers.denominator = {CudaArgument::ofScratch(0), type, true};
  int64_t bytes = llvm::alignTo(buffers.denominator.bytes(), kCudaAlignment);
  buffers.delta = {CudaArgument::ofScratch(bytes), type, true};
  kernel.scratchBytes = 2 * bytes;

  kernel.calls.push_back(lowerAttentionGradQueries(lowering, spec, buffers));
  buffers.denominator.isWritten = buffers.delta.isWritten = false;
  kernel.calls.push_back(lowerAttentionGradKeys(lowering, spec, buffers));
  if (buffers.dsinks)
    kernel.calls.push_back(lowerAttentionGradSinks(lowering, spec, buffers));
  return kernel;
}

} // namespace shardc
