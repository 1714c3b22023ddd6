//===- FactorSharding.h - Sharding rules of ops by factors ------*- C++ -*-===//
//
// An op's sharding rule names the independent loops ("factors") of its computation and says which
// tensor dimension is made of which factors. Everything that propagation and partitioning must know
// about an op follows from it:
//
//   matmul "mk,kn->mn":  ([i, k], [k, j]) -> ([i, j])  {i=64, k=32 sum, j=16}
//   reshape 8 -> 2 × 4:  ([ij]) -> ([i, j])            {i=2, j=4}
//
// Factors, their kinds, and the projection of dimension shardings to factors are Shardy's
// (openxla/shardy, docs/propagation.md, transforms/propagation); the underlying propagation is
// GSPMD's (arXiv 2105.04663). New here: what an op is given and what it produces is chosen by
// estimated time on the mesh, and the exact condition under which a merged dimension may be sharded
// on a minor factor (blocksAreFactorBlocks).
//
// Three stages, each a function on plain structs:
//   propagateOp       spreads shardings between operands and results where nothing disagrees
//   chooseFactorAxes  settles disagreement by cost: one axis list for each factor
//   shardingOf        the sharding of one tensor that follows from axes of factors
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_SHARDING_FACTORSHARDING_H
#define SHARDC_SHARDING_FACTORSHARDING_H

#include "shardc/Sharding/Reshard.h"
#include "shardc/Sharding/ShardingRule.h"

#include <climits>

namespace shardc {

//===----------------------------------------------------------------------===//
// Dimensions and factors
//===----------------------------------------------------------------------===//

/// A dimension made of factors of `sizes` (major to minor), the i-th cut in `counts[i]` parts, is
/// stored in contiguous blocks of ceil(product of sizes / product of counts). Are those blocks
/// products of blocks of the factors (each ceil(size / count)), in the same order? True exactly if
/// there is a factor j such that
///   - all more major factors are cut into single elements, and all more minor ones are whole, and
///   - count j divides size j; or nothing but factors of size 1 is more major, and the padded sizes
///     agree: ceil(size_j · M / count_j) = ceil(size_j / count_j) · M, where M is the product of
///     the minor sizes.
/// Otherwise a sharded minor factor is strided in memory, and no axis list of the dimension says
/// so.
bool blocksAreFactorBlocks(const std::vector<int64_t> &sizes, const std::vector<int64_t> &counts);

/// Axes of one tensor seen by factors.
struct TensorFactors {
  struct Entry {
    AxisList axes;
    bool present = false; ///< Does the tensor have this factor?
    bool open = false;    ///< Of its dimension.
    int priority = 0;     ///< Of its dimension.
  };
  std::vector<Entry> factors;     ///< One per factor of the rule.
  std::vector<AxisList> overflow; ///< Per dimension: what fits no factor; minor to all that does.
  AxisList pending;
};

/// Distributes each dimension's axes over its factors, splitting an axis where a factor is full.
TensorFactors projectToFactors(const ShardingRule &rule, const FactorDims &dims,
                               const Sharding &sharding);

/// The sharding (closed, not pending) of a tensor whose factors have these axes; nullopt if the
/// axes of some dimension are not blocks of its factors.
std::optional<Sharding> shardingOf(const ShardingRule &rule, const FactorDims &dims,
                                   const std::vector<AxisList> &factorAxes);

//===----------------------------------------------------------------------===//
// Propagation
//===----------------------------------------------------------------------===//

struct PropagateOptions {
  int priority = INT_MAX; ///< Dimensions of larger priority neither give nor take.
  bool forward = true;    ///< Operands to results.
  bool backward = true;   ///< Results to operands. With both also between operands.
};

struct PropagateResult {
  std::vector<Sharding> operands, results;
  bool changed = false;
  std::vector<std::string> conflicts; ///< Who disagrees with whom, for the report.
};

/// Rule and shardings must fit each other (ShardingRule::verify, verify).
/// Extends open dimensions by the axes on which all tensors with that factor agree (the compatible
/// major axes). Never removes an axis. An axis that two factors of a tensor want goes to the factor
/// of smaller priority, then of the larger tensor. `bytes` are the global sizes of operands, then
/// results; may be empty.
PropagateResult propagateOp(const ShardingRule &rule, const Mesh &mesh,
                            const std::vector<Sharding> &operands,
                            const std::vector<Sharding> &results,
                            const PropagateOptions &options = PropagateOptions(),
                            const std::vector<int64_t> &bytes = {});

//===----------------------------------------------------------------------===//
// Choice by cost
//===----------------------------------------------------------------------===//

struct TensorInfo {
  Shape shape; ///< Global.
  int64_t elementBytes = 4;
  /// Moving it between devices is charged a second more: a weight is cut to save memory, which
  /// gathering it would give up.
  bool isWeight = false;
};

/// What an op is given, and what is wanted of it.
struct FactorRequest {
  std::vector<TensorInfo> operandTypes, resultTypes;
  std::vector<Sharding> operands;
  /// nullopt: nobody cares; a pending reduction is then charged as an all-reduce.
  std::vector<std::optional<Sharding>> results;
  /// Time of one iteration over all factors (a multiply-add for a matmul): redundant work is not
  /// free.
  double nanosPerPoint = 0.02;
  /// Cut a reduction unevenly: only if the partitioner masks the padding with the neutral element.
  bool allowUnevenReduction = false;
};

struct FactorAssignment {
  std::vector<AxisList> axes;     ///< One per factor.
  AxisList passedPending;         ///< Pending sums that pass through (linear ops).
  std::vector<Sharding> operands; ///< What the op needs.
  std::vector<Sharding> results;  ///< What it produces, pending reductions included.
  double micros = 0;              ///< Reshards of operands and results, and the computation.
  double reshardMicros = 0;
  std::string reason; ///< What was chosen, what it costs, what lost to it.
};

/// Chooses one axis list for each factor, no axis on two, so that operands, computation and results
/// agree, minimising the time to reshard operands, compute, and reshard results. Candidates are the
/// axes that some tensor has or wants on the factor, and their prefixes. Exact up to 20,000
/// combinations; then the best of those looked at.
Result<FactorAssignment> chooseFactorAxes(const ShardingRule &rule, ReshardPlanner &planner,
                                          const FactorRequest &request);

} // namespace shardc

#endif // SHARDC_SHARDING_FACTORSHARDING_H
