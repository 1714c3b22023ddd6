//===- GemmKernelTest.cpp - Generated matrix multiplication ---------------===//
//
// Every kernel runs on memory with guard pages and is compared with sums in double. The tolerance
// follows from the arithmetic: k terms of at most 1, each partial sum rounded in the accumulator's
// type, the result rounded once.
//
//===----------------------------------------------------------------------===//
#include "shardc/Lower/GemmKernel.h"
#include "KernelTesting.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace shardc;
using namespace shardc::testing;
using mlir::Type;
using mlir::Value;

namespace {

struct GemmKernelTest : KernelFixture {
  struct Job {
    GemmSpec spec;
    Kernel kernel;
    std::function<double(double, int64_t, int64_t, int64_t)> reference; ///< of sum, batch, m, n
    std::vector<std::shared_ptr<Tensor>> extra;
  };
  std::vector<Job> jobs;

  Type f32() { return builder.getF32Type(); }
  Type bf16() { return builder.getBF16Type(); }
  Type f16() { return builder.getF16Type(); }

  Job &add(GemmSpec spec) {
    spec.symbol = "gemm" + std::to_string(jobs.size());
    auto kernel = buildGemm(builder, *module, spec, target);
    EXPECT_TRUE(mlir::succeeded(kernel));
    jobs.push_back({spec, mlir::succeeded(kernel) ? *kernel : Kernel{}, nullptr, {}});
    return jobs.back();
  }

  GemmSpec simple(int64_t m, int64_t n, int64_t k, Type type, bool packed) {
    return makeGemm("", m, n, k, type, type, type, packed);
  }

  static int64_t offset(const GemmSpec &spec, const GemmOperand &operand, int64_t batch) {
    int64_t result = 0;
    for (int64_t i = spec.batch.size() - 1; i >= 0; --i) {
      result += batch % spec.batch[i] * operand.batch[i];
      batch /= spec.batch[i];
    }
    return result;
  }
  static int64_t count(const GemmSpec &spec, const GemmOperand &o, int64_t rows, int64_t columns) {
    int64_t last = (rows - 1) * o.rowStride + (columns - 1) * o.columnStride;
    for (size_t i = 0; i < spec.batch.size(); ++i)
      last += (spec.batch[i] - 1) * o.batch[i];
    return last + 1;
  }

  void check(const KernelLibrary &library, const Job &job) {
    const GemmSpec &s = job.spec;
    int64_t batches = 1, sets = 1;
    for (size_t i = 0; i < s.batch.size(); ++i) {
      batches *= s.batch[i];
      sets += (s.batch[i] - 1) * s.b.batch[i];
    }
    bool pairs = s.b.type.isBF16() || s.b.type.isF16();
    int64_t setSize = packedElements(s.k, s.n, s.nTile, s.b.type);
    Tensor a(s.a.type, count(s, s.a, s.m, s.k)), c(s.c.type, count(s, s.c, s.m, s.n));
    Tensor b(s.b.type, s.packedB ? sets * setSize : count(s, s.b, s.k, s.n));
    a.randomise(1);
    b.randomise(2);
    c.fill(77);
    const int64_t panelSize = setSize / ((s.n + s.nTile - 1) / s.nTile);
    auto bIndex = [&](int64_t batch, int64_t k, int64_t n) {
      if (!s.packedB)
        return offset(s, s.b, batch) + k * s.b.rowStride + n * s.b.columnStride;
      int64_t panel = offset(s, s.b, batch) * setSize + n / s.nTile * panelSize;
      return pairs ? panel + (k / 2 * s.nTile + n % s.nTile) * 2 + k % 2
                   : panel + k * s.nTile + n % s.nTile;
    };
    if (s.packedB && pairs && s.k % 2) // the partner of the last k is zero by contract
      for (int64_t set = 0; set < sets; ++set)
        for (int64_t n = 0; n < (s.n + s.nTile - 1) / s.nTile * s.nTile; ++n)
          b.set(set * setSize + n / s.nTile * ((s.k + 1) * s.nTile) +
                    (s.k / 2 * s.nTile + n % s.nTile) * 2 + 1,
                0);

    std::vector<void *> buffers = {a.data(), b.data()};
    for (auto &extra : job.extra)
      buffers.push_back(extra->data());
    buffers.push_back(c.data());
    run(library, job.kernel, buffers);
    const std::vector<double> aValues = a.values(), bValues = b.values();

    bool small = llvm::isa<mlir::FloatType>(s.a.type) && !s.c.type.isF64();
    double unit = !llvm::isa<mlir::FloatType>(s.c.type) ? 0
                  : small                               ? std::ldexp(1.0, -24)
                                                        : std::ldexp(1.0, -53);
    int64_t wrong = 0;
    std::vector<char> written(c.size());
    for (int64_t batch = 0; batch < batches; ++batch)
      for (int64_t m = 0; m < s.m; ++m)
        for (int64_t n = 0; n < s.n; ++n) {
          double sum = 0, magnitude = 0;
          const int64_t aRow = offset(s, s.a, batch) + m * s.a.rowStride;
          for (int64_t k = 0; k < s.k; ++k) {
            double term = aValues[aRow + k * s.a.columnStride] * bValues[bIndex(batch, k, n)];
            sum += term;
            magnitude += std::abs(term);
          }
          double expected = job.reference ? job.reference(sum, batch, m, n) : sum;
          int64_t at = offset(s, s.c, batch) + m * s.c.rowStride + n;
          written[at] = 1;
          double tolerance = magnitude * unit * std::sqrt(double(s.k)) * 4 +
                             std::abs(expected) * (roundoff(s.c.type) + 8 * unit);
          if (!(std::abs(c.get(at) - expected) <= tolerance) && ++wrong <= 3)
            ADD_FAILURE() << s.symbol << " m=" << s.m << " n=" << s.n << " k=" << s.k
                          << " packed=" << s.packedB << " at (" << batch << ", " << m << ", " << n
                          << "): " << c.get(at) << ", expected " << expected << " ± " << tolerance;
        }
    for (int64_t i = 0; i < c.size(); ++i)
      if (!written[i] && c.get(i) != 77) {
        ADD_FAILURE() << s.symbol << " wrote outside the result at " << i;
        break;
      }
  }

  void checkAll() {
    KernelLibrary library = compile();
    for (const Job &job : jobs)
      check(library, job);
  }
};

TEST_P(GemmKernelTest, OddSizes) {
  const int64_t sizes[] = {1, 3, 7, 17, 33, 65};
  for (Type type : {f32(), bf16(), f16()})
    for (int i = 0; i < 6; ++i)
      for (bool packed : {true, false}) // a Latin square: every size in every place, every pair of
                                        // sizes for (m, n) is too many
        add(simple(sizes[i], sizes[(i * 5 + 2) % 6], sizes[(i + 3) % 6], type, packed));
  checkAll();
}

TEST_P(GemmKernelTest, EveryOperandLayout) {
  for (Type type : {f32(), bf16(), f16()})
    for (bool transposedA : {false, true})
      for (bool transposedB : {false, true}) {
        GemmSpec spec = simple(37, 45, 35, type, false);
        spec.a = {type, transposedA ? 1 : 40, transposedA ? 41 : 1, {}};
        spec.b = {type, transposedB ? 1 : 47, transposedB ? 39 : 1, {}};
        spec.c = {f32(), 50, 1, {}};
        add(spec);
        spec.packedB = true;
        if (!transposedB)
          add(spec);
      }
  GemmSpec strided = simple(5, 6, 7, f32(), false);
  strided.a = {f32(), 30, 2, {}};
  strided.b = {f32(), 40, 3, {}};
  add(strided);
  strided.a.type = strided.b.type = bf16();
  add(strided);
  checkAll();
}

TEST_P(GemmKernelTest, Batches) {
  for (Type type : {f32(), bf16()})
    for (bool packed : {false, true}) {
      GemmSpec spec = simple(9, 20, 12, type, packed);
      spec.batch = {2, 3};
      spec.a.batch = {9 * 12 * 3, 9 * 12};
      spec.b.batch = packed ? llvm::SmallVector<int64_t>{0, 1}
                            : llvm::SmallVector<int64_t>{0, 12 * 20}; // broadcast over the first
      spec.c.rowStride = 20 * 3;                                      // [batch0, m, batch1, n]
      spec.c.batch = {9 * 20 * 3, 20};
      add(spec);
    }
  checkAll();
}

TEST_P(GemmKernelTest, BlocksOfRowsAndOfK) {
  for (Type type : {f32(), bf16()})
    for (bool packed : {true, false}) {
      add(simple(131, 40, 64, type, packed));  // several row blocks
      add(simple(20, 70, 2561, type, packed)); // several k blocks, odd tail
      add(simple(3, 150, 2561, type, packed));
      add(simple(100, 33, 2048, type, packed)); // rows 8 KiB apart
      add(simple(1, 96, 300, type, packed));
    }
  GemmSpec weightGradient = simple(130, 66, 77, f32(), false); // A stored [k][m]
  weightGradient.a = {f32(), 1, 130, {}};
  add(weightGradient);
  checkAll();
}

/// What a row is does not depend on how many others there are, nor on where it stands: a product in
/// pieces has the bits of the whole (lib/Decompose).
TEST_P(GemmKernelTest, RowsOfPiecesHaveTheBitsOfTheWhole) {
  constexpr int64_t kRows = 64, kColumns = 40, kDepth = 72;
  const int64_t pieces[] = {8, 9, 15, 16, 29, 31};
  for (bool packed : {false, true}) {
    add(simple(kRows, kColumns, kDepth, f32(), packed));
    for (int64_t rows : pieces)
      add(simple(rows, kColumns, kDepth, f32(), packed));
  }
  KernelLibrary library = compile();
  Tensor a(f32(), kRows * kDepth), b(f32(), packedElements(kDepth, kColumns, 32, f32()));
  a.randomise(1);
  b.randomise(2);
  std::vector<double> whole;
  for (const Job &job : jobs) {
    int64_t rows = job.spec.m;
    Tensor c(f32(), rows * kColumns), own(f32(), rows * kDepth);
    for (int64_t i = 0; i < own.size(); ++i) // the last rows of the whole
      own.set(i, a.get((kRows - rows) * kDepth + i));
    run(library, job.kernel, {own.data(), b.data(), c.data()});
    if (rows == kRows)
      whole = c.values();
    std::vector<double> part(whole.end() - rows * kColumns, whole.end());
    EXPECT_EQ(c.values(), part) << rows << " rows, packed " << job.spec.packedB;
  }
}

/// Whole and partial matrix tiles of rows, columns and k, of every kind of operand.
TEST_P(GemmKernelTest, PairsInTiles) {
  for (int64_t m : {8, 16, 37, 64, 110})
    for (int64_t k : {32, 96, 1056})
      add(simple(m, m == 37 ? 70 : 16, k, bf16(), true));
  GemmSpec batches = simple(33, 48, 64, bf16(), true);
  batches.batch = {3};
  batches.a.batch = {33 * 64};
  batches.b.batch = {1};
  batches.c.batch = {33 * 48};
  add(batches);
  for (int64_t k : {64, 77, 600}) {
    GemmSpec spec = simple(130, 66, k, bf16(), false);
    spec.c.type = f32();
    add(spec);
    spec.a = {bf16(), 1, 130, {}}; // stored [k][m]
    add(spec);
    spec.b = {bf16(), 1, k, {}}; // stored [n][k]
    add(spec);
    spec.a = {bf16(), 2 * k, 2, {}};
    spec.b = {bf16(), 3 * 66, 3, {}};
    add(spec);
  }
  checkAll();
}

TEST_P(GemmKernelTest, MixedTypes) {
  const std::tuple<Type, Type, Type> types[] = {{f32(), bf16(), f32()},
                                                {bf16(), f32(), bf16()},
                                                {f16(), bf16(), f32()},
                                                {bf16(), bf16(), f32()},
                                                {f32(), f16(), f16()}};
  for (auto [a, b, c] : types)
    for (bool packed : {true, false})
      for (int64_t m : {2, 21})
        add(makeGemm("", m, 34, 19, a, b, c, packed));
  checkAll();
}

TEST_P(GemmKernelTest, WideTypesAndIntegers) {
  for (Type type :
       {Type(builder.getF64Type()), Type(builder.getI32Type()), Type(builder.getI64Type())})
    for (bool packed : {true, false})
      for (int64_t n : {5, 40})
        add(simple(19, n, 23, type, packed));
  for (bool packed : {true, false})
    add(makeGemm("", 6, 35, 50, builder.getI8Type(), builder.getI8Type(), builder.getI32Type(),
                 packed));
  checkAll();
}

TEST_P(GemmKernelTest, EpilogueBiasActivationResidual) {
  for (Type type : {f32(), bf16()})
    for (int64_t n : {32, 50}) {
      GemmSpec spec = simple(23, n, 40, type, true);
      spec.extra = {mlir::MemRefType::get({n}, f32()), mlir::MemRefType::get({23, n}, type)};
      Type wide = f32();
      spec.epilogue = [wide](mlir::OpBuilder &b, mlir::Location loc, Value acc,
                             const EpiloguePoint &point) -> Value {
        auto vector = mlir::VectorType::get(point.lanes, wide);
        Value bias = point.load(b, loc, point.extra[0], point.n);
        Value residual = point.load(b, loc, point.extra[1], {point.m, point.n});
        if (residual.getType() != vector)
          residual = mlir::arith::ExtFOp::create(b, loc, vector, residual);
        Value active =
            mlir::math::TanhOp::create(b, loc, mlir::arith::AddFOp::create(b, loc, acc, bias));
        return mlir::arith::AddFOp::create(b, loc, active, residual);
      };
      Job &job = add(spec);
      auto bias = std::make_shared<Tensor>(f32(), n),
           residual = std::make_shared<Tensor>(type, 23 * n);
      bias->randomise(3);
      residual->randomise(4);
      job.extra = {bias, residual};
      job.reference = [=](double sum, int64_t, int64_t m, int64_t column) {
        return std::tanh(sum + bias->get(column)) + residual->get(m * n + column);
      };
    }
  checkAll();
}

TEST_P(GemmKernelTest, BadSpecsAreErrors) {
  std::string message;
  mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &d) { message = d.str(); });
  GemmSpec spec = simple(0, 2, 3, f32(), true);
  EXPECT_TRUE(mlir::failed(buildGemm(builder, *module, spec, target)));
  EXPECT_NE(message.find("m=0, n=2, k=3"), std::string::npos) << message;
  spec.m = 1;
  spec.c.columnStride = 2;
  EXPECT_TRUE(mlir::failed(buildGemm(builder, *module, spec, target)));
  EXPECT_NE(message.find("stride 2"), std::string::npos) << message;
}

INSTANTIATE_LEVELS(GemmKernelTest);

} // namespace
