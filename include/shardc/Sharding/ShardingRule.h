//===- ShardingRule.h - Which dimensions of an op's tensors go together --*- C++ -*-===//
//
// The theory of one op without IR: its factors, and for every tensor dimension the ordered list of
// factors that it is made of. Idea: GSPMD (arXiv 2105.04663); factor form after Shardy's op
// sharding rules.
//
//   einsum "mk,kn->mn": factors m, n pass through, k is reduced
//   reshape [6] -> [2,3]: factors a=2, b=3; input dim 0 = [a, b], result dims = [a], [b]
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_SHARDING_SHARDINGRULE_H
#define SHARDC_SHARDING_SHARDINGRULE_H

#include "shardc/Sharding/Sharding.h"

namespace shardc {

enum class FactorKind {
  PassThrough,     ///< each device computes its part from its part
  Reduction,       ///< summed (max-ed, …) over: a sharded factor leaves the result pending
  NeedReplication, ///< the op needs the whole dimension on every device
  Permutation      ///< parts move between devices (shift, roll): needs communication of its own
};

/// One independent index of an op.
struct Factor {
  int64_t size = 1;
  FactorKind kind = FactorKind::PassThrough;
  ReduceKind reduce = ReduceKind::Sum; ///< for Reduction
};

/// Factors of one tensor dimension, major to minor; their sizes multiply to the dimension's size.
using FactorList = std::vector<int>;

/// Factors of the dimensions of one tensor. A dimension without factors is never sharded.
using TensorFactors = std::vector<FactorList>;

struct ShardingRule {
  std::vector<Factor> factors;
  std::vector<TensorFactors> operands;
  std::vector<TensorFactors> results;
};

/// Builds a rule tensor by tensor.
///   ShardingRuleBuilder rule(/*operandRanks=*/{2, 2}, /*resultRanks=*/{2});
///   rule.add(m, {0, -1}, {0}); …
class ShardingRuleBuilder {
public:
  ShardingRuleBuilder(const std::vector<int64_t> &operandRanks,
                      const std::vector<int64_t> &resultRanks) {
    for (int64_t rank : operandRanks)
      rule.operands.emplace_back(rank);
    for (int64_t rank : resultRanks)
      rule.results.emplace_back(rank);
  }

  /// A new factor that is appended (as the next more minor one) to the given dimension of each
  /// operand and result; -1 where a tensor does not have it. Returns its index.
  int add(int64_t size, const std::vector<int64_t> &operandDims,
          const std::vector<int64_t> &resultDims, FactorKind kind = FactorKind::PassThrough,
          ReduceKind reduce = ReduceKind::Sum) {
    int index = static_cast<int>(rule.factors.size());
    rule.factors.push_back({size, kind, reduce});
    for (size_t n = 0; n < operandDims.size(); ++n)
      if (operandDims[n] >= 0)
        rule.operands[n][operandDims[n]].push_back(index);
    for (size_t n = 0; n < resultDims.size(); ++n)
      if (resultDims[n] >= 0)
        rule.results[n][resultDims[n]].push_back(index);
    return index;
  }

  ShardingRule build() { return std::move(rule); }

private:
  ShardingRule rule;
};

} // namespace shardc

#endif // SHARDC_SHARDING_SHARDINGRULE_H
