//===- AttentionGrid.h - What attention kernels share -----------*- C++ -*-===//
//
// A block works for one key head. The query heads that read it are one matrix of rows: a short
// query (decoding) still fills a tile, and keys and values are read once for all of them. Scores
// are in units of log 2, so that the softmax is powers of two.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LIB_LOWER_CUDA_ATTENTIONGRID_H
#define SHARDC_LIB_LOWER_CUDA_ATTENTIONGRID_H

#include "WarpTile.h"
#include "shardc/Lower/AttentionKernel.h"

namespace shardc {

class AttentionGrid {
public:
  using Value = mlir::Value;
  using Values = Emitter::Values;

  /// One query of one head.
  struct Query {
    Value head, number, exists; ///< exists may be null: always
  };
  /// A range of numbers.
  struct Range {
    Value first, last;
  };

  AttentionGrid(Emitter &e, const AttentionSpec &spec)
      : e(e), spec(spec), members(spec.queryHeads / spec.keyHeads), rows(members * spec.queries) {}

  /// Why there is no kernel; empty if there is one.
  static std::string reasonAgainst(const AttentionSpec &spec);

  /// Number of this block among those of all key heads: sets batch and key head, returns its number
  /// among the blocks of this key head.
  Value takeBlock(Value block, int64_t blocksPerHead);

  /// Of the rows of the key head; `isInside`: the row certainly exists.
  Query queryAt(Value row, bool isInside);
  RowPlace place(const AttentionOperand &operand, const Query &query);
  RowPlace keyPlace(const AttentionOperand &operand, Value key, bool isInside);
  GlobalRows source(Value buffer, const AttentionOperand &operand, int64_t columns);
  /// Where a statistic of a query lies: [batch, head, query].
  Value statistic(const Query &query);

  /// Numbers of the queries of rows [first, last].
  Range queriesOf(Value first, Value last);
  /// Keys that some of these queries may see: [first, last).
  Range keysFor(const Range &queries);
  /// Queries that may see some of these keys: [first, last).
  Range queriesFor(const Range &keys);
  /// Do all these queries see all these keys? Null: nothing hides a key by its position.
  Value seeAll(const Range &queries, const Range &keys);
  /// Does this query see this key, by its position? Null: always.
  Value sees(Value query, Value key);

  struct Score {
    Value value;
    Value slope{}; ///< derivative by the product, if asked for
  };
  /// What softmax sees of a product. `inside`: query and key exist; null: always.
  Score score(WarpTile &warp, Value product, Value mask, const Query &query, Value key,
              Value inside, bool wantsSlope);
  /// Hides scores by position, if not all of these queries see all of these keys. `placeOf` is the
  /// query and key of a score; `isRagged`: keys beyond the last are among them.
  Values hidePartly(llvm::ArrayRef<Value> scores, const Range &queries, const Range &keys,
                    bool isRagged, llvm::function_ref<std::pair<Value, Value>(int64_t)> placeOf);
  /// The greatest score of a warp's row: of g, or of g + 8 if `isHigh`.
  Value greatestOf(WarpTile &warp, llvm::ArrayRef<Value> scores, bool isHigh);
  /// A query's logit without a value; anything for one that does not exist.
  Value sink(WarpTile &warp, Value sinks, const Query &query);

  Value both(Value x, Value y) {
    return !x ? y : !y ? x : Value(mlir::arith::AndIOp::create(e.b, e.loc, x, y));
  }
  Value times(Value x, Value y) { return mlir::arith::MulFOp::create(e.b, e.loc, x, y); }
  Value plus(Value x, Value y) { return mlir::arith::AddFOp::create(e.b, e.loc, x, y); }
  Value minus(Value x, Value y) { return mlir::arith::SubFOp::create(e.b, e.loc, x, y); }
  Value greatest(Value x, Value y) { return mlir::arith::MaximumFOp::create(e.b, e.loc, x, y); }
  Value select(Value condition, Value x, Value y) {
    return mlir::arith::SelectOp::create(e.b, e.loc, condition, x, y);
  }
  Value isEqual(Value x, Value y) {
    return mlir::arith::CmpFOp::create(e.b, e.loc, mlir::arith::CmpFPredicate::OEQ, x, y);
  }
  Value f32(double value) { return e.scalar(e.b.getF32Type(), value); }
  /// A natural logarithm as a score.
  Value logit(Value x);
  Value hidden() { return f32(-std::numeric_limits<double>::infinity()); }

  Emitter &e;
  const AttentionSpec &spec;
  const int64_t members, rows; ///< query heads of a key head, and their queries
  Value batch, keyHead;        ///< of this block
};

/// The generated kernels; errors are the op's.
mlir::FailureOr<CudaKernel> lowerAttentionGrid(CudaLowering &lowering, graph::AttentionOp op);
mlir::FailureOr<CudaKernel> lowerAttentionGradGrid(CudaLowering &lowering,
                                                   graph::AttentionGradOp op);

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CUDA_ATTENTIONGRID_H
