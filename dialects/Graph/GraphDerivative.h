//===- GraphDerivative.h - Formulas of cotangents, written as formulas ----===//
//
// A Term is a tensor; arithmetic on terms builds graph ops:
//
//     Formula f(builder, op, cotangents[0]);
//     return {f.finish(f.cotangent() * f.result())};      // exp
//
// 16-bit floats are computed in f32 and rounded once, at the end.
//
//===----------------------------------------------------------------------===//

#ifndef SHARDC_DIALECTS_GRAPH_GRAPHDERIVATIVE_H
#define SHARDC_DIALECTS_GRAPH_GRAPHDERIVATIVE_H

#include "dialects/Graph/Graph.h"

namespace shardc::graph::formula {

using Dims = llvm::ArrayRef<int64_t>;
using Cotangents = mlir::FailureOr<llvm::SmallVector<mlir::Value>>;

class Formula;

struct Term {
  Formula *formula;
  mlir::Value value;

  mlir::RankedTensorType type() const {
    return llvm::cast<mlir::RankedTensorType>(value.getType());
  }
  Dims shape() const { return type().getShape(); }
};

/// The terms of one op's derivative.
class Formula {
public:
  Formula(mlir::OpBuilder &b, mlir::Operation *op, mlir::Value cotangent = {})
      : b(b), loc(op->getLoc()), op(op), given(cotangent) {}
  Formula(const Formula &) = delete;
  ~Formula();

  Term operand(unsigned index) { return term(op->getOperand(index)); }
  Term result() { return term(op->getResult(0)); }
  Term cotangent() { return term(given); }
  /// `value` as it is computed with: 16-bit floats as f32.
  Term term(mlir::Value value);
  /// `value` converted to the element type that `like` is computed in.
  Term termAs(mlir::Value value, Term like);
  Term constant(mlir::RankedTensorType type, double value);
  Term zeros(Term like) { return constant(like.type(), 0); }
  /// Index along `dim`, as i64.
  Term iota(Dims shape, int64_t dim);

  /// The value of a term that nothing else is made of, rounded to the element type of the op's
  /// cotangent, or to the given one.
  mlir::Value finish(Term x);
  mlir::Value finish(Term x, mlir::Type elementType);

  mlir::OpBuilder &b;
  mlir::Location loc;

private:
  mlir::Operation *op;
  mlir::Value given;
  llvm::SmallVector<std::pair<mlir::Value, mlir::Value>, 4> widened;
};

Term operator-(Term x);
#define SHARDC_FORMULA_BINARY(name)                                                                \
  Term name(Term x, Term y);                                                                       \
  Term name(Term x, double y);                                                                     \
  Term name(double x, Term y);
SHARDC_FORMULA_BINARY(operator+)
SHARDC_FORMULA_BINARY(operator-)
SHARDC_FORMULA_BINARY(operator*)
SHARDC_FORMULA_BINARY(operator/)
SHARDC_FORMULA_BINARY(operator==)
SHARDC_FORMULA_BINARY(operator!=)
SHARDC_FORMULA_BINARY(operator<)
SHARDC_FORMULA_BINARY(operator>)
SHARDC_FORMULA_BINARY(operator>=)
SHARDC_FORMULA_BINARY(pow)
#undef SHARDC_FORMULA_BINARY
Term operator&&(Term x, Term y);

Term exp(Term x);
Term log(Term x);
Term rsqrt(Term x);
Term sin(Term x);
Term cos(Term x);
Term sinh(Term x);
Term cosh(Term x);
Term tanh(Term x);
Term erf(Term x);
Term sigmoid(Term x);
Term sign(Term x);
Term floor(Term x);
Term trunc(Term x);

Term where(Term condition, Term x, Term y);
Term where(Term condition, Term x, double y);
Term where(Term condition, double x, Term y);

/// Derivatives of silu, gelu and its tanh approximation.
Term siluSlope(Term x);
Term geluSlope(Term x);
Term geluTanhSlope(Term x);
/// Derivative of a product by its factor x: `zeros` of the factors are zero, and `product` is that
/// of the others.
Term productSlope(Term x, Term zeros, Term product);
/// 1 where a condition holds, else 0, in the type of `like`.
Term indicator(Term condition, Term like);

Term sum(Term x, Dims dims);
Term maximum(Term x, Dims dims);
/// Repeated to `shape`; dimension i of x becomes dimension dims[i].
Term spread(Term x, Dims shape, Dims dims);
Term reshape(Term x, Dims shape);
Term transpose(Term x, Dims permutation);
Term slice(Term x, Dims starts, Dims strides, Dims shape);
/// Between zeros.
Term pad(Term x, Dims low, Dims high);
/// With strides[d] - 1 zeros between neighbours along dimension d.
Term dilate(Term x, Dims strides);

/// All dimensions of a rank but those in `dims`.
llvm::SmallVector<int64_t> otherDims(int64_t rank, Dims dims);

} // namespace shardc::graph::formula

#endif // SHARDC_DIALECTS_GRAPH_GRAPHDERIVATIVE_H
