//===- gemm_bench.cpp - Speed of generated kernels against the core's peak --===//
//
// usage: gemm_bench [level]   (default: native). Prints GFLOP/s of one thread, the ratio to the measured peak, and compile times.
//
//===----------------------------------------------------------------------===//
#include "shardc/Lower/GemmKernel.h"
#include "shardc/Lower/ObjectEmitter.h"
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

using namespace shardc;

static double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Best time of several runs of about 20 ms.
template <typename F> static double bestSeconds(F &&run) {
  double start = now();
  run();
  int repeats = std::max(1, int(0.02 / std::max(now() - start, 1e-7)));
  double best = 1e30;
  for (int i = 0; i < 9; ++i) {
    start = now();
    for (int j = 0; j < repeats; ++j)
      run();
    best = std::min(best, (now() - start) / repeats);
  }
  return best;
}

#define REPEAT12(OP, R)                                                                                                            \
  OP " %%" R "14,%%" R "15,%%" R "0\n" OP " %%" R "14,%%" R "15,%%" R "1\n" OP " %%" R "14,%%" R "15,%%" R "2\n" OP " %%" R        \
     "14,%%" R "15,%%" R "3\n" OP " %%" R "14,%%" R "15,%%" R "4\n" OP " %%" R "14,%%" R "15,%%" R "5\n" OP " %%" R "14,%%" R      \
     "15,%%" R "6\n" OP " %%" R "14,%%" R "15,%%" R "7\n" OP " %%" R "14,%%" R "15,%%" R "8\n" OP " %%" R "14,%%" R "15,%%" R      \
     "9\n" OP " %%" R "14,%%" R "15,%%" R "10\n" OP " %%" R "14,%%" R "15,%%" R "11\n"
#define PEAK_LOOP(OP, R)                                                                                                           \
  [](long n) {                                                                                                                     \
    __asm__ volatile("1:\n" REPEAT12(OP, R) "dec %0\n jnz 1b\n" : "+r"(n)::"cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",   \
                     "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                        \
  }

static double peak(void (*loop)(long), double flopsPerInstruction) {
  constexpr long n = 1000000;
  return n * 12 * flopsPerInstruction / bestSeconds([&] { loop(n); });
}

struct Case {
  int64_t m, n, k;
};

static void *buffer(size_t bytes) {
  void *p = std::aligned_alloc(64, (bytes + 4096 + 63) / 64 * 64);
  std::memset(p, 0, bytes + 4096);
  return p;
}

static void bench(const CpuTarget &target, bool bf16, bool packed, Case c, double peakRate) {
  mlir::MLIRContext context;
  loadKernelDialects(context);
  mlir::OpBuilder builder(&context);
  mlir::OwningOpRef<mlir::ModuleOp> module = mlir::ModuleOp::create(builder.getUnknownLoc());
  mlir::Type f32 = builder.getF32Type(), type = bf16 ? mlir::Type(builder.getBF16Type()) : f32;
  auto kernel = buildGemm(builder, *module, makeGemm("gemm", c.m, c.n, c.k, type, type, f32, packed), target);
  EmitStatistics stats;
  auto library = KernelLibrary::compile(*module, target, &stats);
  if (!library || mlir::failed(kernel)) {
    std::fprintf(stderr, "%s\n", llvm::toString(library.takeError()).c_str());
    std::exit(1);
  }
  void *buffers[] = {buffer(c.m * c.k * 4), buffer(packedElements(c.k, c.n, 32, type) * 4), buffer(c.m * c.n * 4)};
  void *scratch = buffer(kernel->scratchBytes);
  auto function = library->find("gemm");
  double seconds = bestSeconds([&] { function(buffers, 0, kernel->tiles, scratch); });
  double rate = 2.0 * c.m * c.n * c.k / seconds;
  double weightBytes = double(c.n) * c.k * elementBytes(type);
  std::printf("%-5s %-6s m=%-4lld n=%-5lld k=%-5lld %8.1f GFLOP/s %5.1f %%  B at %6.1f GB/s  tiles %-5lld scratch %-8lld lower %.0f ms "
              "codegen %.0f ms link %.0f ms\n",
              bf16 ? "bf16" : "f32", packed ? "packed" : "plain", (long long)c.m, (long long)c.n, (long long)c.k, rate * 1e-9,
              100 * rate / peakRate, weightBytes / seconds * 1e-9, (long long)kernel->tiles, (long long)kernel->scratchBytes,
              stats.lowerMs, stats.codegenMs, stats.linkMs);
  for (void *p : buffers)
    std::free(p);
  std::free(scratch);
}

int main(int argc, char **argv) {
  auto target = CpuTarget::parse(argc > 1 ? argv[1] : "native");
  if (!target || !target->runsOnHost()) {
    std::fprintf(stderr, "%s\n", target ? "this machine cannot run that level" : llvm::toString(target.takeError()).c_str());
    return 1;
  }
  double f32 = target->avx512 ? peak(PEAK_LOOP("vfmadd231ps", "zmm"), 32) : peak(PEAK_LOOP("vfmadd231ps", "ymm"), 16);
  double bf16 = target->bf16Dot ? peak(PEAK_LOOP("vdpbf16ps", "zmm"), 64) : f32;
  std::printf("%s: peak %.1f GFLOP/s f32, %.1f GFLOP/s bf16\n", target->name.c_str(), f32 * 1e-9, bf16 * 1e-9);
  const Case cases[] = {{512, 512, 2048}, {256, 1408, 512}, {512, 2048, 512}, {128, 512, 512},
                        {64, 4096, 4096}, {1, 4096, 4096},  {4, 4096, 4096},  {16, 512, 512}};
  for (bool isBF16 : {false, true})
    for (bool packed : {true, false})
      for (Case c : cases)
        if (packed || c.m >= 128)
          bench(*target, isBF16, packed, c, isBF16 ? bf16 : f32);
}
