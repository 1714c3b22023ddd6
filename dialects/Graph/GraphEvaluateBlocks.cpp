//===- GraphEvaluateBlocks.cpp - Reference evaluation: normalisation, rope, attention, loss -===//
//
// Straight from the formulas of GraphMath.td, in double.
//
//===----------------------------------------------------------------------===//

#include "dialects/Graph/GraphDetail.h"

#include <cmath>
#include <numeric>

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using graph::detail::Evaluated;

static constexpr double kInfinity = std::numeric_limits<double>::infinity();

static Evaluated single(HostTensor &&tensor) {
  tensor.round();
  return SmallVector<HostTensor>{std::move(tensor)};
}

/// Maximum in which NaN wins.
static double maximum(double x, double y) { return std::isnan(x) || x > y ? x : y; }

//===----------------------------------------------------------------------===//
// Normalisation
//===----------------------------------------------------------------------===//

Evaluated SoftmaxOp::evaluate(ArrayRef<HostTensor> operands) {
  const HostTensor &x = operands[0];
  HostTensor result(getType());
  int64_t size = x.shape()[getDim()], stride = rowMajorStrides(x.shape())[getDim()];
  for (int64_t n = 0; n < x.size(); ++n) {
    if (n / stride % size) // only where a row begins
      continue;
    double highest = -kInfinity, sum = 0;
    for (int64_t i = 0; i < size; ++i)
      highest = maximum(x.f[n + i * stride], highest);
    for (int64_t i = 0; i < size; ++i)
      sum += result.f[n + i * stride] = std::exp(x.f[n + i * stride] - highest);
    for (int64_t i = 0; i < size; ++i)
      result.f[n + i * stride] /= sum;
  }
  return single(std::move(result));
}

/// Calls `fn(start, size)` for each run of elements that is normalised together.
template <typename Fn> static void forEachNormRow(const HostTensor &x, int64_t normDims, Fn fn) {
  int64_t size = 1;
  for (int64_t s : x.shape().take_back(normDims))
    size *= s;
  for (int64_t start = 0; start < x.size(); start += size)
    fn(start, size);
}

Evaluated RmsNormOp::evaluate(ArrayRef<HostTensor> operands) {
  const HostTensor &x = operands[0];
  HostTensor result(getType());
  double epsilon = getEpsilon().convertToDouble();
  forEachNormRow(x, getNormDims(), [&](int64_t start, int64_t size) {
    double squares = 0;
    for (int64_t n = start; n < start + size; ++n)
      squares += x.f[n] * x.f[n];
    double scale = 1 / std::sqrt(squares / size + epsilon);
    for (int64_t i = 0; i < size; ++i)
      result.f[start + i] = x.f[start + i] * scale * (getWeight() ? operands[1].f[i] : 1);
  });
  return single(std::move(result));
}

Evaluated LayerNormOp::evaluate(ArrayRef<HostTensor> operands) {
  const HostTensor &x = operands[0];
  HostTensor result(getType());
  const HostTensor *weight = getWeight() ? &operands[1] : nullptr,
                   *bias = getBias() ? &operands.back() : nullptr;
  double epsilon = getEpsilon().convertToDouble();
  forEachNormRow(x, getNormDims(), [&](int64_t start, int64_t size) {
    double mean = std::accumulate(x.f.begin() + start, x.f.begin() + start + size, 0.0) / size,
           squares = 0;
    for (int64_t n = start; n < start + size; ++n)
      squares += (x.f[n] - mean) * (x.f[n] - mean);
    double scale = 1 / std::sqrt(squares / size + epsilon);
    for (int64_t i = 0; i < size; ++i)
      result.f[start + i] =
          (x.f[start + i] - mean) * scale * (weight ? weight->f[i] : 1) + (bias ? bias->f[i] : 0);
  });
  return single(std::move(result));
}

//===----------------------------------------------------------------------===//
// Rotary embedding
//===----------------------------------------------------------------------===//

Evaluated RopeOp::evaluate(ArrayRef<HostTensor> operands) {
  const HostTensor &x = operands[0], &cos = operands[1], &sin = operands[2];
  HostTensor result = x;
  int64_t heads = x.shape()[1], positions = x.shape()[2], dim = x.shape()[3],
          pairs = cos.shape()[2];
  for (int64_t row = 0; row < x.shape()[0] * heads * positions; ++row) {
    int64_t batch = cos.shape()[0] == 1 ? 0 : row / (heads * positions);
    int64_t table = (batch * positions + row % positions) * pairs;
    for (int64_t p = 0; p < pairs; ++p) {
      int64_t first = row * dim + (getInterleaved() ? 2 * p : p);
      int64_t second = getInterleaved() ? first + 1 : first + pairs;
      double c = cos.f[table + p], s = sin.f[table + p];
      result.f[first] = x.f[first] * c - x.f[second] * s;
      result.f[second] = x.f[second] * c + x.f[first] * s;
    }
  }
  return single(std::move(result));
}

//===----------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------===//

namespace {

/// One attention op's operands, sizes and attributes, and the steps for one query row.
struct AttentionRows {
  const HostTensor &query, &key, &value;
  const HostTensor *mask, *sinks;
  int64_t heads, kvHeads, queries, keys, dim, valueDim;
  bool causal;
  int64_t causalOffset, window;
  double scale, softcap;

  /// Of attention or its gradient.
  template <typename Op>
  AttentionRows(Op op, ArrayRef<HostTensor> operands)
      : query(operands[0]), key(operands[1]), value(operands[2]),
        mask(op.getMask() ? &operands[3] : nullptr),
        sinks(op.getSinks() ? &operands[op.getMask() ? 4 : 3] : nullptr), heads(query.shape()[1]),
        kvHeads(key.shape()[1]), queries(query.shape()[2]), keys(key.shape()[2]),
        dim(query.shape()[3]), valueDim(value.shape()[3]), causal(op.getCausal()),
        causalOffset(op.getCausalOffset()), window(op.getWindow()),
        scale(op.getScale().convertToDouble()), softcap(op.getSoftcap().convertToDouble()) {}

  /// First row of this head's keys and values.
  int64_t firstKey(int64_t b, int64_t h) const {
    return (b * kvHeads + h / (heads / kvHeads)) * keys;
  }

  /// What the mask adds to the score of (query i, key j): -inf where it hides the key.
  double maskValue(int64_t b, int64_t h, int64_t i, int64_t j) const {
    int64_t last = i + causalOffset;
    if (causal && (j > last || (window > 0 && j <= last - window)))
      return -kInfinity;
    if (!mask)
      return 0;
    int64_t index[] = {b, h, i, j}, at = 0;
    for (int64_t d = 0; d < 4; ++d)
      at = at * mask->shape()[d] + (mask->shape()[d] == 1 ? 0 : index[d]);
    if (mask->isFloat())
      return mask->f[at];
    return mask->i[at] ? 0 : -kInfinity;
  }

  const double *queryRow(int64_t b, int64_t h, int64_t i) const {
    return query.f.data() + ((b * heads + h) * queries + i) * dim;
  }
  const double *keyRow(int64_t b, int64_t h, int64_t j) const {
    return key.f.data() + (firstKey(b, h) + j) * dim;
  }
  const double *valueRow(int64_t b, int64_t h, int64_t j) const {
    return value.f.data() + (firstKey(b, h) + j) * valueDim;
  }

  /// Before soft cap and mask.
  double rawScore(int64_t b, int64_t h, int64_t i, int64_t j) const {
    const double *q = queryRow(b, h, i);
    return std::inner_product(q, q + dim, keyRow(b, h, j), 0.0) * scale;
  }

  double score(int64_t b, int64_t h, int64_t i, int64_t j) const {
    double hidden = maskValue(b, h, i, j);
    if (hidden == -kInfinity)
      return hidden;
    double s = rawScore(b, h, i, j);
    return (softcap != 0 ? softcap * std::tanh(s / softcap) : s) + hidden;
  }

  /// softmax(scores) as `weights`: all zero when no key is visible. Returns the sink's share.
  double softmax(int64_t b, int64_t h, int64_t i, MutableArrayRef<double> weights) const {
    double highest = -kInfinity, sum = 0, sink = 0;
    for (int64_t j = 0; j < keys; ++j)
      highest = maximum(weights[j] = score(b, h, i, j), highest);
    if (highest == -kInfinity) {
      std::fill(weights.begin(), weights.end(), 0.0);
      return 0;
    }
    if (sinks) {
      highest = maximum(sinks->f[h], highest);
      sum = sink = std::exp(sinks->f[h] - highest);
    }
    for (double &weight : weights)
      sum += weight = std::exp(weight - highest);
    for (double &weight : weights)
      weight /= sum;
    return sink / sum;
  }

  /// softmax(scores) v, added to `out`.
  void run(int64_t b, int64_t h, int64_t i, MutableArrayRef<double> weights, double *out) const {
    softmax(b, h, i, weights);
    for (int64_t j = 0; j < keys; ++j) {
      if (weights[j] == 0)
        continue;
      const double *v = valueRow(b, h, j);
      for (int64_t d = 0; d < valueDim; ++d)
        out[d] += weights[j] * v[d];
    }
  }

  /// Adds the gradients of one row, whose cotangent is `g`, to those of query, key, value and, if
  /// given, sinks.
  void runGrad(int64_t b, int64_t h, int64_t i, const double *g, MutableArrayRef<double> weights,
               MutableArrayRef<HostTensor> gradients) const {
    double sink = softmax(b, h, i, weights), mean = 0; // of dP, weighted by P
    auto weightGrad = [&](int64_t j) {
      return std::inner_product(g, g + valueDim, valueRow(b, h, j), 0.0);
    };
    for (int64_t j = 0; j < keys; ++j)
      mean += weights[j] == 0 ? 0 : weights[j] * weightGrad(j);
    double *dq = gradients[0].f.data() + (queryRow(b, h, i) - query.f.data());
    for (int64_t j = 0; j < keys; ++j) {
      if (weights[j] == 0)
        continue;
      const double *q = queryRow(b, h, i), *k = keyRow(b, h, j);
      double *dk = gradients[1].f.data() + (k - key.f.data());
      double *dv = gradients[2].f.data() + (valueRow(b, h, j) - value.f.data());
      double ds = weights[j] * (weightGrad(j) - mean) * scale;
      if (softcap != 0) {
        double t = std::tanh(rawScore(b, h, i, j) / softcap);
        ds *= 1 - t * t;
      }
      for (int64_t d = 0; d < dim; ++d) {
        dq[d] += ds * k[d];
        dk[d] += ds * q[d];
      }
      for (int64_t d = 0; d < valueDim; ++d)
        dv[d] += weights[j] * g[d];
    }
    if (sinks)
      gradients[3].f[h] -= sink * mean;
  }
};

} // namespace

Evaluated AttentionOp::evaluate(ArrayRef<HostTensor> operands) {
  HostTensor result(getType());
  AttentionRows rows(*this, operands);
  std::vector<double> scores(rows.keys);
  for (int64_t row = 0; row < rows.query.shape()[0] * rows.heads * rows.queries; ++row)
    rows.run(row / rows.queries / rows.heads, row / rows.queries % rows.heads, row % rows.queries,
             scores, result.f.data() + row * rows.valueDim);
  return single(std::move(result));
}

Evaluated AttentionGradOp::evaluate(ArrayRef<HostTensor> operands) {
  SmallVector<HostTensor> gradients;
  for (Type type : getResultTypes())
    gradients.emplace_back(cast<RankedTensorType>(type));
  AttentionRows rows(*this, operands);
  std::vector<double> weights(rows.keys);
  for (int64_t row = 0; row < rows.query.shape()[0] * rows.heads * rows.queries; ++row)
    rows.runGrad(row / rows.queries / rows.heads, row / rows.queries % rows.heads,
                 row % rows.queries, operands.back().f.data() + row * rows.valueDim, weights,
                 gradients);
  for (HostTensor &gradient : gradients)
    gradient.round();
  return gradients;
}

//===----------------------------------------------------------------------===//
// Loss
//===----------------------------------------------------------------------===//

Evaluated SoftmaxCrossEntropyOp::evaluate(ArrayRef<HostTensor> operands) {
  const HostTensor &logits = operands[0], &labels = operands[1];
  HostTensor result(getType());
  int64_t vocabulary = logits.shape().back();
  for (int64_t n = 0; n < labels.size(); ++n) {
    int64_t label = labels.i[n];
    if (label == static_cast<int64_t>(getIgnoreIndex()))
      continue;
    if (label < 0 || label >= vocabulary)
      return emitOpError() << "has label " << label << " at position " << n << ", outside [0, "
                           << vocabulary << ")";
    const double *row = logits.f.data() + n * vocabulary;
    double highest = -kInfinity, sum = 0;
    for (int64_t v = 0; v < vocabulary; ++v)
      highest = maximum(row[v], highest);
    for (int64_t v = 0; v < vocabulary; ++v)
      sum += std::exp(row[v] - highest);
    result.f[n] = std::log(sum) + highest - row[label];
  }
  return single(std::move(result));
}
