//===- gemm_bench.cpp - Speed of generated matrix multiplication ----------===//
//
// usage: gemm_bench [level [--peak|--training|--case …] [f32|bf16]]   (default: native, both
// types). Prints GFLOP/s of one thread, the ratio to the measured peak, and compile times; with
// --peak the peak alone; with --case packed|NN|NT|TN M N K one product; with --training the
// products of a training step: all operands row-major, forward x·wᵀ (NT), dx = dy·w (NN) and dw =
// dyᵀ·x (TN).
//
//===----------------------------------------------------------------------===//
#include "Measure.h"
#include "shardc/Lower/GemmKernel.h"
#include "shardc/Lower/GroupedKernel.h"

using namespace shardc;

struct Case {
  int64_t m, n, k;
};

/// How the operands lie: B as packed panels, or both row-major, transposed (T) or not (N).
enum class Layout { Packed, NN, NT, TN };
static const char *const kLayoutNames[] = {"packed", "NN", "NT", "TN"};

static void bench(const CpuTarget &target, bool bf16, Layout layout, Case c) {
  mlir::MLIRContext context;
  loadKernelDialects(context);
  mlir::OpBuilder builder(&context);
  mlir::OwningOpRef<mlir::ModuleOp> module = mlir::ModuleOp::create(builder.getUnknownLoc());
  mlir::Type f32 = builder.getF32Type(), type = bf16 ? mlir::Type(builder.getBF16Type()) : f32;
  bool isTraining = layout == Layout::NT || layout == Layout::TN;
  GemmSpec spec = makeGemm("gemm", c.m, c.n, c.k, type, type, isTraining ? type : f32,
                           layout == Layout::Packed);
  if (layout == Layout::TN) {
    spec.a.rowStride = 1;
    spec.a.columnStride = c.m;
  } else if (layout == Layout::NT) {
    spec.b.rowStride = 1;
    spec.b.columnStride = c.k;
  }
  auto kernel = buildGemm(builder, *module, spec, target);
  EmitStatistics stats;
  KernelLibrary library = compileOrExit(*module, target, stats);
  int64_t bytes = elementBytes(type);
  Buffer a(c.m * c.k * bytes), b(packedElements(c.k, c.n, 32, type) * bytes), out(c.m * c.n * 4),
      scratch(kernel->scratchBytes);
  void *buffers[] = {a.data, b.data, out.data};
  auto function = library.find("gemm");
  double flops = 2.0 * c.m * c.n * c.k;
  Speed speed =
      speedOf(target, bf16, flops, [&] { function(buffers, 0, kernel->tiles, scratch.data); });
  double seconds = speed.seconds, rate = flops / seconds;
  std::printf("%-5s %-6s m=%-4lld n=%-5lld k=%-5lld %8.1f GFLOP/s %5.1f %%  B at %6.1f GB/s  tiles "
              "%-5lld scratch %-8lld lower %.0f ms "
              "codegen %.0f ms of processor time link %.0f ms\n",
              bf16 ? "bf16" : "f32", kLayoutNames[int(layout)], (long long)c.m, (long long)c.n,
              (long long)c.k, rate * 1e-9, 100 * speed.peak,
              double(c.n) * c.k * bytes / seconds * 1e-9, (long long)kernel->tiles,
              (long long)kernel->scratchBytes, stats.lowerMs, stats.codegenCpuMs, stats.linkMs);
}

/// `rows` rows dealt out evenly to experts.
static void benchGrouped(const CpuTarget &target, bool bf16, bool gradient, int64_t rows,
                         int64_t experts, int64_t n, int64_t k) {
  mlir::MLIRContext context;
  loadKernelDialects(context);
  mlir::OpBuilder builder(&context);
  mlir::OwningOpRef<mlir::ModuleOp> module = mlir::ModuleOp::create(builder.getUnknownLoc());
  GroupedSpec spec;
  spec.symbol = "grouped";
  spec.rows = rows;
  spec.groups = experts;
  spec.n = n;
  spec.k = k;
  spec.type = bf16 ? mlir::Type(builder.getBF16Type()) : builder.getF32Type();
  spec.groupType = builder.getI64Type();
  spec.groupStride = n * k;
  spec.nStride = k;
  auto kernel = gradient ? buildGroupedGrad(builder, *module, spec, target)
                         : buildGrouped(builder, *module, spec, target);
  EmitStatistics stats;
  KernelLibrary library = compileOrExit(*module, target, stats);
  int64_t bytes = elementBytes(spec.type);
  Buffer x(rows * k * bytes), y(rows * n * bytes), w(experts * n * k * bytes), groups(rows * 8),
      scratch(kernel->scratchBytes);
  for (int64_t t = 0; t < rows; ++t)
    static_cast<int64_t *>(groups.data)[t] = t * 7 % experts;
  void *buffers[] = {x.data, gradient ? y.data : w.data, groups.data, gradient ? w.data : y.data};
  auto function = library.find("grouped");
  double flops = 2.0 * rows * n * k;
  Speed speed =
      speedOf(target, false, flops, [&] { function(buffers, 0, kernel->tiles, scratch.data); });
  std::printf("%-5s grouped %-8s rows=%lld experts=%lld n=%-5lld k=%-5lld %8.1f GFLOP/s %5.1f %%\n",
              bf16 ? "bf16" : "f32", gradient ? "gradient" : "product", (long long)rows,
              (long long)experts, (long long)n, (long long)k, flops / speed.seconds * 1e-9,
              100 * speed.peak);
}

int main(int argc, char **argv) {
  CpuTarget target = targetOrExit(argc, argv);
  double f32 = peakRate(target, /*dot=*/false), bf16 = peakRate(target, /*dot=*/true);
  std::printf("%s: peak %.1f GFLOP/s f32, %.1f GFLOP/s bf16\n", target.name.c_str(), f32 * 1e-9,
              bf16 * 1e-9);
  if (argc > 2 && std::strcmp(argv[2], "--peak") == 0)
    return 0;
  std::vector<bool> types; // whether bf16
  for (bool isBF16 : {false, true})
    if (std::strcmp(argv[argc - 1], isBF16 ? "f32" : "bf16") != 0)
      types.push_back(isBF16);
  auto run = [&](bool isBF16, Layout layout, Case c) { bench(target, isBF16, layout, c); };
  if (argc > 2 && std::strcmp(argv[2], "--training") == 0) {
    // A Llama of 512/1408 features and 8192 words, 512 tokens a rank: features out, features in.
    constexpr int64_t kTokens = 512;
    const std::pair<int64_t, int64_t> weights[] = {
        {512, 512}, {1408, 512}, {512, 1408}, {8192, 512}, {4096, 4096}};
    for (bool isBF16 : types)
      for (auto [out, in] : weights) {
        run(isBF16, Layout::NT, {kTokens, out, in});
        run(isBF16, Layout::NN, {kTokens, in, out});
        run(isBF16, Layout::TN, {out, in, kTokens});
      }
    for (bool isBF16 : types)
      for (bool gradient : {false, true})
        for (int64_t experts : {8, 64})
          benchGrouped(target, isBF16, gradient, 4 * kTokens, experts, 768, 512);
    return 0;
  }
  if (argc > 6 && std::strcmp(argv[2], "--case") == 0) {
    for (bool isBF16 : types)
      for (int layout = 0; layout < 4; ++layout)
        if (std::strcmp(argv[3], kLayoutNames[layout]) == 0)
          run(isBF16, Layout(layout),
              {std::atoll(argv[4]), std::atoll(argv[5]), std::atoll(argv[6])});
    return 0;
  }
  const Case cases[] = {{512, 512, 2048}, {256, 1408, 512}, {512, 2048, 512}, {128, 512, 512},
                        {64, 4096, 4096}, {1, 4096, 4096},  {4, 4096, 4096},  {16, 512, 512}};
  for (bool isBF16 : types)
    for (Layout layout : {Layout::Packed, Layout::NN})
      for (Case c : cases)
        if (layout == Layout::Packed || c.m >= 128)
          run(isBF16, layout, c);
}
