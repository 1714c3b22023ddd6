//===- AttentionKernel.h - Attention and its gradient -----------*- C++ -*-===//
//
// out[b, h, i] = sum over visible j of softmax_j(cap(scale · q[b, h, i] · k[b, h', j]) + mask[b, h,
// i, j]) · v[b, h', j], h' = h / group. A row that sees no key is zero, and its log-sum-exp is
// -inf.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LOWER_ATTENTIONKERNEL_H
#define SHARDC_LOWER_ATTENTIONKERNEL_H

#include "shardc/Lower/KernelSpec.h"
#include <optional>

namespace shardc {

/// Strides in elements over a flat buffer.
struct AttentionOperand {
  mlir::Type type;
  int64_t batch = 0, head = 0, row = 0, column = 1;
};

struct AttentionSpec {
  std::string symbol;
  int64_t batch = 1, queryHeads = 1, keyHeads = 1; ///< queryHeads is a multiple of keyHeads
  int64_t queries = 0, keys = 0, dim = 0, valueDim = 0;
  AttentionOperand q, k, v, out; ///< out.column is 1
  double scale = 1;
  double softCap = 0; ///< cap·tanh(x / cap) before masks; 0 is none

  /// Query i stands at key position p = i + offset. Key j is visible if p - left <= j <= p + right,
  /// for what is given. Causal is right = 0 with offset = 0 (aligned to the start) or keys -
  /// queries (to the end); a window of w keys is left = w - 1.
  std::optional<int64_t> left, right;
  int64_t offset = 0;
  bool runtimeOffset = false; ///< an i64 buffer holds what is added to offset
  bool keyLengths = false;    ///< an i64 buffer holds for each batch how many keys there are

  /// [b, h, i, j]; a float is added, i8 and i1 hide where zero. Strides may be 0.
  std::optional<AttentionOperand> mask;
  mlir::Type sinks; ///< type of one logit per query head that joins the denominator; null is none
  bool logSumExp = false; ///< write f32 [batch, queryHeads, queries]
};

/// Appends the kernel. Buffers: q, k, v, then as asked for mask, sinks, offset, key lengths, then
/// out and, as asked for, log-sum-exp. Bad specs are reported at `module`.
mlir::FailureOr<Kernel> buildAttention(mlir::OpBuilder &builder, mlir::ModuleOp module,
                                       const AttentionSpec &spec, const CpuTarget &target);

/// The gradients of an attention's query, key, value and sinks. The softmax is computed again from
/// query and key; a row of scores is kept in scratch, never all of them.
struct AttentionGradSpec {
  AttentionSpec attention;     ///< `out` is the cotangent of the result; no log-sum-exp, run-time
                               ///< offset or lengths
  AttentionOperand dq, dk, dv; ///< columns are 1 apart; dsinks has the type of sinks
};

/// Appends the kernel. Buffers: q, k, v, as asked for mask and sinks, the cotangent, then dq, dk,
/// dv and, as asked for, dsinks. Key heads are the tiles (of all batches together, where there are
/// sinks), so that their sums have one order.
mlir::FailureOr<Kernel> buildAttentionGrad(mlir::OpBuilder &builder, mlir::ModuleOp module,
                                           const AttentionGradSpec &spec, const CpuTarget &target);

} // namespace shardc

#endif // SHARDC_LOWER_ATTENTIONKERNEL_H
