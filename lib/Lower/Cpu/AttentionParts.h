//===- AttentionParts.h - What attention and its gradient share -*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_CPU_ATTENTIONPARTS_H
#define SHARDC_LIB_LOWER_CPU_ATTENTIONPARTS_H

#include "AttentionPlan.h"
#include "Emitter.h"
#include "shardc/Lower/KernelSpec.h"

namespace shardc {

inline constexpr double kLog2E = 1.44269504088896341;

/// Emits pieces of attention for one spec: copies between buffers and f32 scratch, and the way from
/// products to scores, which are in units of log 2. Queries are expected scaled by `queryScale`.
struct AttentionParts {
  Emitter e;
  const AttentionSpec &spec;
  int64_t lanes;
  mlir::Type f32;

  using Value = mlir::Value;

  AttentionParts(mlir::OpBuilder &builder, const AttentionSpec &spec, const CpuTarget &target)
      : e{builder, builder.getUnknownLoc()}, spec(spec), lanes(target.vectorBytes / 4),
        f32(builder.getF32Type()) {}

  double queryScale() const { return spec.softCap == 0 ? spec.scale * kLog2E : spec.scale; }
  Value minusInfinity();
  Value multiply(Value x, Value y) { return mlir::arith::MulFOp::create(e.b, e.loc, x, y); }
  Value subtract(Value x, Value y) { return mlir::arith::SubFOp::create(e.b, e.loc, x, y); }
  Value sumOfLanes(Value vector);
  Value maximumOfLanes(Value vector);

  /// The buffer of an operand with so many heads, rows and columns.
  mlir::MemRefType bufferOf(const AttentionOperand &operand, int64_t heads, int64_t rows,
                            int64_t columns);

  /// `count` elements from `from` on, `stride` apart, scaled, as f32 to `to` on.
  void copyRow(Value source, Value from, int64_t stride, int64_t count, double scale, Value target,
               Value to);
  /// `count` scaled f32 to consecutive elements of another type.
  void storeRow(Value source, Value from, Value scale, int64_t count, Value target, Value to);
  /// Zeros from `begin` to `end`, which are whole vectors apart.
  void clear(Value target, Value begin, Value end);

  /// Fills panels with columns x… of the matrix whose element (k, n) is at base + k·kStride +
  /// n·nStride.
  void pack(mlir::Type type, int64_t kStride, int64_t nStride, int64_t columns, Value source,
            Value base, Value x, Value k, Value panels, Value panelBase);

  /// A register tile: c (+)= a · b, with b's columns in scratch.
  struct Product {
    Value a, aBase;
    int64_t aRow, aStep;
    Value b, bBase;
    int64_t bStep;
    Value steps, c, cBase;
    int64_t cRow;
    bool accumulate;
  };
  void registerTile(int64_t rows, const Product &product);

  /// The lanes from column x on that lie in [low, high), which are i32 vectors; a null `low` is
  /// zero.
  Value visibleLanes(Value x, Value low, Value high);
  /// A bound of columns for visibleLanes, at most `limit`.
  Value columnBound(Value column, int64_t limit);
  /// The score of a product: capped, masked by the elements of `mask` at `maskAt`, -inf where not
  /// visible. `slope`, if asked for, receives the derivative of the cap.
  Value score(Value product, Value visible, Value mask, Value maskAt, Value *slope = nullptr);

  /// Zero where nothing has been seen yet: 2^(-inf - 0) is zero and 2^(-inf - -inf) is no number.
  Value finiteBase(Value maximum);
  /// 1 / x, and 0 for 0; a NaN stays one.
  Value inverseOrZero(Value sum);

private:
  Value maskVector(Value mask, Value at, Value visible);
};

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CPU_ATTENTIONPARTS_H
