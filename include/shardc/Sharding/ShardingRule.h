//===- ShardingRule.h - Which dimensions of an op's tensors go together -*- C++ -*-===//
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
  PassThrough,     ///< Free to shard: every device computes its part of the results.
  Reduction,       ///< Sharding it leaves those results pending that do not have it (all, mostly).
  NeedReplication, ///< The op needs all of it (sort, softmax without a merge).
  Permutation, ///< Propagated, but the op needs all of it (pad, slice, reverse: data moves along
               ///< it).
};
const char *str(FactorKind kind);

/// One loop of the op; `size` iterations. `reduce` counts only for kind Reduction.
struct Factor {
  int64_t size = 1;
  FactorKind kind = FactorKind::PassThrough;
  ReduceKind reduce = ReduceKind::Sum;
};

/// Per dimension of a tensor its factors, major to minor. Several: a merged dimension, the product
/// of their sizes. None: a dimension of any size that is never sharded.
using FactorDims = std::vector<std::vector<int>>;

struct ShardingRule {
  std::vector<Factor> factors;
  std::vector<FactorDims> operands, results;
  /// The op is linear in all operands together (add, transpose, reshape, sum, copy): pending sums
  /// of all operands over the same axes may pass through to the results. Not for products of
  /// operands.
  bool linear = false;

  /// Every index in range, every factor at most once a tensor, products of factor sizes equal to
  /// dimension sizes, reductions not in all results and pass-through factors in at least one.
  Error verify(const std::vector<Shape> &operandShapes,
               const std::vector<Shape> &resultShapes) const;
  /// `([i, k], [k, j]) -> ([i, j]) {i=64, k=32 sum, j=16}`
  std::string str() const;
};

/// Builds a rule factor by factor; on a merged dimension add major factors first.
class ShardingRuleBuilder {
public:
  ShardingRuleBuilder(std::vector<Shape> operandShapes, std::vector<Shape> resultShapes);

  /// One dimension a tensor, -1 where the tensor has no such dimension. Does nothing for size 1.
  ShardingRuleBuilder &addFactor(const std::vector<int> &operandDims,
                                 const std::vector<int> &resultDims, int64_t size,
                                 FactorKind kind = FactorKind::PassThrough,
                                 ReduceKind reduce = ReduceKind::Sum);
  /// One factor for each dimension of result 0; operands of rank 0 take no part, all other tensors
  /// have its rank.
  ShardingRuleBuilder &addPointwise();
  /// Operand 0 reshaped to result 0: the coarsest common factors. What has none (2 × 3 to 3 × 2) is
  /// not sharded.
  ShardingRuleBuilder &addReshape();
  ShardingRuleBuilder &setLinear();
  /// Fails where verify() does.
  Result<ShardingRule> build() const;

private:
  void appendFactor(FactorDims &dims, size_t dim, int factor);
  std::vector<Shape> operandShapes, resultShapes;
  ShardingRule rule;
};

} // namespace shardc

#endif // SHARDC_SHARDING_SHARDINGRULE_H
