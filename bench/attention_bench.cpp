//===- attention_bench.cpp - Speed of generated attention kernels ---------===//
//
// usage: attention_bench [level]   (default: native). GFLOP/s of one thread, counting the two
// products (of the gradient: five) over visible scores only.
//
//===----------------------------------------------------------------------===//
#include "Measure.h"
#include "shardc/Lower/AttentionKernel.h"
#include "shardc/Lower/ObjectEmitter.h"

using namespace shardc;

struct Case {
  int64_t batch, heads, keyHeads, queries, keys, dim;
  bool causal, bf16, gradient;
};

static void bench(const CpuTarget &target, Case c, double peakRate) {
  mlir::MLIRContext context;
  loadKernelDialects(context);
  mlir::OpBuilder builder(&context);
  mlir::OwningOpRef<mlir::ModuleOp> module = mlir::ModuleOp::create(builder.getUnknownLoc());
  mlir::Type type = c.bf16 ? mlir::Type(builder.getBF16Type()) : builder.getF32Type();
  AttentionSpec spec;
  spec.symbol = "attention";
  spec.batch = c.batch;
  spec.queryHeads = c.heads;
  spec.keyHeads = c.keyHeads;
  spec.queries = c.queries;
  spec.keys = c.keys;
  spec.dim = spec.valueDim = c.dim;
  spec.q = spec.out = {type, c.queries * c.heads * c.dim, c.dim, c.heads * c.dim, 1};
  spec.k = spec.v = {type, c.keys * c.keyHeads * c.dim, c.dim, c.keyHeads * c.dim, 1};
  spec.scale = 0.125;
  if (c.causal) {
    spec.right = 0;
    spec.offset = c.keys - c.queries;
  }
  AttentionGradSpec grad{spec, spec.q, spec.k, spec.v};
  auto kernel = c.gradient ? buildAttentionGrad(builder, *module, grad, target)
                           : buildAttention(builder, *module, spec, target);
  EmitStatistics stats;
  KernelLibrary library = compileOrExit(*module, target, stats);
  int64_t bytes = elementBytes(type);
  Buffer q(c.batch * c.queries * c.heads * c.dim * bytes),
      out(c.batch * c.queries * c.heads * c.dim * bytes);
  Buffer k(c.batch * c.keys * c.keyHeads * c.dim * bytes),
      v(c.batch * c.keys * c.keyHeads * c.dim * bytes), scratch(kernel->scratchBytes);
  Buffer dq(c.batch * c.queries * c.heads * c.dim * bytes);
  Buffer dk(c.batch * c.keys * c.keyHeads * c.dim * bytes),
      dv(c.batch * c.keys * c.keyHeads * c.dim * bytes);
  void *buffers[] = {q.data, k.data, v.data, out.data, dq.data, dk.data, dv.data};
  auto function = library.find("attention");
  double seconds = bestSeconds([&] { function(buffers, 0, kernel->tiles, scratch.data); });
  double visible = double(c.queries) * c.keys - (c.causal ? 0.5 * c.queries * (c.queries - 1) : 0);
  double rate = (c.gradient ? 10.0 : 4.0) * c.batch * c.heads * visible * c.dim / seconds;
  std::printf("%-8s %-4s b=%lld heads=%lld/%lld queries=%-5lld keys=%-5lld dim=%-4lld %-6s %8.1f "
              "GFLOP/s %5.1f %%  %9.1f us  tiles %-4lld scratch "
              "%-7lld lower %.0f ms codegen %.0f ms of processor time\n",
              c.gradient ? "gradient" : "forward", c.bf16 ? "bf16" : "f32", (long long)c.batch,
              (long long)c.heads, (long long)c.keyHeads, (long long)c.queries, (long long)c.keys,
              (long long)c.dim, c.causal ? "causal" : "full", rate * 1e-9, 100 * rate / peakRate,
              seconds * 1e6, (long long)kernel->tiles, (long long)kernel->scratchBytes,
              stats.lowerMs, stats.codegenCpuMs);
}

int main(int argc, char **argv) {
  CpuTarget target = targetOrExit(argc, argv);
  double peak = peakRate(target, /*dot=*/false);
  std::printf("%s: peak %.1f GFLOP/s f32\n", target.name.c_str(), peak * 1e-9);
  const Case cases[] = {
      {1, 8, 8, 512, 512, 64, false, false},  {1, 8, 8, 512, 512, 64, true, false},
      {1, 8, 2, 512, 512, 64, true, false},   {1, 8, 8, 1024, 1024, 128, true, false},
      {1, 8, 8, 1024, 1024, 128, true, true}, {4, 8, 8, 64, 64, 64, true, false},
      {8, 8, 2, 1, 1024, 64, true, false},    {8, 8, 8, 1, 1024, 64, true, false}};
  for (Case c : cases)
    bench(target, c, peak);
  for (Case c : llvm::ArrayRef<Case>(cases).take_front(6)) {
    c.gradient = true;
    bench(target, c, peak);
  }
  bench(target, {1, 2, 2, 4096, 4096, 64, true, false, true}, peak);
}
