//===- Measure.h - Clocks, peaks and buffers for benchmarks -----*- C++ -*-===//
#ifndef SHARDC_BENCH_MEASURE_H
#define SHARDC_BENCH_MEASURE_H

#include "shardc/Lower/ObjectEmitter.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

/// Processor time of this thread, so that other work on the machine does not count (it still costs
/// caches and clock).
inline double now() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

/// Best time of several runs of about 20 ms.
template <typename F> double bestSeconds(F &&run) {
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

// Twelve independent accumulators: enough for a latency of 4 at two a cycle.
#define SHARDC_FMA(OP, R, I) OP " %%" R "14,%%" R "15,%%" R I "\n"
#define SHARDC_FMA4(OP, R, A, B, C, D)                                                             \
  SHARDC_FMA(OP, R, A) SHARDC_FMA(OP, R, B) SHARDC_FMA(OP, R, C) SHARDC_FMA(OP, R, D)
#define SHARDC_PEAK_LOOP(OP, R)                                                                    \
  [](long n) {                                                                                     \
    __asm__ volatile(                                                                              \
        "1:\n" SHARDC_FMA4(OP, R, "0", "1", "2", "3") SHARDC_FMA4(OP, R, "4", "5", "6", "7")       \
            SHARDC_FMA4(OP, R, "8", "9", "10", "11") "dec %0\n jnz 1b\n"                           \
        : "+r"(n)::"cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",   \
          "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                           \
  }

/// FLOP/s of one core that does nothing but independent multiply-adds.
inline double peakRate(const shardc::CpuTarget &target, bool dot) {
  void (*loop)(long) = SHARDC_PEAK_LOOP("vfmadd231ps", "ymm");
  if (target.avx512)
    loop = SHARDC_PEAK_LOOP("vfmadd231ps", "zmm");
  if (dot)
    loop = SHARDC_PEAK_LOOP("vdpbf16ps", "zmm");
  constexpr long n = 1000000;
  return n * 12.0 * (target.vectorBytes / 2) * (dot ? 2 : 1) / bestSeconds([&] { loop(n); });
}

struct Buffer {
  void *data;
  explicit Buffer(size_t bytes) : data(std::aligned_alloc(64, (bytes + 4096 + 63) / 64 * 64)) {
    std::memset(data, 0, bytes + 4096);
  }
  ~Buffer() { std::free(data); }
  Buffer(const Buffer &) = delete;
};

inline shardc::CpuTarget targetOrExit(int argc, char **argv) {
  auto target = shardc::CpuTarget::parse(argc > 1 ? argv[1] : "native");
  if (!target || !target->runsOnHost()) {
    std::fprintf(stderr, "%s\n",
                 target ? "this machine cannot run that level"
                        : llvm::toString(target.takeError()).c_str());
    std::exit(1);
  }
  return *target;
}

inline shardc::KernelLibrary compileOrExit(mlir::ModuleOp module, const shardc::CpuTarget &target,
                                           shardc::EmitStatistics &stats) {
  auto library = shardc::KernelLibrary::compile(module, target, &stats);
  if (!library) {
    std::fprintf(stderr, "%s\n", llvm::toString(library.takeError()).c_str());
    std::exit(1);
  }
  return std::move(*library);
}

#endif // SHARDC_BENCH_MEASURE_H
