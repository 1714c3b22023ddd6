//===- DifferenceTest.cpp - Every vector-Jacobian product against central differences -===//
//
// For every op of the graph dialect with float operands: a function of this one op, its VJP with
// random cotangents, interpreted in f64, and for every element of every float argument the
// difference quotient of <cotangents, results>.
//
//===----------------------------------------------------------------------===//

#include "Testing.h"

#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/StringSet.h"

#include <random>

using namespace mlir;

namespace shardc {

//===----------------------------------------------------------------------===//
// Building
//===----------------------------------------------------------------------===//

DerivativeTest::DerivativeTest() : context(MLIRContext::Threading::DISABLED) {
  context.loadDialect<func::FuncDialect, graph::GraphDialect, shard::ShardDialect>();
}

OwningOpRef<ModuleOp> DerivativeTest::parse(const DerivativeCase &test) {
  std::string text = prelude + "func.func @main(", types, values;
  for (size_t n = 0; n < test.arguments.size(); ++n)
    text += (n ? ", %" : "%") + std::to_string(n) + ": tensor<" + test.arguments[n] + ">";
  for (size_t n = 0; n < test.results.size(); ++n) {
    types += (n ? ", tensor<" : "tensor<") + test.results[n] + ">";
    values += (n ? ", %r#" : "%r#") + std::to_string(n);
  }
  text += ") -> (" + types + ") {\n%r:" + std::to_string(test.results.size()) + " = " + test.op +
          "\nreturn " + values + " : " + types + "\n}\n";
  return parseSourceString<ModuleOp>(text, &context);
}

Operation *DerivativeTest::testedOp(ModuleOp module) {
  auto function = *module.getOps<func::FuncOp>().begin();
  return &function.getBody().front().front();
}

static RankedTensorType typeOf(Value value) { return cast<RankedTensorType>(value.getType()); }
static bool isFloat(Value value) { return isa<FloatType>(typeOf(value).getElementType()); }

void DerivativeTest::buildVJP(const DerivativeCase &test, VJP &made) {
  made.module = parse(test);
  ASSERT_TRUE(made.module) << test.op;
  auto function = *made.module->getOps<func::FuncOp>().begin();
  Block &block = function.getBody().front();
  Operation *op = made.op = testedOp(*made.module);
  SmallVector<Value> given;
  for (Value result : op->getResults())
    given.push_back(isFloat(result) ? block.addArgument(result.getType(), op->getLoc()) : Value());
  OpBuilder builder(block.getTerminator());
  auto cotangents = cast<graph::DerivativeOpInterface>(op).buildVJP(builder, given);
  ASSERT_TRUE(succeeded(cotangents)) << test.op;
  ASSERT_EQ(cotangents->size(), op->getNumOperands()) << test.op;
  SmallVector<Value> returned;
  for (auto [operand, cotangent] : llvm::zip(op->getOperands(), *cotangents)) {
    made.present.push_back(static_cast<bool>(cotangent));
    if (!cotangent)
      continue;
    EXPECT_TRUE(isFloat(operand)) << test.op << ": cotangent of an integer operand";
    EXPECT_EQ(cotangent.getType(), operand.getType()) << test.op;
    returned.push_back(cotangent);
  }
  block.getTerminator()->setOperands(returned);
  function.setType(
      builder.getFunctionType(block.getArgumentTypes(), ValueRange(returned).getTypes()));
  for (Operation &dead : llvm::make_early_inc_range(llvm::reverse(block)))
    if (&dead != op && isOpTriviallyDead(&dead))
      dead.erase();
  ASSERT_TRUE(succeeded(made.module->verify())) << test.op;
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

SmallVector<HostTensor> DerivativeTest::randomArguments(ModuleOp module,
                                                        const DerivativeCase &test) {
  auto function = *module.getOps<func::FuncOp>().begin();
  std::mt19937 random(7);
  std::uniform_real_distribution<double> floats(test.low, test.high);
  std::uniform_int_distribution<int64_t> integers(0, test.indexBound - 1);
  SmallVector<HostTensor> result;
  for (size_t n = 0; n < test.arguments.size(); ++n) {
    HostTensor tensor(typeOf(function.getArgument(n)));
    for (double &x : tensor.f)
      x = floats(random);
    for (int64_t &x : tensor.i)
      x = integers(random);
    if (auto given = test.values.find(n); given != test.values.end()) {
      if (tensor.isFloat())
        tensor.f = given->second;
      else
        tensor.i.assign(given->second.begin(), given->second.end());
      EXPECT_EQ(tensor.size(), static_cast<int64_t>(given->second.size())) << test.op;
    }
    tensor.round();
    result.push_back(std::move(tensor));
  }
  return result;
}

SmallVector<HostTensor> DerivativeTest::randomCotangents(Operation *op) {
  std::mt19937 random(11);
  std::uniform_real_distribution<double> floats(-1, 1);
  SmallVector<HostTensor> result;
  for (Value value : op->getResults()) {
    if (!isFloat(value))
      continue;
    HostTensor tensor(typeOf(value));
    for (double &x : tensor.f)
      x = floats(random);
    tensor.round();
    result.push_back(std::move(tensor));
  }
  return result;
}

std::vector<HostTensor> DerivativeTest::run(VJP &made, ArrayRef<HostTensor> arguments,
                                            ArrayRef<HostTensor> cotangents) {
  SmallVector<HostTensor> inputs(arguments);
  inputs.append(cotangents.begin(), cotangents.end());
  auto outputs = interpret(*made.module, inputs);
  std::vector<HostTensor> sums(arguments.size());
  EXPECT_TRUE(succeeded(outputs));
  if (failed(outputs))
    return sums;
  const HostTensor *output = outputs->begin();
  for (auto [operand, present] : llvm::zip(made.op->getOperands(), made.present)) {
    if (!present)
      continue;
    HostTensor &sum = sums[cast<BlockArgument>(operand).getArgNumber()];
    if (!sum.type)
      sum = HostTensor(output->type);
    for (size_t n = 0; n < sum.f.size(); ++n)
      sum.f[n] += output->f[n];
    ++output;
  }
  return sums;
}

/// Elementwise ops need no entry: same type in and out. Where a function is not defined everywhere,
/// or steep, it has a range; integer points, where some have steps, are not hit.
std::vector<DerivativeCase> DerivativeTest::elementwiseCases() {
  static const std::map<std::string, std::pair<double, double>> ranges = {
      {"graph.log", {0.2, 4}},    {"graph.log1p", {-0.8, 4}},   {"graph.sqrt", {0.2, 4}},
      {"graph.rsqrt", {0.2, 4}},  {"graph.asin", {-0.9, 0.9}},  {"graph.acos", {-0.9, 0.9}},
      {"graph.acosh", {1.2, 4}},  {"graph.atanh", {-0.9, 0.9}}, {"graph.pow", {0.2, 3}},
      {"graph.tan", {-1.2, 1.2}}, {"graph.div", {0.3, 2}},      {"graph.reciprocal", {0.3, 2}},
  };
  std::vector<DerivativeCase> cases;
  ScopedDiagnosticHandler quiet(&context, [](Diagnostic &) { return success(); });
  for (RegisteredOperationName name : context.getRegisteredOperations()) {
    if (name.getDialectNamespace() != "graph" || !name.hasTrait<OpTrait::Elementwise>())
      continue;
    for (const char *operands : {"%0", "%0, %1", "%0, %0"}) {
      DerivativeCase test{name.getStringRef().str() + " " + operands + " : tensor<3x7xf64>",
                          {"3x7xf64", "3x7xf64"},
                          {"3x7xf64"}};
      if (auto range = ranges.find(test.name()); range != ranges.end())
        std::tie(test.low, test.high) = range->second;
      if (parse(test))
        cases.push_back(test);
    }
  }
  return cases;
}

//===----------------------------------------------------------------------===//
// Tests
//===----------------------------------------------------------------------===//

namespace {

class Difference : public DerivativeTest {
protected:
  /// <cotangents, results> of the forward op.
  double product(Operation *op, ArrayRef<HostTensor> arguments, ArrayRef<HostTensor> cotangents) {
    SmallVector<HostTensor> operands;
    for (Value operand : op->getOperands())
      operands.push_back(arguments[cast<BlockArgument>(operand).getArgNumber()]);
    auto results = cast<graph::EvaluateOpInterface>(op).evaluate(operands);
    EXPECT_TRUE(succeeded(results));
    double sum = 0;
    const HostTensor *cotangent = cotangents.begin();
    for (const HostTensor &result : *results) {
      if (!result.isFloat())
        continue;
      for (size_t n = 0; n < result.f.size(); ++n)
        sum += cotangent->f[n] * result.f[n];
      ++cotangent;
    }
    return sum;
  }

  void check(const DerivativeCase &test) {
    SCOPED_TRACE(test.op);
    VJP made;
    ASSERT_NO_FATAL_FAILURE(buildVJP(test, made));
    SmallVector<HostTensor> arguments = randomArguments(*made.module, test),
                            cotangents = randomCotangents(made.op);
    std::vector<HostTensor> actual = run(made, arguments, cotangents);
    for (size_t a = 0; a < arguments.size(); ++a) {
      for (size_t n = 0; n < arguments[a].f.size(); ++n) {
        double x = arguments[a].f[n], step = 1e-5;
        arguments[a].f[n] = x + step;
        double above = product(made.op, arguments, cotangents);
        arguments[a].f[n] = x - step;
        double below = product(made.op, arguments, cotangents);
        arguments[a].f[n] = x;
        double expected = (above - below) / (2 * step), given = actual[a].type ? actual[a].f[n] : 0;
        EXPECT_NEAR(given, expected, 1e-6 * std::max(1.0, std::abs(expected)))
            << "argument " << a << ", element " << n;
        ++checked;
      }
    }
    checkReads(test, made);
  }

  /// needsOperand and needsResult say what the VJP reads: no less, and no more when nothing of it
  /// is dead.
  void checkReads(const DerivativeCase &test, VJP &made) {
    auto derivative = cast<graph::DerivativeOpInterface>(made.op);
    auto isRead = [&](Value value) {
      return llvm::any_of(value.getUsers(), [&](Operation *user) { return user != made.op; });
    };
    for (OpOperand &operand : made.op->getOpOperands()) {
      if (llvm::count(made.op->getOperands(), operand.get()) > 1)
        continue;
      EXPECT_EQ(derivative.needsOperand(operand.getOperandNumber()), isRead(operand.get()))
          << "operand " << operand.getOperandNumber();
    }
    for (OpResult result : made.op->getResults())
      EXPECT_EQ(derivative.needsResult(result.getResultNumber()), isRead(result))
          << "result " << result.getResultNumber();
  }

  /// The same in bf16 is what f64 gives, rounded about once.
  void checkHalf(DerivativeCase test) {
    SCOPED_TRACE(test.op + " in bf16");
    VJP wide, half;
    ASSERT_NO_FATAL_FAILURE(buildVJP(test, wide));
    auto narrow = [](std::string &text) {
      for (size_t at; (at = text.find("f64")) != std::string::npos;)
        text.replace(at, 3, "bf16");
    };
    narrow(test.op);
    for (std::string &type : test.arguments)
      narrow(type);
    for (std::string &type : test.results)
      narrow(type);
    ASSERT_NO_FATAL_FAILURE(buildVJP(test, half));
    SmallVector<HostTensor> arguments = randomArguments(*half.module, test),
                            cotangents = randomCotangents(half.op);
    std::vector<HostTensor> actual = run(half, arguments, cotangents);
    auto retype = [](HostTensor &tensor) {
      if (tensor.isFloat())
        tensor.type = tensor.type.clone(Float64Type::get(tensor.type.getContext()));
    };
    llvm::for_each(arguments, retype);
    llvm::for_each(cotangents, retype);
    std::vector<HostTensor> expected = run(wide, arguments, cotangents);
    for (size_t a = 0; a < actual.size(); ++a) {
      ASSERT_EQ(actual[a].f.size(), expected[a].f.size());
      double largest = 0;
      for (double x : expected[a].f)
        largest = std::max(largest, std::abs(x));
      for (size_t n = 0; n < actual[a].f.size(); ++n)
        EXPECT_NEAR(actual[a].f[n], expected[a].f[n], largest / 64)
            << "argument " << a << ", element " << n;
    }
  }

  int checked = 0;
};

TEST_F(Difference, EveryStructuredOp) {
  for (const DerivativeCase &test : structuredCases())
    check(test);
  EXPECT_GT(checked, 1000);
}

TEST_F(Difference, EveryElementwiseOp) {
  for (const DerivativeCase &test : elementwiseCases())
    check(test);
  EXPECT_GT(checked, 1000);
}

TEST_F(Difference, SixteenBitFloatsRoundOnce) {
  for (const DerivativeCase &test : structuredCases())
    checkHalf(test);
  for (const DerivativeCase &test : elementwiseCases())
    checkHalf(test);
}

/// A new op must come into one of the tables.
TEST_F(Difference, NoOpIsForgotten) {
  llvm::StringSet<> covered;
  for (const DerivativeCase &test : structuredCases())
    covered.insert(test.name());
  for (const DerivativeCase &test : elementwiseCases())
    covered.insert(test.name());
  for (RegisteredOperationName name : context.getRegisteredOperations())
    if (name.getDialectNamespace() == "graph")
      EXPECT_NE(covered.contains(name.getStringRef()),
                withoutDerivative().count(name.getStringRef().str()) != 0)
          << name.getStringRef().str() << " needs a case, or a reason why it has none";
}

} // namespace
} // namespace shardc
