//===- ScalarEmit.h - Scalar code of the elementwise ops ------------------===//
//
// The compiled twins of HostMath.h: the same functions as arith/math operations on one scalar.
//
//===----------------------------------------------------------------------===//

#ifndef SHARDC_DIALECTS_GRAPH_SCALAREMIT_H
#define SHARDC_DIALECTS_GRAPH_SCALAREMIT_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Builders.h"

namespace shardc::graph::scalar {

using mlir::Location;
using mlir::OpBuilder;
using mlir::Value;

/// `value` as a constant of x's type.
Value constantLike(OpBuilder &b, Location loc, Value x, double value);

Value neg(OpBuilder &b, Location loc, Value x);
Value abs(OpBuilder &b, Location loc, Value x, bool isUnsigned);
Value sign(OpBuilder &b, Location loc, Value x, bool isUnsigned);
Value bitNot(OpBuilder &b, Location loc, Value x);
Value rsqrt(OpBuilder &b, Location loc, Value x);
Value reciprocal(OpBuilder &b, Location loc, Value x);
Value sigmoid(OpBuilder &b, Location loc, Value x);
Value silu(OpBuilder &b, Location loc, Value x);
Value gelu(OpBuilder &b, Location loc, Value x);
Value geluTanh(OpBuilder &b, Location loc, Value x);
Value relu(OpBuilder &b, Location loc, Value x, bool isUnsigned);
Value softplus(OpBuilder &b, Location loc, Value x);

Value add(OpBuilder &b, Location loc, Value x, Value y);
Value sub(OpBuilder &b, Location loc, Value x, Value y);
Value mul(OpBuilder &b, Location loc, Value x, Value y);
Value div(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned);
Value pow(OpBuilder &b, Location loc, Value x, Value y);
Value max(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned);
Value min(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned);
Value rem(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned);
Value mod(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned);
Value bitAnd(OpBuilder &b, Location loc, Value x, Value y);
Value bitOr(OpBuilder &b, Location loc, Value x, Value y);
Value bitXor(OpBuilder &b, Location loc, Value x, Value y);
Value shl(OpBuilder &b, Location loc, Value x, Value y);
Value shr(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned);

} // namespace shardc::graph::scalar

#endif // SHARDC_DIALECTS_GRAPH_SCALAREMIT_H
