//===- gemm_bench.cpp - Speed of generated matrix multiplication -----------===//
//
// usage: gemm_bench [level [--peak]]   (default: native). Prints GFLOP/s of one thread, the ratio to the
// measured peak, and compile times; with --peak the peak alone.
//
//===----------------------------------------------------------------------===//
#include "Measure.h"
#include "shardc/Lower/GemmKernel.h"

using namespace shardc;

struct Case {
  int64_t m, n, k;
};

static void bench(const CpuTarget &target, bool bf16, bool packed, Case c, double peak) {
  mlir::MLIRContext context;
  loadKernelDialects(context);
  mlir::OpBuilder builder(&context);
  mlir::OwningOpRef<mlir::ModuleOp> module = mlir::ModuleOp::create(builder.getUnknownLoc());
  mlir::Type f32 = builder.getF32Type(), type = bf16 ? mlir::Type(builder.getBF16Type()) : f32;
  auto kernel =
      buildGemm(builder, *module, makeGemm("gemm", c.m, c.n, c.k, type, type, f32, packed), target);
  EmitStatistics stats;
  KernelLibrary library = compileOrExit(*module, target, stats);
  int64_t bytes = elementBytes(type);
  Buffer a(c.m * c.k * bytes), b(packedElements(c.k, c.n, 32, type) * bytes), out(c.m * c.n * 4),
      scratch(kernel->scratchBytes);
  void *buffers[] = {a.data, b.data, out.data};
  auto function = library.find("gemm");
  double seconds = bestSeconds([&] { function(buffers, 0, kernel->tiles, scratch.data); });
  double rate = 2.0 * c.m * c.n * c.k / seconds;
  std::printf("%-5s %-6s m=%-4lld n=%-5lld k=%-5lld %8.1f GFLOP/s %5.1f %%  B at %6.1f GB/s  tiles "
              "%-5lld scratch %-8lld lower %.0f ms "
              "codegen %.0f ms of processor time link %.0f ms\n",
              bf16 ? "bf16" : "f32", packed ? "packed" : "plain", (long long)c.m, (long long)c.n,
              (long long)c.k, rate * 1e-9, 100 * rate / peak,
              double(c.n) * c.k * bytes / seconds * 1e-9, (long long)kernel->tiles,
              (long long)kernel->scratchBytes, stats.lowerMs, stats.codegenCpuMs, stats.linkMs);
}

int main(int argc, char **argv) {
  CpuTarget target = targetOrExit(argc, argv);
  double f32 = peakRate(target, /*dot=*/false), bf16 = peakRate(target, target.bf16Dot);
  std::printf("%s: peak %.1f GFLOP/s f32, %.1f GFLOP/s bf16\n", target.name.c_str(), f32 * 1e-9,
              bf16 * 1e-9);
  if (argc > 2 && std::strcmp(argv[2], "--peak") == 0)
    return 0;
  const Case cases[] = {{512, 512, 2048}, {256, 1408, 512}, {512, 2048, 512}, {128, 512, 512},
                        {64, 4096, 4096}, {1, 4096, 4096},  {4, 4096, 4096},  {16, 512, 512}};
  for (bool isBF16 : {false, true})
    for (bool packed : {true, false})
      for (Case c : cases)
        if (packed || c.m >= 128)
          bench(target, isBF16, packed, c, isBF16 ? bf16 : f32);
}
