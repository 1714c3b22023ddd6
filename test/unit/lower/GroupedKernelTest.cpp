//===- GroupedKernelTest.cpp - Generated products by groups ---------------===//
//
// Compared with sums in double; the tolerance is that of a matrix multiplication.
//
//===----------------------------------------------------------------------===//
#include "shardc/Lower/GroupedKernel.h"
#include "KernelTesting.h"

using namespace shardc;
using namespace shardc::testing;
using mlir::Type;

namespace {

struct GroupedKernelTest : KernelFixture {
  struct Job {
    GroupedSpec spec;
    bool isGradient;
    Kernel kernel;
    std::function<int64_t(int64_t)> groupOf;
  };
  std::vector<Job> jobs;

  Type f32() { return builder.getF32Type(); }

  GroupedSpec simple(int64_t rows, int64_t groups, int64_t n, int64_t k, Type type) {
    GroupedSpec spec;
    spec.rows = rows;
    spec.groups = groups;
    spec.n = n;
    spec.k = k;
    spec.type = type;
    spec.groupType = builder.getI64Type();
    spec.groupStride = n * k;
    spec.nStride = k;
    return spec;
  }

  void add(GroupedSpec spec, bool isGradient, std::function<int64_t(int64_t)> groupOf) {
    spec.symbol = "grouped" + std::to_string(jobs.size());
    auto kernel = isGradient ? buildGroupedGrad(builder, *module, spec, target)
                             : buildGrouped(builder, *module, spec, target);
    ASSERT_TRUE(mlir::succeeded(kernel));
    jobs.push_back({spec, isGradient, *kernel, std::move(groupOf)});
  }
  void addBoth(const GroupedSpec &spec, const std::function<int64_t(int64_t)> &groupOf) {
    add(spec, false, groupOf);
    add(spec, true, groupOf);
  }

  void check(const KernelLibrary &library, const Job &job) {
    const GroupedSpec &s = job.spec;
    int64_t weights = s.groups * s.n * s.k;
    Tensor x(s.type, s.rows * s.k), other(s.type, job.isGradient ? s.rows * s.n : weights);
    Tensor groups(s.groupType, s.rows), result(s.type, job.isGradient ? weights : s.rows * s.n);
    x.randomise(1);
    other.randomise(2);
    result.fill(77);
    for (int64_t t = 0; t < s.rows; ++t)
      groups.set(t, job.groupOf(t));
    run(library, job.kernel, {x.data(), other.data(), groups.data(), result.data()});

    std::vector<double> sum(result.size()), size(result.size());
    std::vector<double> xs = x.values(), os = other.values();
    for (int64_t t = 0; t < s.rows; ++t) {
      int64_t g = job.groupOf(t);
      if (g < 0 || g >= s.groups)
        continue;
      for (int64_t n = 0; n < s.n; ++n)
        for (int64_t k = 0; k < s.k; ++k) {
          int64_t weight = (g * s.n + n) * s.k + k, out = t * s.n + n;
          int64_t strided = g * s.groupStride + n * s.nStride + k * s.kStride;
          double term = xs[t * s.k + k] * os[job.isGradient ? out : strided];
          sum[job.isGradient ? weight : out] += term;
          size[job.isGradient ? weight : out] += std::abs(term);
        }
    }
    double unit = std::ldexp(1.0, s.type.isF64() ? -53 : -24);
    int wrong = 0;
    for (int64_t i = 0; i < result.size() && wrong < 3; ++i) {
      double tolerance = size[i] * unit * 4 * std::sqrt(double(job.isGradient ? s.rows : s.k)) +
                         std::abs(sum[i]) * (roundoff(s.type) + 8 * unit) +
                         (s.type.isF16() ? std::ldexp(1.0, -25) : 0); // below its normal numbers
      if (std::abs(result.get(i) - sum[i]) <= tolerance)
        continue;
      ++wrong;
      ADD_FAILURE() << s.symbol << " rows=" << s.rows << " groups=" << s.groups << " n=" << s.n
                    << " k=" << s.k << " at " << i << ": " << result.get(i) << ", expected "
                    << sum[i] << " ± " << tolerance;
    }
  }

  void checkAll() {
    KernelLibrary library = compile();
    for (const Job &job : jobs)
      check(library, job);
  }
};

TEST_P(GroupedKernelTest, OddSizes) {
  const int64_t sizes[] = {1, 3, 7, 17, 33, 65};
  for (Type type :
       {f32(), Type(builder.getBF16Type()), Type(builder.getF16Type()), Type(builder.getF64Type())})
    for (int i = 0; i < 6; ++i)
      addBoth(simple(sizes[i], 3, sizes[(i * 5 + 3) % 6], sizes[(i + 2) % 6], type),
              [](int64_t t) { return t % 3; });
  checkAll();
}

TEST_P(GroupedKernelTest, RowsOfNoGroupAndGroupsWithoutRows) {
  GroupedSpec spec = simple(50, 4, 40, 24, f32());
  addBoth(spec, [](int64_t t) { return t % 5 == 0 ? -1 : t % 5 == 1 ? 4 : 2; });
  addBoth(spec, [](int64_t) { return -7; });
  spec.groupType = builder.getI8Type();
  addBoth(spec, [](int64_t t) { return t * 13 % 6 - 1; });
  checkAll();
}

TEST_P(GroupedKernelTest, ManyRows) {
  // More rows than a block of the product, and than a chunk of the gradient; several blocks and
  // groups of panels.
  addBoth(simple(1100, 2, 350, 290, f32()), [](int64_t t) { return t % 7 == 0; });
  checkAll();
}

TEST_P(GroupedKernelTest, TransposedWeight) {
  GroupedSpec spec = simple(30, 3, 20, 50, builder.getBF16Type());
  spec.nStride = 1;
  spec.kStride = 20;
  add(spec, false, [](int64_t t) { return t % 3; });
  checkAll();
}

TEST_P(GroupedKernelTest, BadSpecsAreErrors) {
  std::string message;
  mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &d) { message = d.str(); });
  GroupedSpec spec = simple(4, 2, 3, 5, builder.getI32Type());
  EXPECT_TRUE(mlir::failed(buildGrouped(builder, *module, spec, target)));
  EXPECT_NE(message.find("unsupported element type 'i32'"), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(Levels, GroupedKernelTest, ::testing::Values("x86-64-v3", "x86-64-v4"),
                         levelName);

} // namespace
