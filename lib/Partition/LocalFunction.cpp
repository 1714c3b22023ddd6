//===- LocalFunction.cpp - One function on its way from global to local ---===//
//
// Input:  a function on whole tensors; shardings of arguments, parameters and (some) values.
// Output: the same function on the parts of one device, collectives included.
//
// Ops are visited in order. For each:
//   1. its sharding rule, the shardings that its operands have and that its results shall have
//      choose the axes of every factor (chooseFactorAxes);
//   2. operands are resharded to what the op then needs; a reshard is made once for all users of a
//      value;
//   3. the padded tail of unevenly cut dimensions that the op reduces is made neutral;
//   4. the op is built on local operands with local types (LocalizeOpInterface where that is not
//      enough);
//   5. results are resharded to what the program says about them, pending reductions resolved.
//
// Limits: one block; a value is resharded where it is first needed.
//
//===----------------------------------------------------------------------===//

#include "LocalFunction.h"

using namespace mlir;
using namespace shardc;

static RankedTensorType tensorType(Value value) { return cast<RankedTensorType>(value.getType()); }

static Shape shapeOf(RankedTensorType type) {
  return Shape(type.getShape().begin(), type.getShape().end());
}

static Sharding replicated(RankedTensorType type) { return Sharding::replicated(type.getRank()); }

/// What spoke of the global value does not hold for the local op.
static void removeGlobalAttrs(Operation *op) {
  for (StringRef name :
       {StringRef(shard::ShardDialect::kShardingsAttr), StringRef(shard::ShardDialect::kOriginAttr),
        StringRef(shard::ShardDialect::kConflictsAttr)})
    op->removeAttr(name);
}

//===----------------------------------------------------------------------===//
// Shardings of the program
//===----------------------------------------------------------------------===//

FailureOr<std::optional<Sharding>> LocalFunction::resolve(Operation *op, shard::ShardingAttr attr,
                                                          Type type) {
  if (!attr)
    return std::optional<Sharding>();
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor)
    return op->emitOpError() << "has a sharding for " << type << ", which is not a ranked tensor";
  if (attr.getMesh() != resharder.getSymbol())
    return op->emitOpError() << "has a sharding on mesh " << attr.getMesh()
                             << ", the module's mesh is " << resharder.getSymbol();
  Result<Sharding> sharding = attr.resolve(mesh);
  if (!sharding)
    return op->emitOpError() << sharding.error;
  if (Error error = verify(mesh, *sharding, shapeOf(tensor)))
    return op->emitOpError() << *error;
  return std::optional<Sharding>(canonical(*sharding));
}

FailureOr<std::optional<Sharding>> LocalFunction::annotated(Operation *op, unsigned result) {
  return resolve(op, shard::getSharding(op->getResult(result)), op->getResult(result).getType());
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

FailureOr<Value> LocalFunction::get(Value global, const Sharding &to, const ReshardReason &reason) {
  LocalValue &local = values[global];
  if (local.value && sameLayout(local.sharding, to))
    return local.value;
  for (auto &[sharding, value] : local.reshards)
    if (sameLayout(sharding, to))
      return value;
  Value made;
  if (local.splat && to.partial.empty()) {
    RankedTensorType type = localType(to, tensorType(global));
    made = graph::ConstantOp::create(builder, global.getLoc(),
                                     cast<ElementsAttr>(local.splat.resizeSplat(type)));
  } else {
    FailureOr<Value> value =
        resharder.reshard(builder, local.value, tensorType(global), local.sharding, to, reason);
    if (failed(value))
      return failure();
    made = *value;
    if (local.sharding.isReplicated() && to.partial.empty())
      zeroPadded.insert(made); // slices of a whole tensor
  }
  local.reshards.push_back({to, made});
  return made;
}

LogicalResult LocalFunction::define(OpResult global, Value local, const Sharding &made,
                                    StringRef choice) {
  Operation *op = global.getOwner();
  if (local.getType() != localType(made, tensorType(global)))
    return op->emitOpError() << "is partitioned to " << local.getType() << ", its sharding "
                             << str(mesh, made) << " asks for "
                             << localType(made, tensorType(global));
  FailureOr<std::optional<Sharding>> wanted = annotated(op, global.getResultNumber());
  if (failed(wanted))
    return failure();
  Sharding to = made;
  to.partial.clear();
  if (*wanted)
    to = **wanted;
  values[global] = {made, local, {}, {}};
  if (sameLayout(made, to))
    return success();
  FailureOr<Value> resharded =
      get(global, to, {op, "result " + std::to_string(global.getResultNumber()), choice});
  if (failed(resharded))
    return failure();
  values[global] = {to, *resharded, {}, {{made, local}}};
  return success();
}

LogicalResult LocalFunction::addArguments() {
  Block &body = function.getBody().front();
  Block *block = new Block();
  function.getBody().push_back(block);
  builder.setInsertionPointToStart(block);
  for (BlockArgument argument : body.getArguments()) {
    auto type = dyn_cast<RankedTensorType>(argument.getType());
    if (!type)
      return function.emitOpError() << "argument " << argument.getArgNumber() << " has type "
                                    << argument.getType() << ", expected a ranked tensor";
    FailureOr<std::optional<Sharding>> sharding =
        resolve(function, shard::getSharding(argument), type);
    if (failed(sharding))
      return failure();
    Sharding own = sharding->value_or(replicated(type));
    Value local = block->addArgument(localType(own, type), argument.getLoc());
    values[argument] = {own, local, {}, {}};
    signatures[function.getName()].arguments.push_back(own);
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Sources, calls, reshards
//===----------------------------------------------------------------------===//

/// Cut where it is used: a device keeps the parts that it needs, without communication.
LogicalResult LocalFunction::convertConstant(graph::ConstantOp op) {
  auto splat = dyn_cast<SplatElementsAttr>(op.getValue());
  Value whole;
  if (!splat)
    whole = graph::ConstantOp::create(builder, op.getLoc(), op.getValue());
  values[op.getResult()] = {replicated(op.getType()), whole, splat, {}};
  return success();
}

/// The loader cuts it: sharding and global type stay on the op.
LogicalResult LocalFunction::convertParameter(graph::ParameterOp op) {
  FailureOr<std::optional<Sharding>> sharding = annotated(op, 0);
  if (failed(sharding))
    return failure();
  Sharding own = sharding->value_or(replicated(op.getType()));
  if (!own.partial.empty())
    return op.emitOpError() << "cannot be pending, its sharding is " << str(mesh, own);
  auto local = cast<graph::ParameterOp>(builder.clone(*op));
  local.getResult().setType(localType(own, op.getType()));
  shard::setSharding(local.getResult(), shard::ShardingAttr::get(resharder.getSymbol(), mesh, own));
  if (!own.isReplicated())
    local->setAttr(graph::GraphDialect::kGlobalTypeAttr, TypeAttr::get(op.getType()));
  zeroPadded.insert(local.getResult());
  values[op.getResult()] = {own, local.getResult(), {}, {}};
  return success();
}

LogicalResult LocalFunction::convertReshard(Operation &op, shard::ShardingAttr attr) {
  // Propagation may have filled open dimensions.
  if (shard::ShardingAttr propagated = shard::getSharding(op.getResult(0)))
    attr = propagated;
  FailureOr<std::optional<Sharding>> to = resolve(&op, attr, op.getResult(0).getType());
  if (failed(to))
    return failure();
  FailureOr<Value> local = get(op.getOperand(0), **to, {&op, "result 0"});
  if (failed(local))
    return failure();
  return define(op.getResult(0), *local, **to);
}

LogicalResult LocalFunction::convertCall(func::CallOp op) {
  const Signature &callee = signatures[op.getCallee()];
  SmallVector<Value> operands;
  for (OpOperand &operand : op->getOpOperands()) {
    unsigned number = operand.getOperandNumber();
    FailureOr<Value> local =
        get(operand.get(), callee.arguments[number], {op, "operand " + std::to_string(number)});
    if (failed(local))
      return failure();
    operands.push_back(*local);
  }
  SmallVector<Type> types;
  for (auto [result, sharding] : llvm::zip(op.getResults(), callee.results))
    types.push_back(localType(sharding, tensorType(result)));
  Operation *call = graph::cloneLocal(builder, op, operands, types);
  removeGlobalAttrs(call);
  for (auto [global, local, sharding] :
       llvm::zip(op->getOpResults(), call->getResults(), callee.results))
    if (failed(define(global, local, sharding)))
      return failure();
  return success();
}

/// `local` with zeros in the padding of all dimensions that are cut unevenly.
Value LocalFunction::zeroPadding(Value global, Value local, const Sharding &sharding) {
  for (auto [dim, size] : llvm::enumerate(tensorType(global).getShape()))
    if (isUneven(sharding, dim, size))
      local = maskPadding(builder, global.getLoc(), local, dim, size,
                          begins.get(builder, global.getLoc(), sharding.dims[dim].axes, size),
                          ReduceKind::Sum);
  return local;
}

LogicalResult LocalFunction::convertReturn(func::ReturnOp op) {
  SmallVector<Value> operands;
  for (OpOperand &operand : op->getOpOperands()) {
    unsigned number = operand.getOperandNumber();
    auto attr = function.getResultAttrOfType<shard::ShardingAttr>(
        number, shard::ShardDialect::kShardingAttr);
    FailureOr<std::optional<Sharding>> wanted = resolve(function, attr, operand.get().getType());
    if (failed(wanted))
      return failure();
    Sharding to = wanted->value_or(values[operand.get()].sharding);
    FailureOr<Value> local = get(operand.get(), to, {op, "result " + std::to_string(number)});
    if (failed(local))
      return failure();
    // The padding of a gradient takes part in norms and updates.
    if (function.getResultAttr(number, graph::GraphDialect::kGradientAttr) &&
        !zeroPadded.contains(*local))
      local = zeroPadding(operand.get(), *local, to);
    operands.push_back(*local);
    signatures[function.getName()].results.push_back(to);
  }
  func::ReturnOp::create(builder, op.getLoc(), operands);
  return success();
}

//===----------------------------------------------------------------------===//
// Ops with a sharding rule
//===----------------------------------------------------------------------===//

bool shardc::isWeight(Value value, const Weights &arguments) {
  while (Operation *op = value.getDefiningOp()) {
    if (!isa<graph::TransposeOp, graph::ReshapeOp, graph::CastOp>(op))
      return isa<graph::ParameterOp>(op);
    value = op->getOperand(0);
  }
  return arguments.contains(value);
}

FailureOr<FactorAssignment> LocalFunction::choose(Operation *op, const ShardingRule &rule) {
  FactorRequest request;
  auto info = [](Value value) {
    return TensorInfo{shapeOf(tensorType(value)), elementBytes(tensorType(value).getElementType())};
  };
  for (Value operand : op->getOperands()) {
    request.operandTypes.push_back(info(operand));
    request.operandTypes.back().isWeight = isWeight(operand, weights);
    request.operands.push_back(values[operand].sharding);
  }
  for (OpResult result : op->getResults()) {
    request.resultTypes.push_back(info(result));
    FailureOr<std::optional<Sharding>> wanted = annotated(op, result.getResultNumber());
    if (failed(wanted))
      return failure();
    request.results.push_back(*wanted);
  }
  request.allowUnevenReduction = true;
  Result<FactorAssignment> choice = chooseFactorAxes(rule, resharder.getPlanner(), request);
  if (!choice)
    return op->emitOpError() << "cannot be partitioned: " << choice.error;
  return *choice;
}

/// Operand under the sharding that the op needs, neutral where its padding would be reduced.
FailureOr<Value> LocalFunction::prepareOperand(OpOperand &operand, const ShardingRule &rule,
                                               const FactorAssignment &choice) {
  unsigned number = operand.getOperandNumber();
  const Sharding &needed = choice.operands[number];
  FailureOr<Value> local =
      get(operand.get(), needed,
          {operand.getOwner(), "operand " + std::to_string(number), choice.reason});
  if (failed(local))
    return failure();
  bool isZeroPadded = zeroPadded.contains(*local);
  for (auto [dim, factors] : llvm::enumerate(rule.operands[number])) {
    int64_t size = tensorType(operand.get()).getDimSize(dim);
    if (!isUneven(needed, dim, size))
      continue;
    for (int f : factors) {
      const Factor &factor = rule.factors[f];
      if (factor.kind != FactorKind::Reduction || choice.axes[f].empty() ||
          (factor.reduce == ReduceKind::Sum && isZeroPadded))
        continue;
      Location loc = operand.getOwner()->getLoc();
      Value begin = begins.get(builder, loc, needed.dims[dim].axes, size);
      local = maskPadding(builder, loc, *local, dim, size, begin, factor.reduce);
      break;
    }
  }
  return local;
}

namespace {
/// Positions of one op's local operands and results.
class ChosenPart : public graph::LocalPart {
public:
  ChosenPart(Operation *op, const FactorAssignment &choice, OpBuilder &builder, PartBegins &begins)
      : op(op), choice(choice), builder(builder), begins(begins) {}

  Value operandBegin(unsigned operand, int64_t dim) override {
    return begin(op->getOperand(operand), choice.operands[operand], dim);
  }
  Value resultBegin(unsigned result, int64_t dim) override {
    return begin(op->getResult(result), choice.results[result], dim);
  }

private:
  Value begin(Value global, const Sharding &sharding, int64_t dim) {
    return begins.get(builder, op->getLoc(), sharding.dims[dim].axes,
                      tensorType(global).getDimSize(dim));
  }

  Operation *op;
  const FactorAssignment &choice;
  OpBuilder &builder;
  PartBegins &begins;
};
} // namespace

SmallVector<Value> LocalFunction::buildLocal(Operation *op, ValueRange operands,
                                             const FactorAssignment &choice) {
  SmallVector<Type> types;
  for (auto [result, sharding] : llvm::zip(op->getResults(), choice.results))
    types.push_back(localType(sharding, tensorType(result)));
  SmallVector<Value> results;
  if (auto localize = dyn_cast<graph::LocalizeOpInterface>(op)) {
    ChosenPart part(op, choice, builder, begins);
    results = localize.buildLocal(builder, operands, types, part);
  } else {
    results = graph::cloneLocal(builder, op, operands, types)->getResults();
  }
  for (Value result : results) {
    removeGlobalAttrs(result.getDefiningOp());
  }
  return results;
}

LogicalResult LocalFunction::convertWithRule(graph::ShardingRuleOpInterface op) {
  ShardingRule rule = op.getShardingRule();
  FailureOr<FactorAssignment> choice = choose(op, rule);
  if (failed(choice))
    return failure();
  SmallVector<Value> operands;
  for (OpOperand &operand : op->getOpOperands()) {
    FailureOr<Value> local = prepareOperand(operand, rule, *choice);
    if (failed(local))
      return failure();
    operands.push_back(*local);
  }
  SmallVector<Value> results = buildLocal(op, operands, *choice);
  for (auto [global, local, sharding] : llvm::zip(op->getOpResults(), results, choice->results))
    if (failed(define(global, local, sharding, choice->reason)))
      return failure();
  return success();
}

//===----------------------------------------------------------------------===//
// The function
//===----------------------------------------------------------------------===//

LogicalResult LocalFunction::convert(Operation &op) {
  if (auto constant = dyn_cast<graph::ConstantOp>(op))
    return convertConstant(constant);
  if (auto parameter = dyn_cast<graph::ParameterOp>(op))
    return convertParameter(parameter);
  if (auto constraint = dyn_cast<shard::ConstraintOp>(op))
    return convertReshard(op, constraint.getSharding());
  if (auto reshard = dyn_cast<shard::ReshardOp>(op))
    return convertReshard(op, reshard.getSharding());
  if (auto call = dyn_cast<func::CallOp>(op))
    return convertCall(call);
  if (auto ret = dyn_cast<func::ReturnOp>(op))
    return convertReturn(ret);
  if (auto withRule = dyn_cast<graph::ShardingRuleOpInterface>(op))
    return convertWithRule(withRule);
  return op.emitOpError() << "has no sharding rule, so that it cannot be partitioned";
}

/// The new block takes the place of the old one; types and attributes of the border become local.
LogicalResult LocalFunction::finish() {
  Block *local = &function.getBody().back();
  const Signature &signature = signatures[function.getName()];
  MLIRContext *context = function.getContext();
  FunctionType global = function.getFunctionType();
  auto attrOf = [&](const Sharding &sharding) {
    return shard::ShardingAttr::get(resharder.getSymbol(), mesh, sharding);
  };
  StringRef typeName = graph::GraphDialect::kGlobalTypeAttr,
            shardingName = shard::ShardDialect::kShardingAttr;
  for (auto [i, sharding] : llvm::enumerate(signature.arguments)) {
    function.setArgAttr(i, shardingName, attrOf(sharding));
    if (!sharding.isReplicated())
      function.setArgAttr(i, typeName, TypeAttr::get(global.getInput(i)));
  }
  for (auto [i, sharding] : llvm::enumerate(signature.results)) {
    function.setResultAttr(i, shardingName, attrOf(sharding));
    if (!sharding.isReplicated())
      function.setResultAttr(i, typeName, TypeAttr::get(global.getResult(i)));
  }
  function.getBody().front().erase();
  function.setFunctionType(FunctionType::get(context, local->getArgumentTypes(),
                                             local->getTerminator()->getOperandTypes()));
  return success();
}

LogicalResult LocalFunction::run() {
  if (function.isExternal())
    return function.emitOpError() << "has no body to partition";
  if (!function.getBody().hasOneBlock())
    return function.emitOpError() << "has " << function.getBody().getBlocks().size()
                                  << " blocks, expected one";
  if (failed(addArguments()))
    return failure();
  for (Operation &op : function.getBody().front())
    if (failed(convert(op)))
      return failure();
  return finish();
}
