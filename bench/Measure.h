//===- Measure.h - Clocks, peaks and buffers for benchmarks -----*- C++ -*-===//
#ifndef SHARDC_BENCH_MEASURE_H
#define SHARDC_BENCH_MEASURE_H

#include "shardc/Lower/ObjectEmitter.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sys/mman.h>
#include <vector>

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

/// Products of matrix tiles, four sums in turn. The tiles' shapes are those of `configuration`.
inline void tilePeakLoop(long n) {
  alignas(64) uint8_t configuration[64] = {1};
  for (int tile = 0; tile < 8; ++tile) {
    configuration[16 + 2 * tile] = 64;
    configuration[48 + tile] = 16;
  }
#define SHARDC_TILES                                                                               \
  "tdpbf16ps %%tmm6,%%tmm4,%%tmm0\n tdpbf16ps %%tmm7,%%tmm4,%%tmm1\n"                              \
  "tdpbf16ps %%tmm6,%%tmm5,%%tmm2\n tdpbf16ps %%tmm7,%%tmm5,%%tmm3\n"
  __asm__ volatile("ldtilecfg %1\n 1:\n" SHARDC_TILES SHARDC_TILES SHARDC_TILES
                   "dec %0\n jnz 1b\n tilerelease\n"
                   : "+r"(n)
                   : "m"(configuration)
                   : "cc", "memory");
#undef SHARDC_TILES
}

/// The loop, and FLOPs of one round of it.
struct PeakLoop {
  void (*loop)(long);
  double flops;
};
inline PeakLoop peakLoop(const shardc::CpuTarget &target, bool dot) {
  void (*loop)(long) = SHARDC_PEAK_LOOP("vfmadd231ps", "ymm");
  if (target.avx512)
    loop = SHARDC_PEAK_LOOP("vfmadd231ps", "zmm");
  if (dot && target.amx)
    return {tilePeakLoop, 12.0 * 2 * 16 * 16 * 32};
  if (dot && target.bf16Dot)
    return {SHARDC_PEAK_LOOP("vdpbf16ps", "zmm"), 12.0 * target.vectorBytes};
  return {loop, 12.0 * (target.vectorBytes / 2)};
}

/// FLOP/s of one core that does nothing but independent multiply-adds.
inline double peakRate(const shardc::CpuTarget &target, bool dot) {
  PeakLoop peak = peakLoop(target, dot);
  constexpr long n = 1000000;
  return n * peak.flops / bestSeconds([&] { peak.loop(n); });
}

struct Speed {
  double seconds; ///< median
  double peak;    ///< fraction of the peak, median of turns
};

/// Turns of the peak loop and of `run`, since the clock follows what else the machine does.
template <typename F>
Speed speedOf(const shardc::CpuTarget &target, bool dot, double flops, F &&run) {
  PeakLoop peak = peakLoop(target, dot);
  auto seconds = [](auto &&f) {
    double start = now();
    f();
    return now() - start;
  };
  run();
  int repeats = std::max(1, int(0.004 / std::max(seconds(run), 1e-7)));
  std::vector<double> times, ratios;
  constexpr long n = 300000;
  double before = seconds([&] { peak.loop(n); });
  for (int i = 0; i < 31; ++i) {
    double time = seconds([&] {
                    for (int j = 0; j < repeats; ++j)
                      run();
                  }) /
                  repeats;
    double after = seconds([&] { peak.loop(n); });
    times.push_back(time);
    ratios.push_back(flops / time / (n * peak.flops / std::min(before, after)));
    before = after;
  }
  auto median = [](std::vector<double> &values) {
    std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
    return values[values.size() / 2];
  };
  return {median(times), median(ratios)};
}

/// Zeros on huge pages, as the runtime's arena.
struct Buffer {
  void *data;
  size_t mapped;
  explicit Buffer(size_t bytes) : mapped((bytes + 4096 + kHuge - 1) / kHuge * kHuge) {
    data = std::aligned_alloc(kHuge, mapped);
    madvise(data, mapped, MADV_HUGEPAGE);
    std::memset(data, 0, mapped);
  }
  ~Buffer() { std::free(data); }
  Buffer(const Buffer &) = delete;

private:
  static constexpr size_t kHuge = 2 << 20;
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
