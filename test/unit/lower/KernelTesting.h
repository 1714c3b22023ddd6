//===- KernelTesting.h - Run kernels on checked memory ----------*- C++ -*-===//
#ifndef SHARDC_TEST_UNIT_LOWER_KERNELTESTING_H
#define SHARDC_TEST_UNIT_LOWER_KERNELTESTING_H

#include "mlir/IR/Diagnostics.h"
#include "shardc/Lower/ObjectEmitter.h"
#include "llvm/ADT/APFloat.h"
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <random>
#include <sys/mman.h>

namespace shardc::testing {

/// Memory that ends where an unmapped page begins, so that one byte too far is a crash.
class GuardedBuffer {
public:
  explicit GuardedBuffer(size_t bytes) : bytes(bytes), mapped((bytes + 4095) / 4096 * 4096 + 8192) {
    base =
        static_cast<char *>(mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base + 4096, mapped - 8192, PROT_READ | PROT_WRITE);
  }
  ~GuardedBuffer() { munmap(base, mapped); }
  GuardedBuffer(const GuardedBuffer &) = delete;
  void *data() const { return base + mapped - 4096 - bytes; }

private:
  size_t bytes, mapped;
  char *base;
};

/// Values of one element type: as the kernel sees them and as doubles.
class Tensor {
public:
  Tensor(mlir::Type type, int64_t count)
      : type(type), count(count), memory(std::max<int64_t>(count, 1) * elementBytes(type)) {}

  double get(int64_t i) const {
    const char *p = static_cast<const char *>(memory.data()) + i * elementBytes(type);
    if (auto floatType = llvm::dyn_cast<mlir::FloatType>(type)) {
      uint64_t bits = 0;
      std::memcpy(&bits, p, elementBytes(type));
      llvm::APFloat value(floatType.getFloatSemantics(), llvm::APInt(floatType.getWidth(), bits));
      bool lossy;
      value.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &lossy);
      return value.convertToDouble();
    }
    switch (elementBytes(type)) {
    case 1:
      return *reinterpret_cast<const int8_t *>(p);
    case 2:
      return *reinterpret_cast<const int16_t *>(p);
    case 4:
      return *reinterpret_cast<const int32_t *>(p);
    default:
      return *reinterpret_cast<const int64_t *>(p);
    }
  }
  void set(int64_t i, double v) {
    char *p = static_cast<char *>(memory.data()) + i * elementBytes(type);
    if (auto floatType = llvm::dyn_cast<mlir::FloatType>(type)) {
      llvm::APFloat value(v);
      bool lossy;
      value.convert(floatType.getFloatSemantics(), llvm::APFloat::rmNearestTiesToEven, &lossy);
      uint64_t bits = value.bitcastToAPInt().getZExtValue();
      std::memcpy(p, &bits, elementBytes(type));
      return;
    }
    int64_t integer = int64_t(v);
    std::memcpy(p, &integer, elementBytes(type));
  }
  /// Uniform in [-1, 1], or integers in [-9, 9].
  void randomise(unsigned seed) {
    std::minstd_rand generator(seed * 7919 + 1);
    std::uniform_real_distribution<double> real(-1, 1);
    std::uniform_int_distribution<int> integer(-9, 9);
    for (int64_t i = 0; i < count; ++i)
      set(i, llvm::isa<mlir::FloatType>(type) ? real(generator) : integer(generator));
  }
  void fill(double v) {
    for (int64_t i = 0; i < count; ++i)
      set(i, v);
  }
  std::vector<double> values() const {
    std::vector<double> result(count);
    for (int64_t i = 0; i < count; ++i)
      result[i] = get(i);
    return result;
  }
  void *data() const { return memory.data(); }
  mlir::Type getType() const { return type; }
  int64_t size() const { return count; }

private:
  mlir::Type type;
  int64_t count;
  GuardedBuffer memory;
};

/// Half a unit in the last place of the type, relative.
inline double roundoff(mlir::Type type) {
  if (auto floatType = llvm::dyn_cast<mlir::FloatType>(type))
    return std::ldexp(1.0, -int(floatType.getFPMantissaWidth()));
  return 0;
}

/// A context, a module under construction and the levels that this machine runs.
struct KernelFixture : ::testing::TestWithParam<const char *> {
  mlir::MLIRContext context;
  mlir::OpBuilder builder{&context};
  mlir::OwningOpRef<mlir::ModuleOp> module;
  CpuTarget target;

  void SetUp() override {
    loadKernelDialects(context);
    module = mlir::ModuleOp::create(builder.getUnknownLoc());
    auto parsed = CpuTarget::parse(GetParam());
    ASSERT_TRUE(bool(parsed)) << llvm::toString(parsed.takeError());
    target = *parsed;
    if (!target.runsOnHost())
      GTEST_SKIP() << "this machine cannot run " << target.name;
  }

  KernelLibrary compile() {
    auto library = KernelLibrary::compile(*module, target);
    if (!library)
      ADD_FAILURE() << llvm::toString(library.takeError());
    module = mlir::ModuleOp::create(builder.getUnknownLoc());
    return std::move(*library);
  }

  /// All tiles, in two ranges of uneven length, with scratch of exactly the size asked for and full
  /// of NaN.
  static void run(const KernelLibrary &library, const Kernel &kernel, std::vector<void *> buffers) {
    auto function = library.find(kernel.symbol);
    ASSERT_NE(function, nullptr) << kernel.symbol;
    GuardedBuffer scratch((kernel.scratchBytes + 63) / 64 * 64);
    std::memset(scratch.data(), 0xff, kernel.scratchBytes);
    int64_t middle = (kernel.tiles + 2) / 3;
    function(buffers.data(), middle, kernel.tiles, scratch.data());
    std::memset(scratch.data(), 0xff, kernel.scratchBytes);
    function(buffers.data(), 0, middle, scratch.data());
  }
};

inline std::string levelName(const ::testing::TestParamInfo<const char *> &info) {
  std::string name = info.param;
  for (char &c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)))
      c = '_';
  return name;
}

#define INSTANTIATE_LEVELS(SUITE)                                                                  \
  INSTANTIATE_TEST_SUITE_P(                                                                        \
      Levels, SUITE,                                                                               \
      ::testing::Values("x86-64-v3", "x86-64-v4", "x86-64-v4+avx512bf16", "x86-64-v4+amx-bf16"),   \
      levelName)

} // namespace shardc::testing

#endif // SHARDC_TEST_UNIT_LOWER_KERNELTESTING_H
