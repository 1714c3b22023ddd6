//===- AttentionKernelTest.cpp - Generated attention ----------------------===//
//
// Compared with the textbook formula in double. Tolerance: scores are sums of dim products (error
// about sqrt(dim)·2^-24 each, which the exponential turns into a relative error), the weighted mean
// adds as much over the keys, the result is rounded once.
//
//===----------------------------------------------------------------------===//
#include "shardc/Lower/AttentionKernel.h"
#include "KernelTesting.h"
#include <limits>

using namespace shardc;
using namespace shardc::testing;
using mlir::Type;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct AttentionKernelTest : KernelFixture {
  struct Job {
    AttentionSpec spec;
    Kernel kernel;
    int64_t runtimeOffset = 0;
    std::vector<int64_t> lengths;
    std::function<double(int64_t)> maskValue; ///< of the element's index
  };
  std::vector<Job> jobs;

  Type f32() { return builder.getF32Type(); }
  Type bf16() { return builder.getBF16Type(); }
  Type f16() { return builder.getF16Type(); }

  /// [batch, sequence, head, dim], as a projection leaves it.
  AttentionSpec simple(int64_t batch, int64_t heads, int64_t keyHeads, int64_t queries,
                       int64_t keys, int64_t dim, Type type) {
    AttentionSpec s;
    s.batch = batch;
    s.queryHeads = heads;
    s.keyHeads = keyHeads;
    s.queries = queries;
    s.keys = keys;
    s.dim = s.valueDim = dim;
    s.q = s.out = {type, queries * heads * dim, dim, heads * dim, 1};
    s.k = s.v = {type, keys * keyHeads * dim, dim, keyHeads * dim, 1};
    s.scale = 1 / std::sqrt(double(dim));
    return s;
  }

  Job &add(AttentionSpec spec) {
    spec.symbol = "attention" + std::to_string(jobs.size());
    auto kernel = buildAttention(builder, *module, spec, target);
    EXPECT_TRUE(mlir::succeeded(kernel));
    jobs.push_back({spec, mlir::succeeded(kernel) ? *kernel : Kernel{}, 0, {}, nullptr});
    return jobs.back();
  }

  static int64_t at(const AttentionOperand &o, int64_t b, int64_t h, int64_t i, int64_t d) {
    return b * o.batch + h * o.head + i * o.row + d * o.column;
  }

  void check(const KernelLibrary &library, const Job &job) {
    const AttentionSpec &s = job.spec;
    auto count = [&](const AttentionOperand &o, int64_t heads, int64_t rows, int64_t columns) {
      return at(o, s.batch - 1, heads - 1, rows - 1, columns - 1) + 1;
    };
    Tensor q(s.q.type, count(s.q, s.queryHeads, s.queries, s.dim)),
        k(s.k.type, count(s.k, s.keyHeads, s.keys, s.dim));
    Tensor v(s.v.type, count(s.v, s.keyHeads, s.keys, s.valueDim)),
        out(s.out.type, count(s.out, s.queryHeads, s.queries, s.valueDim));
    q.randomise(1);
    k.randomise(2);
    v.randomise(3);
    out.fill(77);
    for (int64_t i = 0; i < q.size(); ++i) // scores with a spread
      q.set(i, 4 * q.get(i));
    std::vector<void *> buffers = {q.data(), k.data(), v.data()};
    std::optional<Tensor> mask, sinks, offset, lengths, lse;
    if (s.mask) {
      mask.emplace(s.mask->type, count(*s.mask, s.queryHeads, s.queries, s.keys));
      mask->randomise(4);
      for (int64_t i = 0; job.maskValue && i < mask->size(); ++i)
        mask->set(i, job.maskValue(i));
      buffers.push_back(mask->data());
    }
    if (s.sinks) {
      sinks.emplace(s.sinks, s.queryHeads);
      sinks->randomise(5);
      buffers.push_back(sinks->data());
    }
    if (s.runtimeOffset) {
      offset.emplace(builder.getI64Type(), 1);
      offset->set(0, job.runtimeOffset);
      buffers.push_back(offset->data());
    }
    if (s.keyLengths) {
      lengths.emplace(builder.getI64Type(), s.batch);
      for (int64_t b = 0; b < s.batch; ++b)
        lengths->set(b, job.lengths[b]);
      buffers.push_back(lengths->data());
    }
    buffers.push_back(out.data());
    if (s.logSumExp) {
      lse.emplace(f32(), s.batch * s.queryHeads * s.queries);
      buffers.push_back(lse->data());
    }
    run(library, job.kernel, buffers);

    double unit =
        std::ldexp(1.0, -24) * (4 * std::sqrt(double(s.dim)) * 4 + std::sqrt(double(s.keys)) + 16);
    if (s.softCap != 0)
      unit += s.softCap * std::ldexp(1.0, -21);
    int64_t wrong = 0;
    for (int64_t b = 0; b < s.batch; ++b)
      for (int64_t h = 0; h < s.queryHeads; ++h)
        for (int64_t i = 0; i < s.queries; ++i) {
          int64_t kh = h / (s.queryHeads / s.keyHeads), position = i + s.offset + job.runtimeOffset;
          int64_t keys = s.keyLengths ? job.lengths[b] : s.keys;
          std::vector<double> score(s.keys, -kInfinity);
          double maximum = s.sinks ? sinks->get(h) : -kInfinity;
          for (int64_t j = 0; j < keys; ++j) {
            if ((s.left && j < position - *s.left) || (s.right && j > position + *s.right))
              continue;
            double sum = 0;
            for (int64_t d = 0; d < s.dim; ++d)
              sum += q.get(at(s.q, b, h, i, d)) * k.get(at(s.k, b, kh, j, d));
            sum *= s.scale;
            if (s.softCap != 0)
              sum = s.softCap * std::tanh(sum / s.softCap);
            if (s.mask) {
              double value = mask->get(at(*s.mask, b, h, i, j));
              sum = llvm::isa<mlir::FloatType>(s.mask->type) ? sum + value
                    : value != 0                             ? sum
                                                             : -kInfinity;
            }
            score[j] = sum;
            maximum = std::max(maximum, sum);
          }
          double denominator = s.sinks ? std::exp(sinks->get(h) - maximum) : 0;
          for (double x : score)
            denominator += maximum == -kInfinity ? 0 : std::exp(x - maximum);
          for (int64_t d = 0; d < s.valueDim; ++d) {
            double expected = 0;
            for (int64_t j = 0; j < s.keys; ++j)
              if (score[j] != -kInfinity)
                expected +=
                    std::exp(score[j] - maximum) / denominator * v.get(at(s.v, b, kh, j, d));
            double got = out.get(at(s.out, b, h, i, d)),
                   tolerance = unit + std::abs(expected) * roundoff(s.out.type);
            if (!(std::abs(got - expected) <= tolerance) && ++wrong <= 3)
              ADD_FAILURE() << s.symbol << " queries=" << s.queries << " keys=" << s.keys
                            << " dim=" << s.dim << " at (" << b << ", " << h << ", " << i << ", "
                            << d << "): " << got << ", expected " << expected << " ± " << tolerance;
          }
          if (s.logSumExp) {
            double got = lse->get((b * s.queryHeads + h) * s.queries + i);
            double expected = denominator == 0 ? -kInfinity : maximum + std::log(denominator);
            if (!(got == expected || std::abs(got - expected) <= unit * (1 + std::abs(expected))) &&
                ++wrong <= 3)
              ADD_FAILURE() << s.symbol << " log-sum-exp at (" << b << ", " << h << ", " << i
                            << "): " << got << ", expected " << expected;
          }
        }
  }

  void checkAll() {
    KernelLibrary library = compile();
    for (const Job &job : jobs)
      check(library, job);
  }
};

TEST_P(AttentionKernelTest, OddSizes) {
  const int64_t sizes[] = {1, 3, 7, 17, 33, 65};
  for (Type type : {f32(), bf16(), f16()})
    for (int i = 0; i < 6; ++i)
      add(simple(1, 2, 2, sizes[i], sizes[(i * 5 + 3) % 6], sizes[(i + 2) % 6], type));
  checkAll();
}

TEST_P(AttentionKernelTest, CausalWindowsAndOffsets) {
  for (int64_t queries : {65, 200}) {
    AttentionSpec s = simple(1, 2, 1, queries, 200, 16, f32());
    s.logSumExp = true;
    s.right = 0;
    add(s); // aligned to the start
    s.offset = 200 - queries;
    add(s); // to the end
    s.left = 69;
    add(s); // sliding window of 70
    s.right = 20;
    add(s); // window to both sides
    s.right = std::nullopt;
    add(s);
    s.right = 0;
    s.offset = -30; // the first queries see nothing
    add(s);
    s.runtimeOffset = true;
    add(s).runtimeOffset = 77;
  }
  checkAll();
}

TEST_P(AttentionKernelTest, GroupedHeads) {
  for (Type type : {f32(), bf16()})
    for (int64_t queries : {1, 5, 50}) { // merged into one tile of rows, and not
      AttentionSpec s = simple(2, 6, 2, queries, 90, 24, type);
      s.right = 0;
      s.offset = 90 - queries;
      s.logSumExp = true;
      add(s);
    }
  checkAll();
}

TEST_P(AttentionKernelTest, Masks) {
  AttentionSpec s = simple(2, 3, 3, 9, 75, 8, f32());
  s.logSumExp = true;
  s.mask = {f32(), 3 * 9 * 75, 9 * 75, 75, 1};
  add(s).maskValue = [](int64_t i) { return i % 5 == 0 ? -kInfinity : i % 7 * 0.25; };
  s.mask = {f32(), 9 * 75, 0, 75, 1}; // over heads
  add(s).maskValue = [](int64_t i) { return i / 75 == 3 ? -kInfinity : 0.0; };
  s.mask = {f32(), 75, 0, 0, 1}; // key padding
  add(s).maskValue = [](int64_t i) { return i % 75 > 60 ? -3.0e38 : 0.0; };
  s.mask = {bf16(), 0, 0, 1, 9}; // transposed
  add(s);
  s.mask = {f32(), 0, 9, 1, 0}; // one value per row
  add(s);
  s.mask = {builder.getI8Type(), 75, 0, 0, 1};
  add(s).maskValue = [](int64_t i) { return i % 3 ? 1 : 0; };
  s.mask = {builder.getI8Type(), 9 * 75, 0, 75, 1};
  add(s).maskValue = [](int64_t i) { return i / 75 == 2 ? 0 : 1; }; // a row that sees nothing
  checkAll();
}

TEST_P(AttentionKernelTest, SinksSoftCapAndLengths) {
  AttentionSpec s = simple(2, 4, 2, 20, 70, 16, f32());
  s.logSumExp = true;
  s.sinks = f32();
  add(s);
  s.sinks = bf16();
  s.right = 0;
  s.offset = -5; // with a sink, a row that sees nothing is zero too
  add(s);
  s.sinks = Type();
  s.softCap = 5;
  add(s);
  s.keyLengths = true;
  add(s).lengths = {0, 41};
  checkAll();
}

TEST_P(AttentionKernelTest, Layouts) {
  AttentionSpec s = simple(2, 2, 2, 30, 40, 20, f32());
  s.valueDim = 36;
  s.q = {f32(), 2 * 30 * 20, 30 * 20, 20, 1}; // [b, h, s, d]
  s.k = {f32(), 2 * 20 * 40, 20 * 40, 1, 40}; // [b, h, d, s]
  s.v = {bf16(), 2 * 40 * 36, 40 * 36, 36, 1};
  s.out = {bf16(), 30 * 2 * 36, 36, 2 * 36, 1};
  add(s);
  s.v = {f32(), 2 * 36 * 40, 36 * 40, 1, 40}; // [b, h, d, s]
  s.q = {f16(), 2 * 30 * 20, 30 * 20, 1, 30};
  add(s);
  // Contiguous keys, fewer than half of a key block: its second panel has none.
  s = simple(1, 2, 2, 7, 7, 20, f32());
  s.k = {f32(), 2 * 20 * 7, 20 * 7, 1, 7};
  add(s);
  checkAll();
}

TEST_P(AttentionKernelTest, BadSpecsAreErrors) {
  std::string message;
  mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &d) { message = d.str(); });
  AttentionSpec s = simple(1, 3, 2, 4, 4, 4, f32());
  EXPECT_TRUE(mlir::failed(buildAttention(builder, *module, s, target)));
  EXPECT_NE(message.find("3 query heads are not a multiple of 2 key heads"), std::string::npos)
      << message;
}

// The level with dot products differs in conversions only, which the matrix multiplications test.
INSTANTIATE_TEST_SUITE_P(Levels, AttentionKernelTest, ::testing::Values("x86-64-v3", "x86-64-v4"),
                         levelName);

} // namespace
