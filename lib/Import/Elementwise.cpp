//===- Elementwise.cpp - Arithmetic, comparison, logic, casts -------------===//

#include "NodeContext.h"
#include "shardc/Support/ElementBytes.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

template <typename Op> static LogicalResult importUnary(NodeContext &n) {
  return n.done(n.create<Op>(n.input(0)));
}

/// Rounding: integers are already round.
template <typename Op> static LogicalResult importRounding(NodeContext &n) {
  return isFloat(n.input(0)) ? importUnary<Op>(n) : n.done(n.input(0));
}

template <typename Op> static LogicalResult importBinary(NodeContext &n) {
  FailureOr<Value> result = n.checkedBinary<Op>(n.input(0), n.input(1));
  return failed(result) ? failure() : n.done(*result);
}

/// Sum, Max, Min of any number of operands.
template <typename Op> static LogicalResult importVariadic(NodeContext &n) {
  Value result = n.input(0);
  for (Value operand : llvm::drop_begin(n.allInputs())) {
    FailureOr<Value> next = n.checkedBinary<Op>(result, operand);
    if (failed(next))
      return failure();
    result = *next;
  }
  return n.done(result);
}

static LogicalResult importMean(NodeContext &n) {
  if (failed(importVariadic<AddOp>(n)))
    return failure();
  Value sum = n.outputs[0].value;
  return n.done(n.binary<DivOp>(sum, static_cast<double>(n.allInputs().size())));
}

template <Predicate predicate> static LogicalResult importCompare(NodeContext &n) {
  if (failed(n.broadcastShape(n.input(0), n.input(1))))
    return failure();
  return n.done(n.compare(predicate, n.input(0), n.input(1)));
}

/// The exponent may have another type; small constant ones are multiplications and roots.
static LogicalResult importPow(NodeContext &n) {
  Value base = n.input(0), exponent = n.input(1);
  FailureOr<Shape> shape = n.broadcastShape(base, exponent);
  if (failed(shape))
    return failure();
  if (n.folder.isConstant(exponent) && typeOf(exponent).getNumElements() == 1 &&
      shapeOf(base) == ArrayRef(*shape)) {
    FailureOr<double> power = n.constantFloat(1);
    if (failed(power))
      return failure();
    if (*power == 1)
      return n.done(base);
    if (*power == 2)
      return n.done(n.binary<MulOp>(base, base));
    if (isFloat(base) && *power == 0.5)
      return n.done(n.create<SqrtOp>(base));
  }
  // A float power of an integer must not lose the fraction of the exponent.
  if (!isFloat(base) && isFloat(exponent)) {
    Value wide = n.binary<PowOp>(n.cast(base, elementOf(exponent)), exponent);
    return n.done(n.cast(wide, elementOf(base)));
  }
  return n.done(n.binary<PowOp>(base, n.cast(exponent, elementOf(base))));
}

static LogicalResult importMod(NodeContext &n) {
  return n.getInt("fmod", 0) ? importBinary<RemOp>(n) : importBinary<ModOp>(n);
}

static LogicalResult importBitShift(NodeContext &n) {
  StringRef direction = n.getString("direction", "");
  if (direction == "LEFT")
    return importBinary<ShlOp>(n);
  if (direction == "RIGHT")
    return importBinary<ShrOp>(n);
  return n.error() << "direction \"" << direction << "\" is neither LEFT nor RIGHT";
}

static LogicalResult importClip(NodeContext &n) {
  Value x = n.input(0);
  auto bound = [&](unsigned i, StringRef name) -> FailureOr<Value> {
    if (n.version < 11)
      return n.find(name) ? n.splatLike(x, n.getFloat(name, 0)) : Value();
    Value value = n.input(i);
    if (value && typeOf(value).getNumElements() != 1)
      return n.error() << name << " has shape " << shapeText(shapeOf(value))
                       << ", expected a scalar";
    return value ? n.reshape(value, {}) : value;
  };
  FailureOr<Value> low = bound(1, "min"), high = bound(2, "max");
  if (failed(low) || failed(high))
    return failure();
  if (*low)
    x = n.binary<MaxOp>(x, *low);
  if (*high)
    x = n.binary<MinOp>(x, *high);
  return n.done(x);
}

static LogicalResult importWhere(NodeContext &n) {
  FailureOr<Shape> shape = n.broadcastShape(n.input(1), n.input(2));
  if (failed(shape))
    return failure();
  if (!broadcastShapes(*shape, shapeOf(n.input(0))))
    return n.error() << "condition of shape " << shapeText(shapeOf(n.input(0)))
                     << " does not broadcast to " << shapeText(*shape);
  return n.done(n.select(n.input(0), n.input(1), n.input(2)));
}

/// `saturate` is about 8-bit floats only.
static LogicalResult importCastTo(NodeContext &n, Type type) {
  return n.done(n.cast(n.input(0), type, isFloat8(type) && n.getInt("saturate", 1) != 0));
}

static LogicalResult importCast(NodeContext &n) {
  FailureOr<Type> type = n.elementType(n.getInt("to", 0));
  return failed(type) ? failure() : importCastTo(n, *type);
}

static LogicalResult importCastLike(NodeContext &n) {
  return importCastTo(n, elementOf(n.input(1)));
}

static LogicalResult importIsInf(NodeContext &n) {
  auto type = typeOf(n.input(0)).clone(n.b.getI1Type());
  return n.done(n.create<IsInfOp>(type, n.input(0), n.getInt("detect_positive", 1) != 0,
                                  n.getInt("detect_negative", 1) != 0));
}

static LogicalResult importIsNan(NodeContext &n) {
  return n.done(n.create<IsNanOp>(typeOf(n.input(0)).clone(n.b.getI1Type()), n.input(0)));
}

static LogicalResult importIdentity(NodeContext &n) {
  n.outputs[0] = n.inputs[0]; // a sequence too
  return success();
}

void addElementwise(OperatorTable &table) {
  table["Neg"] = {importUnary<NegOp>};
  table["Abs"] = {importUnary<AbsOp>};
  table["Sign"] = {importUnary<SignOp>};
  table["Not"] = table["BitwiseNot"] = {importUnary<NotOp>};
  table["Exp"] = {importUnary<ExpOp>};
  table["Log"] = {importUnary<LogOp>};
  table["Sqrt"] = {importUnary<SqrtOp>};
  table["Reciprocal"] = {importUnary<ReciprocalOp>};
  table["Sin"] = {importUnary<SinOp>};
  table["Cos"] = {importUnary<CosOp>};
  table["Tan"] = {importUnary<TanOp>};
  table["Asin"] = {importUnary<AsinOp>};
  table["Acos"] = {importUnary<AcosOp>};
  table["Atan"] = {importUnary<AtanOp>};
  table["Sinh"] = {importUnary<SinhOp>};
  table["Cosh"] = {importUnary<CoshOp>};
  table["Asinh"] = {importUnary<AsinhOp>};
  table["Acosh"] = {importUnary<AcoshOp>};
  table["Atanh"] = {importUnary<AtanhOp>};
  table["Tanh"] = {importUnary<TanhOp>};
  table["Erf"] = {importUnary<ErfOp>};
  table["Sigmoid"] = {importUnary<SigmoidOp>};
  table["Floor"] = {importRounding<FloorOp>};
  table["Ceil"] = {importRounding<CeilOp>};
  table["Round"] = {importRounding<RoundOp>};
  table["Add"] = {importBinary<AddOp>, 2};
  table["Sub"] = {importBinary<SubOp>, 2};
  table["Mul"] = {importBinary<MulOp>, 2};
  table["Div"] = {importBinary<DivOp>, 2};
  table["And"] = table["BitwiseAnd"] = {importBinary<AndOp>, 2};
  table["Or"] = table["BitwiseOr"] = {importBinary<OrOp>, 2};
  table["Xor"] = table["BitwiseXor"] = {importBinary<XorOp>, 2};
  table["Pow"] = {importPow, 2};
  table["Mod"] = {importMod, 2};
  table["BitShift"] = {importBitShift, 2};
  table["Sum"] = {importVariadic<AddOp>};
  table["Max"] = {importVariadic<MaxOp>};
  table["Min"] = {importVariadic<MinOp>};
  table["Mean"] = {importMean};
  table["Equal"] = {importCompare<Predicate::EQ>, 2};
  table["Less"] = {importCompare<Predicate::LT>, 2};
  table["LessOrEqual"] = {importCompare<Predicate::LE>, 2};
  table["Greater"] = {importCompare<Predicate::GT>, 2};
  table["GreaterOrEqual"] = {importCompare<Predicate::GE>, 2};
  table["Clip"] = {importClip};
  table["Where"] = {importWhere, 3};
  table["Cast"] = {importCast};
  table["CastLike"] = {importCastLike, 2};
  table["IsInf"] = {importIsInf};
  table["IsNaN"] = {importIsNan};
  table["Identity"] = {importIdentity};
}

} // namespace shardc::importer
