//===- GraphEvaluateMath.cpp - Reference evaluation: contractions, reductions, scans -===//
//
// Sums run in double (int64, wrapping), in row-major order of what is summed, and round once.
//
//===----------------------------------------------------------------------===//

#include "dialects/Graph/GraphDetail.h"
#include "dialects/Graph/HostMath.h"
#include "shardc/Support/StridedWalk.h"

#include <numeric>

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using graph::detail::Evaluated;

static Evaluated single(HostTensor &&tensor) {
  tensor.round();
  return SmallVector<HostTensor>{std::move(tensor)};
}

/// The elements of a tensor as T = double or int64_t.
template <typename T> static auto &elements(HostTensor &tensor) {
  if constexpr (std::is_same_v<T, double>)
    return tensor.f;
  else
    return tensor.i;
}
template <typename T> static const auto &elements(const HostTensor &tensor) {
  return elements<T>(const_cast<HostTensor &>(tensor));
}

//===----------------------------------------------------------------------===//
// Contraction
//===----------------------------------------------------------------------===//

namespace {

/// An einsum as C[b][m][n] = sum_k A[b][m][k] B[b][n][k]: its letters by role. A letter of one
/// operand only that the result lacks counts as k, with stride zero in the other operand.
struct Contraction {
  std::string batch, m, n, k;

  explicit Contraction(EinsumLetters letters) {
    for (char letter : letters.result) {
      bool inLhs = letters.lhs.contains(letter), inRhs = letters.rhs.contains(letter);
      (inLhs && inRhs ? batch : inLhs ? m : n) += letter;
    }
    for (char letter : letters.lhs.str() + letters.rhs.str())
      if (!letters.result.contains(letter) && k.find(letter) == std::string::npos)
        k += letter;
  }
};

} // namespace

/// Offsets into a row-major tensor with dimensions `letters` of all settings of the factors
/// `names`, last fastest.
template <typename Op>
static std::vector<int64_t> factorOffsets(Op op, StringRef names, StringRef letters,
                                          ArrayRef<int64_t> shape) {
  SmallVector<int64_t> sizes;
  StridedView view, none;
  SmallVector<int64_t> strides = rowMajorStrides(shape);
  for (char name : names) {
    size_t at = letters.find(name);
    sizes.push_back(op.getLetterSize(name));
    view.strides.push_back(at == StringRef::npos ? 0 : strides[at]);
  }
  none.strides.assign(names.size(), 0);
  std::vector<int64_t> offsets;
  walkStrided(sizes, view, none, [&](int64_t offset, int64_t) { offsets.push_back(offset); });
  return offsets;
}

/// A copy of an operand as [batch][rows][k], so that the inner product runs over neighbours.
template <typename T>
static std::vector<T> packOperand(const HostTensor &tensor, ArrayRef<int64_t> batch,
                                  ArrayRef<int64_t> rows, ArrayRef<int64_t> k) {
  std::vector<T> packed;
  packed.reserve(batch.size() * rows.size() * k.size());
  for (int64_t b : batch)
    for (int64_t r : rows)
      for (int64_t offset : k)
        packed.push_back(elements<T>(tensor)[b + r + offset]);
  return packed;
}

/// Inner products of one row with `count` (at most 4) consecutive rows: independent sums hide the
/// adder's latency.
template <typename T>
static void innerProducts(const T *a, const T *b, int64_t count, int64_t k, T *sums) {
  std::fill(sums, sums + 4, T(0));
  if (count == 4) {
    T s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (int64_t i = 0; i < k; ++i) {
      s0 = host::add(s0, host::mul(a[i], b[i]));
      s1 = host::add(s1, host::mul(a[i], b[k + i]));
      s2 = host::add(s2, host::mul(a[i], b[2 * k + i]));
      s3 = host::add(s3, host::mul(a[i], b[3 * k + i]));
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
    return;
  }
  for (int64_t j = 0; j < count; ++j)
    for (int64_t i = 0; i < k; ++i)
      sums[j] = host::add(sums[j], host::mul(a[i], b[j * k + i]));
}

template <typename T, typename Op>
static void contract(Op op, const HostTensor &lhs, const HostTensor &rhs, HostTensor &result) {
  EinsumLetters letters = op.getLetters();
  Contraction roles(letters);
  auto offsets = [&](StringRef names, StringRef of, const HostTensor &tensor) {
    return factorOffsets(op, names, of, tensor.shape());
  };
  auto batch = offsets(roles.batch, letters.result, result);
  auto m = offsets(roles.m, letters.result, result), n = offsets(roles.n, letters.result, result);
  std::vector<T> a =
      packOperand<T>(lhs, offsets(roles.batch, letters.lhs, lhs),
                     offsets(roles.m, letters.lhs, lhs), offsets(roles.k, letters.lhs, lhs));
  std::vector<T> b =
      packOperand<T>(rhs, offsets(roles.batch, letters.rhs, rhs),
                     offsets(roles.n, letters.rhs, rhs), offsets(roles.k, letters.rhs, rhs));
  int64_t rows = m.size(), columns = n.size(), k = offsets(roles.k, letters.lhs, lhs).size();
  T sums[4];
  for (int64_t bi = 0, batches = batch.size(); bi < batches; ++bi)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; j += 4) {
        int64_t count = std::min<int64_t>(4, columns - j);
        innerProducts(a.data() + (bi * rows + i) * k, b.data() + (bi * columns + j) * k, count, k,
                      sums);
        for (int64_t c = 0; c < count; ++c)
          elements<T>(result)[batch[bi] + m[i] + n[j + c]] = sums[c];
      }
}

Evaluated EinsumOp::evaluate(ArrayRef<HostTensor> operands) {
  HostTensor result(getType());
  if (result.isFloat())
    contract<double>(*this, operands[0], operands[1], result);
  else
    contract<int64_t>(*this, operands[0], operands[1], result);
  return single(std::move(result));
}

/// Is `group` an expert of row t's block?
static bool isInBlock(int64_t group, int64_t t, int64_t rows, int64_t experts, int64_t blocks) {
  return group >= 0 && group < experts && group / (experts / blocks) == t / (rows / blocks);
}

Evaluated ScaledEinsumOp::evaluate(ArrayRef<HostTensor> operands) {
  HostTensor result(getType());
  contract<double>(*this, operands[0], operands[1], result);
  // What the compiled program rounds before it rounds to the result's type.
  Type f32 = Float32Type::get(getContext());
  double unit = roundToType(operands[2].f[0] * operands[3].f[0], f32);
  for (double &x : result.f)
    x = roundToType(roundToType(x, f32) * unit, f32);
  return single(std::move(result));
}

Evaluated GroupedMatmulOp::evaluate(ArrayRef<HostTensor> operands) {
  const HostTensor &x = operands[0], &w = operands[1], &groups = operands[2];
  HostTensor result(getType());
  int64_t experts = w.shape()[0], columns = w.shape()[1], k = w.shape()[2];
  for (int64_t t = 0; t < x.shape()[0]; ++t) {
    int64_t group = groups.i[t];
    if (!isInBlock(group, t, x.shape()[0], experts, getBlocks()))
      continue;
    for (int64_t n = 0; n < columns; ++n) {
      const double *row = w.f.data() + (group * columns + n) * k;
      result.f[t * columns + n] = std::inner_product(row, row + k, x.f.data() + t * k, 0.0);
    }
  }
  return single(std::move(result));
}

Evaluated GroupedMatmulGradOp::evaluate(ArrayRef<HostTensor> operands) {
  const HostTensor &x = operands[0], &dy = operands[1], &groups = operands[2];
  HostTensor result(getType());
  int64_t experts = result.shape()[0], columns = result.shape()[1], k = result.shape()[2];
  for (int64_t t = 0; t < x.shape()[0]; ++t) {
    int64_t group = groups.i[t];
    if (!isInBlock(group, t, x.shape()[0], experts, getBlocks()))
      continue;
    for (int64_t n = 0; n < columns; ++n)
      for (int64_t i = 0; i < k; ++i)
        result.f[(group * columns + n) * k + i] += dy.f[t * columns + n] * x.f[t * k + i];
  }
  return single(std::move(result));
}

//===----------------------------------------------------------------------===//
// Convolution
//===----------------------------------------------------------------------===//

Evaluated ConvOp::evaluate(ArrayRef<HostTensor> operands) {
  const HostTensor &x = operands[0], &w = operands[1];
  HostTensor result(getType());
  int64_t spatial = x.rank() - 2, channels = w.shape()[1];
  int64_t outputsPerGroup = std::max<int64_t>(1, w.shape()[0] / static_cast<int64_t>(getGroup()));
  SmallVector<int64_t> strides = rowMajorStrides(x.shape());
  forEachIndex(result.shape(), [&](ArrayRef<int64_t> at, int64_t linear) {
    int64_t firstChannel = at[1] / outputsPerGroup * channels, filter = at[1] * channels;
    int64_t taps = w.size() / std::max<int64_t>(1, w.shape()[0] * channels);
    forEachIndex(w.shape().drop_front(2), [&](ArrayRef<int64_t> tap, int64_t tapLinear) {
      int64_t base = at[0] * strides[0] + firstChannel * strides[1];
      for (int64_t d = 0; d < spatial; ++d) {
        int64_t p = at[d + 2] * getStrides()[d] + tap[d] * getDilations()[d] - getPadLow()[d];
        if (p < 0 || p >= x.shape()[d + 2])
          return;
        base += p * strides[d + 2];
      }
      for (int64_t c = 0; c < channels; ++c)
        result.f[linear] += x.f[base + c * strides[1]] * w.f[(filter + c) * taps + tapLinear];
    });
  });
  return single(std::move(result));
}

//===----------------------------------------------------------------------===//
// Reductions
//===----------------------------------------------------------------------===//

template <typename T> static T reduceTwo(Reduction kind, T x, T y, bool isUnsigned) {
  switch (kind) {
  case Reduction::Sum:
    return host::add(x, y);
  case Reduction::Prod:
    return host::mul(x, y);
  case Reduction::Max:
    return host::max(x, y, isUnsigned);
  case Reduction::Min:
    return host::min(x, y, isUnsigned);
  case Reduction::And:
    return host::bitAnd(x, y);
  case Reduction::Or:
    return host::bitOr(x, y);
  }
  return x;
}

static double neutralFloat(Reduction kind) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  switch (kind) {
  case Reduction::Prod:
    return 1;
  case Reduction::Max:
    return -kInfinity;
  case Reduction::Min:
    return kInfinity;
  default:
    return 0;
  }
}

static int64_t neutralInt(Reduction kind, Type element) {
  unsigned width = element.getIntOrFloatBitWidth();
  bool isUnsigned = element.isUnsignedInteger() || width == 1;
  auto value = [&](const llvm::APInt &bits) {
    return isUnsigned ? host::s(bits.getZExtValue()) : bits.getSExtValue();
  };
  switch (kind) {
  case Reduction::Prod:
    return 1;
  case Reduction::Max:
    return isUnsigned ? 0 : value(llvm::APInt::getSignedMinValue(width));
  case Reduction::Min:
    return value(isUnsigned ? llvm::APInt::getMaxValue(width)
                            : llvm::APInt::getSignedMaxValue(width));
  case Reduction::And:
    return value(llvm::APInt::getAllOnes(width));
  default:
    return 0;
  }
}

Evaluated ReduceOp::evaluate(ArrayRef<HostTensor> operands) {
  const HostTensor &x = operands[0];
  HostTensor result(getType());
  std::fill(result.f.begin(), result.f.end(), neutralFloat(getKind()));
  if (!result.isFloat())
    std::fill(result.i.begin(), result.i.end(), neutralInt(getKind(), getType().getElementType()));

  StridedView view{0, SmallVector<int64_t>(x.rank(), 0)};
  SmallVector<int64_t> strides = rowMajorStrides(getType().getShape());
  for (int64_t d = 0, kept = 0; d < x.rank(); ++d)
    if (!llvm::is_contained(getDims(), d))
      view.strides[d] = strides[kept++];

  bool isUnsigned = graph::detail::isUnsignedElement(x.type);
  walkStrided(x.shape(), StridedView::whole(x.shape()), view, [&](int64_t from, int64_t to) {
    if (x.isFloat())
      result.f[to] = reduceTwo(getKind(), result.f[to], x.f[from], isUnsigned);
    else
      result.i[to] = reduceTwo(getKind(), result.i[to], x.i[from], isUnsigned);
  });
  return single(std::move(result));
}

//===----------------------------------------------------------------------===//
// Along one dimension
//===----------------------------------------------------------------------===//

namespace {

/// The rows of a tensor along one dimension: element i of row (o, n) is at (o * size + i) * inner +
/// n.
struct Rows {
  int64_t outer = 1, size = 1, inner = 1;

  Rows(ArrayRef<int64_t> shape, int64_t dim) : size(shape[dim]) {
    for (int64_t s : shape.take_front(dim))
      outer *= s;
    for (int64_t s : shape.drop_front(dim + 1))
      inner *= s;
  }
  /// Calls `fn(row number, position of the row's first element)`; neighbours in the row are `inner`
  /// apart.
  template <typename Fn> void forEach(Fn fn) const {
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t n = 0; n < inner; ++n)
        fn(o * inner + n, o * size * inner + n);
  }
};

} // namespace

/// Whether element a of x is greater than element b; NaN is greater than all numbers.
static bool isGreater(const HostTensor &x, int64_t a, int64_t b) {
  if (x.isFloat())
    return std::isnan(x.f[a]) ? !std::isnan(x.f[b]) : x.f[a] > x.f[b];
  return graph::detail::isUnsignedElement(x.type) ? host::u(x.i[a]) > host::u(x.i[b])
                                                  : x.i[a] > x.i[b];
}

Evaluated ArgReduceOp::evaluate(ArrayRef<HostTensor> operands) {
  const HostTensor &x = operands[0];
  HostTensor result(getType());
  Rows rows(x.shape(), getDim());
  auto isNan = [&](int64_t n) { return x.isFloat() && std::isnan(x.f[n]); };
  // NaN wins in both directions, as a NaN maximum or minimum would.
  auto isBetter = [&](int64_t a, int64_t b) {
    if (isNan(a) || isNan(b))
      return isNan(a) && !isNan(b);
    return getLargest() ? isGreater(x, a, b) : isGreater(x, b, a);
  };
  rows.forEach([&](int64_t row, int64_t start) {
    int64_t best = 0;
    for (int64_t i = 1; i < rows.size; ++i) {
      int64_t candidate = start + i * rows.inner, holder = start + best * rows.inner;
      if (isBetter(candidate, holder) || (getLast() && !isBetter(holder, candidate)))
        best = i;
    }
    result.i[row] = best;
  });
  return single(std::move(result));
}

Evaluated CumsumOp::evaluate(ArrayRef<HostTensor> operands) {
  const HostTensor &x = operands[0];
  HostTensor result(getType());
  Rows rows(x.shape(), getDim());
  rows.forEach([&](int64_t, int64_t start) {
    double floatSum = 0;
    int64_t intSum = 0;
    for (int64_t step = 0; step < rows.size; ++step) {
      int64_t n = start + (getReverse() ? rows.size - 1 - step : step) * rows.inner;
      if (x.isFloat()) {
        double before = floatSum;
        floatSum += x.f[n];
        result.f[n] = getExclusive() ? before : floatSum;
      } else {
        int64_t before = intSum;
        intSum = host::add(intSum, x.i[n]);
        result.i[n] = getExclusive() ? before : intSum;
      }
    }
  });
  return single(std::move(result));
}

Evaluated TopKOp::evaluate(ArrayRef<HostTensor> operands) {
  const HostTensor &x = operands[0];
  HostTensor values(getValues().getType()), indices(getIndices().getType());
  Rows from(x.shape(), getDim()), to(values.shape(), getDim());
  std::vector<int64_t> order(from.size);
  from.forEach([&](int64_t row, int64_t start) {
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      int64_t first = start + a * from.inner, second = start + b * from.inner;
      bool isBefore = isGreater(x, first, second), isAfter = isGreater(x, second, first);
      return isBefore == isAfter ? a < b : getLargest() ? isBefore : isAfter;
    });
    int64_t out = row / from.inner * to.size * to.inner + row % from.inner;
    for (int64_t i = 0; i < to.size; ++i) {
      values.copyElement(out + i * to.inner, x, start + order[i] * from.inner);
      indices.i[out + i * to.inner] = order[i];
    }
  });
  indices.round();
  return SmallVector<HostTensor>{std::move(values), std::move(indices)};
}
