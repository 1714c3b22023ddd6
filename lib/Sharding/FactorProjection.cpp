//===- FactorProjection.cpp - Between dimensions and factors --------------===//
//
// Dimension to factors: axes are handed out major to minor; each goes to the current factor as long
// as blocks of the dimension stay blocks of factors, and is split where a factor gets full. Factors
// to dimension: the concatenation of their axes, if that condition holds.
//
//===----------------------------------------------------------------------===//
#include "shardc/Sharding/FactorSharding.h"

#include <numeric>

using namespace shardc;

bool shardc::blocksAreFactorBlocks(const std::vector<int64_t> &sizes,
                                   const std::vector<int64_t> &counts) {
  size_t j = 0;
  int64_t majorSize = 1;
  while (j < sizes.size() && counts[j] == sizes[j])
    majorSize *= sizes[j++];
  if (j == sizes.size())
    return true;
  int64_t minorSize = 1;
  for (size_t i = j + 1; i < sizes.size(); ++i) {
    if (counts[i] != 1)
      return false;
    minorSize *= sizes[i];
  }
  if (sizes[j] % counts[j] == 0)
    return true;
  return majorSize == 1 &&
         ceilDiv(sizes[j] * minorSize, counts[j]) == ceilDiv(sizes[j], counts[j]) * minorSize;
}

static std::vector<int64_t> sizesOf(const ShardingRule &rule, const std::vector<int> &factors) {
  std::vector<int64_t> sizes;
  for (int factor : factors)
    sizes.push_back(rule.factors[factor].size);
  return sizes;
}

namespace {

/// Hands out the axes of one dimension.
class DimProjection {
public:
  DimProjection(const ShardingRule &rule, const std::vector<int> &factors)
      : sizes(sizesOf(rule, factors)), counts(factors.size(), 1), axes(factors.size()) {
    skipFull();
  }

  void add(const AxisRef &ref) {
    if (!overflow.empty() || current == sizes.size()) {
      overflow.push_back(ref);
      return;
    }
    if (take(ref))
      return;
    int64_t part = std::gcd(sizes[current] / counts[current], ref.size);
    bool divides = sizes[current] % counts[current] == 0;
    auto parts = divides && part > 1 ? splitAxis(ref, part) : std::nullopt;
    if (!parts || !take(parts->first)) {
      overflow.push_back(ref);
      return;
    }
    add(parts->second);
  }

  std::vector<int64_t> sizes, counts;
  std::vector<AxisList> axes;
  AxisList overflow;

private:
  bool take(const AxisRef &ref) {
    counts[current] *= ref.size;
    if (!blocksAreFactorBlocks(sizes, counts)) {
      counts[current] /= ref.size;
      return false;
    }
    axes[current].push_back(ref);
    skipFull();
    return true;
  }

  /// A single factor of size 1 or fully cut stays current if it is the last one: its blocks may be
  /// empty.
  void skipFull() {
    while (current + 1 < sizes.size() && counts[current] == sizes[current])
      ++current;
  }

  size_t current = 0;
};

} // namespace

TensorFactors shardc::projectToFactors(const ShardingRule &rule, const FactorDims &dims,
                                       const Sharding &sharding) {
  TensorFactors result;
  result.factors.resize(rule.factors.size());
  result.pending = sharding.partialAxes();
  for (size_t d = 0; d < dims.size(); ++d) {
    DimProjection projection(rule, dims[d]);
    for (const AxisRef &ref : canonicalAxes(sharding.dims[d].axes))
      projection.add(ref);
    for (size_t i = 0; i < dims[d].size(); ++i)
      result.factors[dims[d][i]] = {canonicalAxes(projection.axes[i]), true, sharding.dims[d].open,
                                    sharding.dims[d].priority};
    result.overflow.push_back(canonicalAxes(projection.overflow));
  }
  return result;
}

std::optional<Sharding> shardc::shardingOf(const ShardingRule &rule, const FactorDims &dims,
                                           const std::vector<AxisList> &factorAxes) {
  Sharding sharding = Sharding::replicated(static_cast<int64_t>(dims.size()));
  for (size_t d = 0; d < dims.size(); ++d) {
    std::vector<int64_t> counts;
    AxisList axes;
    for (int factor : dims[d]) {
      counts.push_back(axesSize(factorAxes[factor]));
      axes.insert(axes.end(), factorAxes[factor].begin(), factorAxes[factor].end());
    }
    if (!blocksAreFactorBlocks(sizesOf(rule, dims[d]), counts))
      return std::nullopt;
    sharding.dims[d].axes = canonicalAxes(axes);
  }
  return sharding;
}
