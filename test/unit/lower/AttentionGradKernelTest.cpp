//===- AttentionGradKernelTest.cpp - Generated gradients of attention -----===//
//
// Compared with the textbook formulas in double. Tolerance: a weight has the relative error of the
// forward pass, and each gradient is a sum of weights times numbers of size one, over keys or over
// queries; the result is rounded once.
//
//===----------------------------------------------------------------------===//
#include "KernelTesting.h"
#include "shardc/Lower/AttentionKernel.h"
#include <deque>
#include <limits>

using namespace shardc;
using namespace shardc::testing;
using mlir::Type;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

int64_t at(const AttentionOperand &o, int64_t b, int64_t h, int64_t i, int64_t d) {
  return b * o.batch + h * o.head + i * o.row + d * o.column;
}

struct AttentionGradKernelTest : KernelFixture {
  struct Job {
    AttentionGradSpec spec;
    Kernel kernel;
    std::function<double(int64_t)> maskValue; ///< of the element's index
  };
  std::vector<Job> jobs;

  Type f32() { return builder.getF32Type(); }
  Type bf16() { return builder.getBF16Type(); }
  Type f16() { return builder.getF16Type(); }

  /// [batch, sequence, head, dim], as a projection leaves it.
  AttentionGradSpec simple(int64_t batch, int64_t heads, int64_t keyHeads, int64_t queries,
                           int64_t keys, int64_t dim, Type type) {
    AttentionGradSpec spec;
    AttentionSpec &s = spec.attention;
    s.batch = batch;
    s.queryHeads = heads;
    s.keyHeads = keyHeads;
    s.queries = queries;
    s.keys = keys;
    s.dim = s.valueDim = dim;
    s.q = s.out = spec.dq = {type, queries * heads * dim, dim, heads * dim, 1};
    s.k = s.v = spec.dk = spec.dv = {type, keys * keyHeads * dim, dim, keyHeads * dim, 1};
    s.scale = 1 / std::sqrt(double(dim));
    return spec;
  }

  Job &add(AttentionGradSpec spec) {
    spec.attention.symbol = "gradient" + std::to_string(jobs.size());
    auto kernel = buildAttentionGrad(builder, *module, spec, target);
    EXPECT_TRUE(mlir::succeeded(kernel));
    jobs.push_back({spec, mlir::succeeded(kernel) ? *kernel : Kernel{}, nullptr});
    return jobs.back();
  }

  struct Operands {
    std::deque<Tensor> tensors;
    std::vector<void *> buffers;
    Tensor &add(Type type, int64_t count, unsigned seed) {
      tensors.emplace_back(type, count);
      tensors.back().randomise(seed);
      buffers.push_back(tensors.back().data());
      return tensors.back();
    }
  };

  void check(const KernelLibrary &library, const Job &job) {
    const AttentionSpec &s = job.spec.attention;
    auto count = [&](const AttentionOperand &o, int64_t heads, int64_t rows, int64_t columns) {
      return at(o, s.batch - 1, heads - 1, rows - 1, columns - 1) + 1;
    };
    Operands o;
    Tensor &q = o.add(s.q.type, count(s.q, s.queryHeads, s.queries, s.dim), 1);
    Tensor &k = o.add(s.k.type, count(s.k, s.keyHeads, s.keys, s.dim), 2);
    Tensor &v = o.add(s.v.type, count(s.v, s.keyHeads, s.keys, s.valueDim), 3);
    for (int64_t i = 0; i < q.size(); ++i) // scores with a spread
      q.set(i, 4 * q.get(i));
    Tensor *mask = nullptr, *sinks = nullptr, *dsinks = nullptr;
    if (s.mask) {
      mask = &o.add(s.mask->type, count(*s.mask, s.queryHeads, s.queries, s.keys), 4);
      for (int64_t i = 0; job.maskValue && i < mask->size(); ++i)
        mask->set(i, job.maskValue(i));
    }
    if (s.sinks)
      sinks = &o.add(s.sinks, s.queryHeads, 5);
    Tensor &g = o.add(s.out.type, count(s.out, s.queryHeads, s.queries, s.valueDim), 6);
    Tensor &dq = o.add(s.q.type, count(job.spec.dq, s.queryHeads, s.queries, s.dim), 7);
    Tensor &dk = o.add(s.k.type, count(job.spec.dk, s.keyHeads, s.keys, s.dim), 8);
    Tensor &dv = o.add(s.v.type, count(job.spec.dv, s.keyHeads, s.keys, s.valueDim), 9);
    if (s.sinks)
      dsinks = &o.add(s.sinks, s.queryHeads, 10);
    run(library, job.kernel, o.buffers);

    const std::vector<double> qs = q.values(), ks = k.values(), vs = v.values(), gs = g.values();
    // In double: gradients and, for tolerances, sums of sizes of what was added.
    struct Sums {
      std::vector<double> value, size;
      explicit Sums(int64_t n) : value(n), size(n) {}
      void add(int64_t i, double x) {
        value[i] += x;
        size[i] += std::abs(x);
      }
    };
    Sums edq(dq.size()), edk(dk.size()), edv(dv.size()), edsinks(s.queryHeads);
    for (int64_t b = 0; b < s.batch; ++b)
      for (int64_t h = 0; h < s.queryHeads; ++h)
        for (int64_t i = 0; i < s.queries; ++i) {
          int64_t kh = h / (s.queryHeads / s.keyHeads), position = i + s.offset;
          std::vector<double> score(s.keys, -kInfinity), slope(s.keys, 1), dp(s.keys);
          double maximum = sinks ? sinks->get(h) : -kInfinity, denominator = 0, mean = 0;
          for (int64_t j = 0; j < s.keys; ++j) {
            if ((s.left && j < position - *s.left) || (s.right && j > position + *s.right))
              continue;
            double sum = 0;
            for (int64_t d = 0; d < s.dim; ++d)
              sum += qs[at(s.q, b, h, i, d)] * ks[at(s.k, b, kh, j, d)];
            sum *= s.scale;
            if (s.softCap != 0) {
              double t = std::tanh(sum / s.softCap);
              sum = s.softCap * t;
              slope[j] = 1 - t * t;
            }
            if (mask) {
              double value = mask->get(at(*s.mask, b, h, i, j));
              sum = llvm::isa<mlir::FloatType>(s.mask->type) ? sum + value
                    : value != 0                             ? sum
                                                             : -kInfinity;
            }
            score[j] = sum;
            maximum = std::max(maximum, sum);
            for (int64_t d = 0; d < s.valueDim; ++d)
              dp[j] += gs[at(s.out, b, h, i, d)] * vs[at(s.v, b, kh, j, d)];
          }
          if (maximum == -kInfinity)
            continue;
          for (double &x : score)
            denominator += x = std::exp(x - maximum);
          double sink = sinks ? std::exp(sinks->get(h) - maximum) : 0;
          denominator += sink;
          for (int64_t j = 0; j < s.keys; ++j)
            mean += (score[j] /= denominator) * dp[j];
          edsinks.add(h, -sink / denominator * mean);
          for (int64_t j = 0; j < s.keys; ++j) {
            if (score[j] == 0)
              continue;
            double ds = score[j] * (dp[j] - mean) * slope[j] * s.scale;
            for (int64_t d = 0; d < s.dim; ++d) {
              edq.add(at(job.spec.dq, b, h, i, d), ds * ks[at(s.k, b, kh, j, d)]);
              edk.add(at(job.spec.dk, b, kh, j, d), ds * qs[at(s.q, b, h, i, d)]);
            }
            for (int64_t d = 0; d < s.valueDim; ++d)
              edv.add(at(job.spec.dv, b, kh, j, d), score[j] * gs[at(s.out, b, h, i, d)]);
          }
        }

    double unit =
        std::ldexp(1.0, -24) * (8 * std::sqrt(double(s.dim)) * 4 + std::sqrt(double(s.keys)) + 32);
    if (s.softCap != 0)
      unit += s.softCap * std::ldexp(1.0, -20);
    auto compare = [&](const char *name, const Tensor &got, const Sums &expected) {
      int wrong = 0;
      for (int64_t i = 0; i < got.size() && wrong < 3; ++i) {
        double tolerance =
            unit * (expected.size[i] + 1) + std::abs(expected.value[i]) * roundoff(got.getType());
        if (std::abs(got.get(i) - expected.value[i]) <= tolerance)
          continue;
        ++wrong;
        ADD_FAILURE() << s.symbol << " queries=" << s.queries << " keys=" << s.keys
                      << " dim=" << s.dim << " " << name << "[" << i << "]: " << got.get(i)
                      << ", expected " << expected.value[i] << " ± " << tolerance;
      }
    };
    compare("dq", dq, edq);
    compare("dk", dk, edk);
    compare("dv", dv, edv);
    if (dsinks)
      compare("dsinks", *dsinks, edsinks);
    expectSameBits(library, job, o, s.sinks ? 4 : 3);
  }

  /// All tiles in turn give what two ranges of tiles gave.
  void expectSameBits(const KernelLibrary &library, const Job &job, Operands &o, size_t results) {
    std::vector<std::vector<double>> before;
    for (size_t i = o.tensors.size() - results; i < o.tensors.size(); ++i) {
      before.push_back(o.tensors[i].values());
      o.tensors[i].fill(77);
    }
    GuardedBuffer scratch((job.kernel.scratchBytes + 63) / 64 * 64);
    std::memset(scratch.data(), 0xff, job.kernel.scratchBytes);
    library.find(job.kernel.symbol)(o.buffers.data(), 0, job.kernel.tiles, scratch.data());
    for (size_t i = 0; i < results; ++i)
      EXPECT_EQ(before[i], o.tensors[o.tensors.size() - results + i].values()) << i;
  }

  void checkAll() {
    KernelLibrary library = compile();
    for (const Job &job : jobs)
      check(library, job);
  }
};

TEST_P(AttentionGradKernelTest, OddSizes) {
  const int64_t sizes[] = {1, 3, 7, 17, 33, 65};
  for (Type type : {f32(), bf16(), f16()})
    for (int i = 0; i < 6; ++i)
      add(simple(1, 2, 2, sizes[i], sizes[(i * 5 + 3) % 6], sizes[(i + 2) % 6], type));
  checkAll();
}

TEST_P(AttentionGradKernelTest, CausalWindowsAndOffsets) {
  for (int64_t queries : {65, 200}) {
    AttentionGradSpec spec = simple(1, 2, 1, queries, 200, 16, f32());
    AttentionSpec &s = spec.attention;
    add(spec); // all
    s.right = 0;
    add(spec); // aligned to the start
    s.offset = 200 - queries;
    add(spec); // to the end
    s.left = 69;
    add(spec); // sliding window of 70
    s.right = 20;
    add(spec); // window to both sides
    s.right = std::nullopt;
    add(spec);
    s.right = 0;
    s.offset = -30; // the first queries see nothing
    add(spec);
    s.left = 3; // and most keys are seen by nobody
    s.offset = 180;
    add(spec);
  }
  checkAll();
}

TEST_P(AttentionGradKernelTest, GroupedHeads) {
  for (Type type : {f32(), bf16()})
    for (int64_t queries : {1, 5, 100}) {
      AttentionGradSpec spec = simple(2, 6, 2, queries, 90, 24, type);
      spec.attention.right = 0;
      spec.attention.offset = 90 - queries;
      add(spec);
    }
  checkAll();
}

TEST_P(AttentionGradKernelTest, Masks) {
  AttentionGradSpec spec = simple(2, 3, 3, 9, 75, 8, f32());
  std::optional<AttentionOperand> &mask = spec.attention.mask;
  mask = {f32(), 3 * 9 * 75, 9 * 75, 75, 1};
  add(spec).maskValue = [](int64_t i) { return i % 5 == 0 ? -kInfinity : i % 7 * 0.25; };
  mask = {f32(), 9 * 75, 0, 75, 1}; // over heads
  add(spec).maskValue = [](int64_t i) { return i / 75 == 3 ? -kInfinity : 0.0; };
  mask = {bf16(), 0, 0, 1, 9}; // transposed
  add(spec);
  mask = {f32(), 0, 9, 1, 0}; // one value per row
  add(spec);
  mask = {builder.getI8Type(), 9 * 75, 0, 75, 1};
  add(spec).maskValue = [](int64_t i) { return i / 75 == 2 ? 0 : 1; }; // a row that sees nothing
  checkAll();
}

TEST_P(AttentionGradKernelTest, SinksAndSoftCap) {
  AttentionGradSpec spec = simple(2, 4, 2, 90, 70, 16, f32());
  AttentionSpec &s = spec.attention;
  s.sinks = f32();
  add(spec);
  s.sinks = bf16();
  s.right = 0;
  s.offset = -5; // with a sink, a row that sees nothing is zero too
  add(spec);
  s.softCap = 5;
  add(spec);
  s.sinks = Type();
  add(spec);
  checkAll();
}

TEST_P(AttentionGradKernelTest, Layouts) {
  AttentionGradSpec spec = simple(2, 2, 2, 30, 40, 20, f32());
  AttentionSpec &s = spec.attention;
  s.valueDim = 36;
  s.q = {f32(), 2 * 30 * 20, 30 * 20, 20, 1}; // [b, h, s, d]
  s.k = {f32(), 2 * 20 * 40, 20 * 40, 1, 40}; // [b, h, d, s]
  s.v = spec.dv = {bf16(), 2 * 40 * 36, 40 * 36, 36, 1};
  s.out = {bf16(), 30 * 2 * 36, 36, 2 * 36, 1};
  add(spec);
  s.v = {f32(), 2 * 36 * 40, 36 * 40, 1, 40}; // [b, h, d, s]
  spec.dv.type = f32();
  s.q = {f16(), 2 * 30 * 20, 30 * 20, 1, 30};
  spec.dq.type = f16();
  s.out = {f32(), 30 * 2 * 36, 36, 1, 30};
  add(spec);
  checkAll();
}

TEST_P(AttentionGradKernelTest, LongKeys) {
  // Rows of scores of so many keys are halved to stay in cache.
  AttentionGradSpec spec = simple(1, 1, 1, 50, 13000, 4, f32());
  spec.attention.right = 0;
  spec.attention.offset = 12950;
  add(spec);
  checkAll();
}

TEST_P(AttentionGradKernelTest, BadSpecsAreErrors) {
  std::string message;
  mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &d) { message = d.str(); });
  AttentionGradSpec spec = simple(1, 2, 2, 4, 4, 4, f32());
  spec.dk.column = 2;
  EXPECT_TRUE(mlir::failed(buildAttentionGrad(builder, *module, spec, target)));
  EXPECT_NE(message.find("a gradient's columns have stride 2, must be contiguous"),
            std::string::npos)
      << message;
}

INSTANTIATE_TEST_SUITE_P(Levels, AttentionGradKernelTest,
                         ::testing::Values("x86-64-v3", "x86-64-v4"), levelName);

} // namespace
