//===- GraphElementwise.td - Ops whose result element depends on one element of each operand -===//
//
// Each definition is one line of theory: its value in double or int64 (`eval`, C++ over x, y), the code
// that computes it (`lower`, over builder `b`, location `loc`, scalars x, y) and the cotangent of each operand
// (`vjp`, C++ of GraphDerivative.h over the operands X, Y, the result R and its cotangent G; empty: none). 16-bit
// floats are computed in f32 and rounded to their type, on all paths.
//
// The letters of a vjp are what the backward pass keeps in memory. Where a choice is, the result stands rather than
// the operand if that is cheaper to compute with (exp, tanh, sigmoid), and never both.
// At a kink the derivative is torch's: 0 for relu and abs at 0, half for each side of a tied max or min.
//
//===----------------------------------------------------------------------===//

#ifndef SHARDC_GRAPH_ELEMENTWISE_TD
#define SHARDC_GRAPH_ELEMENTWISE_TD

include "dialects/Graph/GraphDialect.td"

class Graph_Elementwise<string mnemonic, list<Trait> traits> : Graph_Op<mnemonic,
    !listconcat(traits, [Elementwise,
      DeclareOpInterfaceMethods<CostOpInterface, ["getCost"]>, Graph_DerivativeMethods,
      DeclareOpInterfaceMethods<LoweringOpInterface, ["getLoweringClass", "emitElement"]>])>, Graph_Derivative {
  // FLOPs an element, for the cost model.
  int flops = 1;
  // Methods that are the same for all elementwise ops.
  code shared = [{
    ::shardc::ShardingRule $cppClass::getShardingRule() {
      return ::shardc::graph::detail::pointwiseRule(getOperation());
    }
    ::shardc::graph::LoweringClass $cppClass::getLoweringClass() {
      return ::shardc::graph::LoweringClass::Element;
    }
    ::shardc::OpCost $cppClass::getCost() {
      return ::shardc::graph::detail::elementwiseCost(getOperation(), }] # flops # [{);
    }
  }];
}

// The cotangents of an elementwise op's operands by a formula for each.
class Graph_Vjp<list<string> formulas> {
  string joined = !interleave(formulas, ";");
  string built = !interleave(!foreach(formula, formulas, !if(!empty(formula), "::mlir::Value()",
      "formula.finish(" # !subst("X", "formula.operand(0)", !subst("Y", "formula.operand(1)",
      !subst("R", "formula.result()", !subst("G", "formula.cotangent()", formula)))) # ")")), ", ");
  string readsX = !if(!lt(!find(joined, "X"), 0), "false", "true");
  string readsY = !if(!lt(!find(joined, "Y"), 0), "false", "true");
  string readsR = !if(!lt(!find(joined, "R"), 0), "false", "true");
  code methods = [{
    ::mlir::FailureOr<::llvm::SmallVector<::mlir::Value>>
    $cppClass::buildVJP(::mlir::OpBuilder &builder, ::mlir::ValueRange cotangents) {
      using namespace ::shardc::graph::formula;
      Formula formula(builder, getOperation(), cotangents[0]);
      return ::llvm::SmallVector<::mlir::Value>{}] # built # [{};
    }
    bool $cppClass::needsOperand(unsigned index) { return index == 0 ? }] # readsX # " : " # readsY # [{; }
    bool $cppClass::needsResult(unsigned) { return }] # readsR # [{; }
  }];
}

class Graph_Unary<string mnemonic, Type tensor, string eval, string lower, string vjp, int cost = 1>
    : Graph_Elementwise<mnemonic, [SameOperandsAndResultType]> {
  let flops = cost;
  let arguments = (ins tensor:$input);
  let results = (outs tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input)";
  let extraClassDefinition = shared # Graph_Vjp<[vjp]>.methods # [{
    ::mlir::FailureOr<::llvm::SmallVector<::shardc::HostTensor>>
    $cppClass::evaluate(::llvm::ArrayRef<::shardc::HostTensor> operands) {
      return ::shardc::graph::detail::evaluateUnary(getOperation(), operands,
                                                    [](auto x) -> decltype(x) { return }] # eval # [{; });
    }
    ::mlir::Value $cppClass::emitElement(::shardc::graph::ElementEmitter &emitter,
                                         ::llvm::ArrayRef<::mlir::Value> indices) {
      ::mlir::OpBuilder &b = emitter.builder;
      ::mlir::Location loc = getLoc();
      bool isUnsigned = ::shardc::graph::detail::isUnsignedElement(getType());
      ::mlir::Value x = emitter.operand(getOperation()->getOpOperand(0), indices);
      (void)b; (void)loc; (void)isUnsigned;
      return emitter.round(getType(), }] # lower # [{);
    }
  }];
}

class Graph_FloatUnary<string mnemonic, string eval, string lower, string vjp, int cost = 1>
    : Graph_Unary<mnemonic, Graph_FloatTensor, eval, lower, vjp, cost>;

class Graph_Binary<string mnemonic, Type tensor, string eval, string lower, string vjpX, string vjpY,
                   list<Trait> traits = [], int cost = 1>
    : Graph_Elementwise<mnemonic, !listconcat([SameOperandsAndResultType], traits)> {
  let flops = cost;
  let arguments = (ins tensor:$lhs, tensor:$rhs);
  let results = (outs tensor:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($lhs)";
  let extraClassDefinition = shared # Graph_Vjp<[vjpX, vjpY]>.methods # [{
    ::mlir::FailureOr<::llvm::SmallVector<::shardc::HostTensor>>
    $cppClass::evaluate(::llvm::ArrayRef<::shardc::HostTensor> operands) {
      bool isUnsigned = ::shardc::graph::detail::isUnsignedElement(getType());
      (void)isUnsigned;
      return ::shardc::graph::detail::evaluateBinary(
          getOperation(), operands, [=](auto x, auto y) -> decltype(x) { return }] # eval # [{; });
    }
    ::mlir::Value $cppClass::emitElement(::shardc::graph::ElementEmitter &emitter,
                                         ::llvm::ArrayRef<::mlir::Value> indices) {
      ::mlir::OpBuilder &b = emitter.builder;
      ::mlir::Location loc = getLoc();
      bool isUnsigned = ::shardc::graph::detail::isUnsignedElement(getType());
      ::mlir::Value x = emitter.operand(getOperation()->getOpOperand(0), indices);
      ::mlir::Value y = emitter.operand(getOperation()->getOpOperand(1), indices);
      (void)b; (void)loc; (void)isUnsigned;
      return emitter.round(getType(), }] # lower # [{);
    }
  }];
}

//===----------------------------------------------------------------------===//
// Unary: mnemonic, value (x is double or int64_t), code, cotangent, FLOPs
//===----------------------------------------------------------------------===//

def Graph_NegOp : Graph_Unary<"neg", Graph_NumberTensor, "host::neg(x)", "scalar::neg(b, loc, x)", "-G"> { let summary = "Negation"; }
def Graph_AbsOp : Graph_Unary<"abs", Graph_NumberTensor, "host::abs(x)", "scalar::abs(b, loc, x, isUnsigned)", "G * sign(X)"> { let summary = "Absolute value"; }
def Graph_SignOp : Graph_Unary<"sign", Graph_NumberTensor, "host::sign(x)", "scalar::sign(b, loc, x, isUnsigned)", ""> { let summary = "-1, 0 or 1"; }
def Graph_NotOp : Graph_Unary<"not", Graph_BitsTensor, "host::bitNot(x)", "scalar::bitNot(b, loc, x)", ""> { let summary = "Bitwise (bool: logical) complement"; }
def Graph_ExpOp : Graph_FloatUnary<"exp", "std::exp(x)", "::mlir::math::ExpOp::create(b, loc, x)", "G * R", 8> { let summary = "e to the x"; }
def Graph_LogOp : Graph_FloatUnary<"log", "std::log(x)", "::mlir::math::LogOp::create(b, loc, x)", "G / X", 8> { let summary = "Natural logarithm"; }
def Graph_Log1pOp : Graph_FloatUnary<"log1p", "std::log1p(x)", "::mlir::math::Log1pOp::create(b, loc, x)", "G / (1 + X)", 8> { let summary = "Natural logarithm of 1 + x"; }
def Graph_SqrtOp : Graph_FloatUnary<"sqrt", "std::sqrt(x)", "::mlir::math::SqrtOp::create(b, loc, x)", "0.5 * G / R"> { let summary = "Square root"; }
def Graph_RsqrtOp : Graph_FloatUnary<"rsqrt", "(1 / std::sqrt(x))", "scalar::rsqrt(b, loc, x)", "-0.5 * G * R * R * R"> { let summary = "1 / square root"; }
def Graph_ReciprocalOp : Graph_FloatUnary<"reciprocal", "(1 / x)", "scalar::reciprocal(b, loc, x)", "-G * R * R"> { let summary = "1 / x"; }
def Graph_SinOp : Graph_FloatUnary<"sin", "std::sin(x)", "::mlir::math::SinOp::create(b, loc, x)", "G * cos(X)", 16> { let summary = "Sine"; }
def Graph_CosOp : Graph_FloatUnary<"cos", "std::cos(x)", "::mlir::math::CosOp::create(b, loc, x)", "-G * sin(X)", 16> { let summary = "Cosine"; }
def Graph_TanOp : Graph_FloatUnary<"tan", "std::tan(x)", "::mlir::math::TanOp::create(b, loc, x)", "G * (1 + R * R)", 16> { let summary = "Tangent"; }
def Graph_AsinOp : Graph_FloatUnary<"asin", "std::asin(x)", "::mlir::math::AsinOp::create(b, loc, x)", "G * rsqrt(1 - X * X)", 16> { let summary = "Inverse sine"; }
def Graph_AcosOp : Graph_FloatUnary<"acos", "std::acos(x)", "::mlir::math::AcosOp::create(b, loc, x)", "-G * rsqrt(1 - X * X)", 16> { let summary = "Inverse cosine"; }
def Graph_AtanOp : Graph_FloatUnary<"atan", "std::atan(x)", "::mlir::math::AtanOp::create(b, loc, x)", "G / (1 + X * X)", 16> { let summary = "Inverse tangent"; }
def Graph_SinhOp : Graph_FloatUnary<"sinh", "std::sinh(x)", "::mlir::math::SinhOp::create(b, loc, x)", "G * cosh(X)", 16> { let summary = "Hyperbolic sine"; }
def Graph_CoshOp : Graph_FloatUnary<"cosh", "std::cosh(x)", "::mlir::math::CoshOp::create(b, loc, x)", "G * sinh(X)", 16> { let summary = "Hyperbolic cosine"; }
def Graph_AsinhOp : Graph_FloatUnary<"asinh", "std::asinh(x)", "::mlir::math::AsinhOp::create(b, loc, x)", "G * rsqrt(1 + X * X)", 16> { let summary = "Inverse hyperbolic sine"; }
def Graph_AcoshOp : Graph_FloatUnary<"acosh", "std::acosh(x)", "::mlir::math::AcoshOp::create(b, loc, x)", "G * rsqrt(X * X - 1)", 16> { let summary = "Inverse hyperbolic cosine"; }
def Graph_AtanhOp : Graph_FloatUnary<"atanh", "std::atanh(x)", "::mlir::math::AtanhOp::create(b, loc, x)", "G / (1 - X * X)", 16> { let summary = "Inverse hyperbolic tangent"; }
def Graph_TanhOp : Graph_FloatUnary<"tanh", "std::tanh(x)", "::mlir::math::TanhOp::create(b, loc, x)", "G * (1 - R * R)", 12> { let summary = "Hyperbolic tangent"; }
def Graph_ErfOp : Graph_FloatUnary<"erf", "std::erf(x)", "::mlir::math::ErfOp::create(b, loc, x)", "G * (1.1283791670955126 * exp(-X * X))", 12> { let summary = "Error function"; }
def Graph_SigmoidOp : Graph_FloatUnary<"sigmoid", "(1 / (1 + std::exp(-x)))", "scalar::sigmoid(b, loc, x)", "G * R * (1 - R)", 10> { let summary = "1 / (1 + exp(-x))"; }
def Graph_SiluOp : Graph_FloatUnary<"silu", "(x / (1 + std::exp(-x)))", "scalar::silu(b, loc, x)", "G * siluSlope(X)", 11> { let summary = "x * sigmoid(x), the gate of SwiGLU"; }
def Graph_GeluOp : Graph_FloatUnary<"gelu", "host::gelu(x)", "scalar::gelu(b, loc, x)", "G * geluSlope(X)", 14> { let summary = "x * Phi(x) by the error function"; }
def Graph_GeluTanhOp : Graph_FloatUnary<"gelu_tanh", "host::geluTanh(x)", "scalar::geluTanh(b, loc, x)", "G * geluTanhSlope(X)", 16> { let summary = "GELU by its tanh approximation (GPT-2, Gemma)"; }
def Graph_ReluOp : Graph_Unary<"relu", Graph_NumberTensor, "host::relu(x)", "scalar::relu(b, loc, x, isUnsigned)", "where(R > 0, G, 0)"> { let summary = "max(x, 0), keeping NaN"; }
def Graph_SoftplusOp : Graph_FloatUnary<"softplus", "host::softplus(x)", "scalar::softplus(b, loc, x)", "G * sigmoid(X)", 18> { let summary = "log(1 + exp(x))"; }
def Graph_FloorOp : Graph_FloatUnary<"floor", "std::floor(x)", "::mlir::math::FloorOp::create(b, loc, x)", ""> { let summary = "Largest integer not above x"; }
def Graph_CeilOp : Graph_FloatUnary<"ceil", "std::ceil(x)", "::mlir::math::CeilOp::create(b, loc, x)", ""> { let summary = "Smallest integer not below x"; }
def Graph_RoundOp : Graph_FloatUnary<"round", "std::nearbyint(x)", "::mlir::math::RoundEvenOp::create(b, loc, x)", ""> { let summary = "Nearest integer, ties to even"; }
def Graph_TruncOp : Graph_FloatUnary<"trunc", "std::trunc(x)", "::mlir::math::TruncOp::create(b, loc, x)", ""> { let summary = "Integer part"; }

//===----------------------------------------------------------------------===//
// Binary: mnemonic, value (x, y are double or int64_t), code, cotangents of x and y, FLOPs
//===----------------------------------------------------------------------===//

def Graph_AddOp : Graph_Binary<"add", Graph_NumberTensor, "host::add(x, y)", "scalar::add(b, loc, x, y)", "G", "G", [Commutative]> { let summary = "Sum"; }
def Graph_SubOp : Graph_Binary<"sub", Graph_NumberTensor, "host::sub(x, y)", "scalar::sub(b, loc, x, y)", "G", "-G"> { let summary = "Difference"; }
def Graph_MulOp : Graph_Binary<"mul", Graph_NumberTensor, "host::mul(x, y)", "scalar::mul(b, loc, x, y)", "G * Y", "G * X", [Commutative]> { let summary = "Product"; }
def Graph_DivOp : Graph_Binary<"div", Graph_NumberTensor, "host::div(x, y, isUnsigned)", "scalar::div(b, loc, x, y, isUnsigned)", "G / Y", "-G * R / Y", [], 4> {
  let summary = "Quotient; integers round toward zero, division by zero gives zero"; }
def Graph_PowOp : Graph_Binary<"pow", Graph_NumberTensor, "host::pow(x, y)", "scalar::pow(b, loc, x, y)", "where(Y == 0, 0, G * Y * pow(X, Y - 1))", "where(X == 0 && Y >= 0, 0, G * pow(X, Y) * log(X))", [], 20> { let summary = "x to the y"; }
def Graph_MaxOp : Graph_Binary<"max", Graph_NumberTensor, "host::max(x, y, isUnsigned)", "scalar::max(b, loc, x, y, isUnsigned)", "where(X > Y, G, where(X == Y, 0.5 * G, 0))", "where(Y > X, G, where(X == Y, 0.5 * G, 0))", [Commutative]> { let summary = "Maximum; NaN wins"; }
def Graph_MinOp : Graph_Binary<"min", Graph_NumberTensor, "host::min(x, y, isUnsigned)", "scalar::min(b, loc, x, y, isUnsigned)", "where(X < Y, G, where(X == Y, 0.5 * G, 0))", "where(Y < X, G, where(X == Y, 0.5 * G, 0))", [Commutative]> { let summary = "Minimum; NaN wins"; }
def Graph_RemOp : Graph_Binary<"rem", Graph_NumberTensor, "host::rem(x, y, isUnsigned)", "scalar::rem(b, loc, x, y, isUnsigned)", "G", "-G * trunc(X / Y)", [], 8> {
  let summary = "Remainder with the sign of x (C's fmod); by integer zero gives zero"; }
def Graph_ModOp : Graph_Binary<"mod", Graph_NumberTensor, "host::mod(x, y, isUnsigned)", "scalar::mod(b, loc, x, y, isUnsigned)", "G", "-G * floor(X / Y)", [], 8> {
  let summary = "Remainder with the sign of y (Python's %); by integer zero gives zero"; }
def Graph_AndOp : Graph_Binary<"and", Graph_BitsTensor, "host::bitAnd(x, y)", "scalar::bitAnd(b, loc, x, y)", "", "", [Commutative]> { let summary = "Bitwise (bool: logical) and"; }
def Graph_OrOp : Graph_Binary<"or", Graph_BitsTensor, "host::bitOr(x, y)", "scalar::bitOr(b, loc, x, y)", "", "", [Commutative]> { let summary = "Bitwise (bool: logical) or"; }
def Graph_XorOp : Graph_Binary<"xor", Graph_BitsTensor, "host::bitXor(x, y)", "scalar::bitXor(b, loc, x, y)", "", "", [Commutative]> { let summary = "Bitwise (bool: logical) exclusive or"; }
def Graph_ShlOp : Graph_Binary<"shl", Graph_IntTensor, "host::shl(x, y)", "scalar::shl(b, loc, x, y)", "", ""> { let summary = "Left shift"; }
def Graph_ShrOp : Graph_Binary<"shr", Graph_IntTensor, "host::shr(x, y, isUnsigned)", "scalar::shr(b, loc, x, y, isUnsigned)", "", ""> { let summary = "Right shift: logical for unsigned, arithmetic for signed"; }

//===----------------------------------------------------------------------===//
// Compare, select, cast, tests
//===----------------------------------------------------------------------===//

def Graph_Predicate : I32EnumAttr<"Predicate", "comparison", [
    I32EnumAttrCase<"EQ", 0, "eq">, I32EnumAttrCase<"NE", 1, "ne">, I32EnumAttrCase<"LT", 2, "lt">,
    I32EnumAttrCase<"LE", 3, "le">, I32EnumAttrCase<"GT", 4, "gt">, I32EnumAttrCase<"GE", 5, "ge">]> {
  let cppNamespace = "::shardc::graph";
}

class Graph_OtherElementwise<string mnemonic, list<Trait> traits = []>
    : Graph_Elementwise<mnemonic, traits> {
  let extraClassDefinition = shared # vjpNeeds;
}

def Graph_CompareOp : Graph_OtherElementwise<"compare", [SameOperandsAndResultShape, SameTypeOperands]> {
  let summary = "Comparison of two tensors; NaN compares unequal";
  let description = [{
    ```mlir
    %m = graph.compare le %a, %b : tensor<4xi64> -> tensor<4xi1>
    ```
  }];
  let arguments = (ins Graph_Predicate:$predicate, Graph_Tensor:$lhs, Graph_Tensor:$rhs);
  let results = (outs Graph_BoolTensor:$result);
  let assemblyFormat = "$predicate $lhs `,` $rhs attr-dict `:` type($lhs) `->` type($result)";
  let builders = [OpBuilder<(ins "::shardc::graph::Predicate":$predicate, "::mlir::Value":$lhs, "::mlir::Value":$rhs)>];
}

def Graph_SelectOp : Graph_OtherElementwise<"select", [SameOperandsAndResultShape,
      AllTypesMatch<["onTrue", "onFalse", "result"]>]> {
  let summary = "Elementwise choice";
  let arguments = (ins Graph_BoolTensor:$condition, Graph_Tensor:$onTrue, Graph_Tensor:$onFalse);
  let results = (outs Graph_Tensor:$result);
  let vjpOperands = [0];
  let assemblyFormat = "$condition `,` $onTrue `,` $onFalse attr-dict `:` type($condition) `,` type($result)";
}

def Graph_CastOp : Graph_OtherElementwise<"cast", [SameOperandsAndResultShape]> {
  let summary = "Conversion of the element type";
  let description = [{
    Float to integer rounds toward zero; to bool is `x != 0`; to a narrower float rounds to nearest even;
    integer to a narrower integer keeps the low bits.

    What is beyond the largest 8-bit float becomes infinite (f8E5M2) or NaN (f8E4M3FN, which has no infinity); with `saturate`,
    as infinities too, it becomes the largest. NaN stays NaN.

    * cast_c1: `saturate` stands on casts to 8-bit floats only.
  }];
  let arguments = (ins Graph_Tensor:$input, UnitAttr:$saturate);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let builders = [OpBuilder<(ins "::mlir::Value":$input, "::mlir::Type":$elementType)>];
  let hasFolder = 1;
  let hasVerifier = 1;
}

def Graph_QuantizeOp : Graph_OtherElementwise<"quantize", [SameOperandsAndResultShape]> {
  let summary = "Scaled to an 8-bit float: what a product in 8 bits reads";
  let description = [{
    result = cast(f32(input) * scale), rounded to nearest even, saturating. For the derivative it is the identity, as if nothing were
    rounded, and the scale a constant: a cotangent of the result is one of the input, in the type of whatever read the result.

    ```mlir
    %q = graph.quantize %x, %s : tensor<4x16xbf16>, tensor<4x16xf32> -> tensor<4x16xf8E4M3FN>
    ```
  }];
  let flops = 2;
  let arguments = (ins Graph_FloatTensor:$input, Graph_ScaleTensor:$scale);
  let results = (outs Graph_Float8Tensor:$result);
  let assemblyFormat = "$input `,` $scale attr-dict `:` type($input) `,` type($scale) `->` type($result)";
  let builders = [OpBuilder<(ins "::mlir::Value":$input, "::mlir::Value":$scale, "::mlir::Type":$elementType)>];
}

def Graph_IsNanOp : Graph_OtherElementwise<"is_nan", [SameOperandsAndResultShape]> {
  let summary = "True where x is NaN";
  let arguments = (ins Graph_FloatTensor:$input);
  let results = (outs Graph_BoolTensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
}

def Graph_IsInfOp : Graph_OtherElementwise<"is_inf", [SameOperandsAndResultShape]> {
  let summary = "True where x is infinite (of the wanted signs)";
  let arguments = (ins Graph_FloatTensor:$input, DefaultValuedAttr<BoolAttr, "true">:$positive,
                       DefaultValuedAttr<BoolAttr, "true">:$negative);
  let results = (outs Graph_BoolTensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
}

#endif // SHARDC_GRAPH_ELEMENTWISE_TD
