//===- Differentiate.cpp - From a model to its training step --------------===//
//
// Input:  @main(inputs) -> outputs on whole tensors, with calls of layer functions. Output:
// @main(inputs, labels) -> (loss, tokens,
//         gradients…) and for each layer function the pair that LayerSplit makes.
//
//   1. The loss is appended, with the cotangent of the output that it is of, or, chunk by chunk, of
//      what the logits are made of.
//   2. The entry's ops are visited in reverse; a call becomes a call of the layer's forward
//      function, and calls of its recompute and backward functions are appended. Calls that differ
//      in what is active (frozen parameters, first layer) have functions of their own.
//   3. Outputs are replaced by loss, counted tokens and one gradient for each trained parameter.
//
//===----------------------------------------------------------------------===//

#include "shardc/Differentiate/Passes.h"

#include "ChunkedLoss.h"
#include "LayerSplit.h"
#include "Loss.h"
#include "shardc/Sharding/Sharding.h"
#include "shardc/Support/NamePattern.h"

#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace shardc {
#define GEN_PASS_DEF_DIFFERENTIATEPASS
#include "lib/Differentiate/Passes.h.inc"

namespace {

std::optional<Checkpoint> parseCheckpoint(StringRef text) {
  return llvm::StringSwitch<std::optional<Checkpoint>>(text)
      .Case("none", Checkpoint::None)
      .Case("selective", Checkpoint::Selective)
      .Case("full", Checkpoint::Full)
      .Default(std::nullopt);
}

/// The entry function on its way.
class Entry {
public:
  /// `checkpointLayers`: how many of the first layers `checkpoint` is for; -1: all.
  Entry(func::FuncOp function, Checkpoint checkpoint, int64_t checkpointLayers)
      : function(function), checkpoint(checkpoint), checkpointLayers(checkpointLayers),
        symbols(function->getParentOfType<ModuleOp>()), builder(ret()) {}

  LogicalResult chooseOutput(StringRef wanted);
  LogicalResult chooseParameters(StringRef frozen);
  LogicalResult findActive();
  /// The entry then returns two f32 scalars: the sum over counted positions and the number of
  /// these, each divided by the number of all. `chunks`: of the positions of a sequence; 0: as many
  /// as are worth it.
  LogicalResult buildLoss(int64_t chunks);
  LogicalResult differentiate();
  void replaceOutputs();

private:
  Operation *ret() { return function.getBody().front().getTerminator(); }
  StringRef outputName(unsigned n) {
    auto name = function.getResultAttrOfType<StringAttr>(n, graph::GraphDialect::kNameAttr);
    return name ? name.getValue() : StringRef();
  }
  FailureOr<BlockArgument> addLabels(RankedTensorType logits);
  LogicalResult buildLossOfLogits(Value logits, int64_t chunks);
  int64_t chooseChunks(const ModelHead &head, BlockArgument labels);
  LogicalResult visitCall(func::CallOp call);
  FailureOr<LayerSplit *> splitOf(func::CallOp call, ArrayRef<bool> active, ArrayRef<bool> seeded,
                                  Checkpoint policy);
  func::CallOp callPart(func::FuncOp callee, ArrayRef<LayerSplit::Source> sources,
                        func::CallOp original, ValueRange forward, unsigned ownResults,
                        ValueRange recomputed);

  func::FuncOp function;
  Checkpoint checkpoint;
  int64_t checkpointLayers;
  llvm::DenseMap<Operation *, int64_t> layerNumbers; ///< of calls, in the order of the forward pass
  SymbolTable symbols;
  OpBuilder builder;
  unsigned output = 0;
  SmallVector<std::pair<Value, Value>> seeds; ///< values whose cotangents begin the backward pass
  SmallVector<Operation *> ops;               ///< of the model
  /// Trained weights and their segments; a weight that stands twice (tied) is one.
  llvm::MapVector<std::pair<Attribute, Attribute>, SmallVector<graph::ParameterOp>> parameters;
  std::optional<Cotangents> cotangents;
  llvm::MapVector<Attribute, LayerSplit> splits;
};

} // namespace

LogicalResult Entry::chooseOutput(StringRef wanted) {
  SmallVector<StringRef> names;
  for (unsigned n = 0; n < function.getNumResults(); ++n)
    names.push_back(outputName(n));
  auto find = [&](StringRef name) { return llvm::find(names, name) - names.begin(); };
  size_t found = wanted.empty() ? find("loss") : find(wanted);
  if (wanted.empty() && found == names.size())
    found = find("logits");
  if (wanted.empty() && found == names.size() && names.size() == 1)
    found = 0;
  if (found == names.size())
    return function.emitError() << "no output \""
                                << (wanted.empty() ? "loss\" or \"logits" : wanted)
                                << "\" to train on; there are: \"" << llvm::join(names, "\", \"")
                                << "\"";
  output = found;
  auto type = cast<RankedTensorType>(function.getResultTypes()[output]);
  if (!isDifferentiable(type))
    return function.emitError() << "output \"" << names[output] << "\" of type " << type
                                << " cannot be trained on: it is not floating point";
  return success();
}

LogicalResult Entry::chooseParameters(StringRef frozen) {
  FailureOr<NamePattern> pattern =
      NamePattern::parse("frozen", frozen, [&] { return function.emitError(); });
  if (failed(pattern))
    return failure();
  bool anyFrozen = false;
  for (auto parameter : function.getBody().getOps<graph::ParameterOp>()) {
    if (!isDifferentiable(parameter.getType()))
      continue;
    if (pattern->matches(parameter.getName())) {
      anyFrozen = true;
      continue;
    }
    parameters[{parameter.getNameAttr(), parameter.getSegmentAttr()}].push_back(parameter);
  }
  if (!frozen.empty() && !anyFrozen)
    return function.emitError() << "frozen: \"" << frozen << "\" matches no parameter";
  if (parameters.empty())
    return function.emitError() << "there is no parameter to train";
  return success();
}

/// What depends on a trained parameter, among the ops of the model.
LogicalResult Entry::findActive() {
  // A plan that gathers logits does so for whoever reads them: the loss takes them as they are cut.
  while (auto constraint = ret()->getOperand(output).getDefiningOp<shard::ConstraintOp>())
    ret()->setOperand(output, constraint.getInput());
  Block &body = function.getBody().front();
  SmallVector<Value> leaves;
  for (auto &[name, uses] : parameters)
    for (graph::ParameterOp use : uses)
      leaves.push_back(use);
  for (Operation &op : body.without_terminator()) {
    ops.push_back(&op);
    if (isa<func::CallOp>(op))
      layerNumbers.try_emplace(&op, layerNumbers.size());
  }
  cotangents.emplace(builder, body, leaves);
  if (!cotangents->isActive(ret()->getOperand(output)))
    return function.emitError() << "output \"" << outputName(output)
                                << "\" does not depend on any trained parameter";
  return success();
}

LogicalResult Entry::buildLoss(int64_t chunks) {
  Value value = ret()->getOperand(output);
  auto type = cast<RankedTensorType>(value.getType());
  Location loc = value.getLoc();
  auto scalar = RankedTensorType::get({}, builder.getF32Type());
  if (type.getNumElements() == 1) { // the model's own loss
    if (chunks > 1)
      return function.emitError() << "loss-chunks: output \"" << outputName(output)
                                  << "\" is a loss, not logits that could be cut into " << chunks
                                  << " chunks";
    Value flat = type.getRank() == 0
                     ? value
                     : graph::ReshapeOp::create(
                           builder, loc, RankedTensorType::get({}, type.getElementType()), value)
                           .getResult();
    ret()->setOperands({graph::castTo(builder, loc, flat, builder.getF32Type()),
                        graph::ConstantOp::splat(builder, loc, scalar, 1)});
    seeds.push_back({value, graph::ConstantOp::splat(builder, loc, type, 1)});
    return success();
  }
  if (type.getRank() < 2)
    return function.emitError() << "output \"" << outputName(output) << "\" of type " << type
                                << " is neither a scalar loss nor logits [..., vocabulary]";
  function->setAttr(graph::GraphDialect::kVocabularyAttr,
                    builder.getI64IntegerAttr(type.getShape().back()));
  return buildLossOfLogits(value, chunks);
}

FailureOr<BlockArgument> Entry::addLabels(RankedTensorType logits) {
  auto labelType = RankedTensorType::get(logits.getShape().drop_back(), builder.getI64Type());
  for (unsigned n = 0; n < function.getNumArguments(); ++n)
    if (function.getArgAttr(n, graph::GraphDialect::kNameAttr) == builder.getStringAttr("labels"))
      return function.emitError()
             << "the model has an input \"labels\" of its own: name its loss (loss=NAME)";
  SmallVector<NamedAttribute> attrs = {
      builder.getNamedAttr(graph::GraphDialect::kNameAttr, builder.getStringAttr("labels"))};
  // Cut as the batch is.
  for (BlockArgument argument : function.getArguments())
    if (auto sharding = shard::getSharding(argument);
        sharding && cast<RankedTensorType>(argument.getType()).getShape() == labelType.getShape()) {
      attrs.push_back(builder.getNamedAttr(shard::ShardDialect::kShardingAttr, sharding));
      break;
    }
  if (failed(function.insertArgument(function.getNumArguments(), labelType,
                                     builder.getDictionaryAttr(attrs), function.getLoc())))
    return failure();
  return function.getArguments().back();
}

LogicalResult Entry::buildLossOfLogits(Value logits, int64_t chunks) {
  auto type = cast<RankedTensorType>(logits.getType());
  FailureOr<BlockArgument> labels = addLabels(type);
  if (failed(labels))
    return failure();
  Location loc = logits.getLoc();
  auto labelType = cast<RankedTensorType>(labels->getType());
  int64_t length = labelType.getShape().back();
  std::string why;
  FailureOr<ModelHead> head = chunks == 1 ? FailureOr<ModelHead>(failure()) : findHead(logits, why);
  if (chunks > 1 && failed(head))
    return function.emitError() << "loss-chunks: output \"" << outputName(output)
                                << "\" cannot be computed in " << chunks << " chunks: " << why;
  if (chunks > 1 && length % chunks)
    return function.emitError() << "loss-chunks: " << chunks << " chunks do not divide the "
                                << length << " positions of a sequence";
  if (chunks == 0)
    chunks = succeeded(head) ? chooseChunks(*head, *labels) : 1;
  Value losses;
  Value tokens =
      buildTokenShare(builder, loc, *labels); // before any gradient: updates are scaled by it
  if (chunks == 1) {
    CrossEntropy entropy =
        buildCrossEntropy(builder, loc, logits, *labels, labelType.getNumElements());
    losses = entropy.losses;
    seeds.push_back({logits, entropy.cotangent});
  } else {
    FailureOr<ChunkedLoss> chunked = buildChunkedLoss(
        builder, *head, *labels, chunks, [&](Value value) { return cotangents->isActive(value); });
    if (failed(chunked))
      return failure();
    losses = chunked->losses;
    seeds = chunked->cotangents;
  }
  ret()->setOperands({buildSum(builder, loc, losses), tokens});
  return success();
}

/// Each chunk reads and writes the gradients of the head's weights once more: worth it behind
/// enough positions, and where logits are larger than what they are made of.
int64_t Entry::chooseChunks(const ModelHead &head, BlockArgument labels) {
  constexpr int64_t kPositions = 512; // of a chunk on one rank
  constexpr int64_t kMost =
      64; // each is a few ops more in the program; what is saved grows no more
  auto type = cast<RankedTensorType>(labels.getType());
  if (cast<RankedTensorType>(head.logits.getType()).getNumElements() <=
      cast<RankedTensorType>(head.hidden.getType()).getNumElements())
    return 1;
  int64_t positions = type.getNumElements(), length = type.getShape().back();
  if (shard::ShardingAttr attr = shard::getSharding(labels))
    if (shard::MeshOp mesh = shard::getOnlyMesh(function->getParentOfType<ModuleOp>()))
      if (Result<Sharding> sharding = attr.resolve(mesh.getMesh())) {
        if (!sharding->dims.back().axes.empty()) // chunks would be cut across ranks
          return 1;
        for (const DimSharding &dim : sharding->dims)
          positions /= axesSize(dim.axes);
      }
  int64_t chunks = 1;
  for (int64_t n = 2; n <= std::min(length, kMost) && positions / n >= kPositions; ++n)
    if (length % n == 0)
      chunks = n;
  return chunks;
}

FailureOr<LayerSplit *> Entry::splitOf(func::CallOp call, ArrayRef<bool> active,
                                       ArrayRef<bool> seeded, Checkpoint policy) {
  Attribute key = builder.getArrayAttr({call.getCalleeAttr(), builder.getDenseBoolArrayAttr(active),
                                        builder.getDenseBoolArrayAttr(seeded),
                                        builder.getI64IntegerAttr(static_cast<int64_t>(policy))});
  auto found = splits.find(key);
  if (found == splits.end()) {
    FailureOr<LayerSplit> split =
        splitLayer(symbols.lookup<func::FuncOp>(call.getCallee()), active, seeded, policy, symbols);
    if (failed(split))
      return failure();
    found = splits.insert({key, *split}).first;
  }
  return &found->second;
}

func::CallOp Entry::callPart(func::FuncOp callee, ArrayRef<LayerSplit::Source> sources,
                             func::CallOp original, ValueRange forward, unsigned ownResults,
                             ValueRange recomputed) {
  SmallVector<Value> operands;
  for (LayerSplit::Source source : sources)
    switch (source.kind) {
    case LayerSplit::Source::Argument:
      operands.push_back(original.getOperand(source.index));
      break;
    case LayerSplit::Source::Kept:
      operands.push_back(forward[ownResults + source.index]);
      break;
    case LayerSplit::Source::Recomputed:
      operands.push_back(recomputed[source.index]);
      break;
    case LayerSplit::Source::Cotangent:
      operands.push_back(cotangents->get(original.getResult(source.index)));
      break;
    }
  auto call = func::CallOp::create(builder, original.getLoc(), callee, operands);
  if (Attribute path = original->getAttr(graph::GraphDialect::kPathAttr))
    call->setAttr(graph::GraphDialect::kPathAttr, path);
  return call;
}

LogicalResult Entry::visitCall(func::CallOp call) {
  SmallVector<bool> active, seeded;
  for (Value operand : call.getOperands())
    active.push_back(cotangents->isActive(operand));
  for (Value result : call.getResults())
    seeded.push_back(static_cast<bool>(cotangents->get(result)));
  FailureOr<LayerSplit *> split =
      splitOf(call, active, seeded,
              checkpointLayers < 0 || layerNumbers[call] < checkpointLayers ? checkpoint
                                                                            : Checkpoint::None);
  if (failed(split))
    return failure();
  LayerSplit &parts = **split;
  OpBuilder here(call);
  auto forward = func::CallOp::create(here, call.getLoc(), parts.forward, call.getOperands());
  forward->setDiscardableAttrs(call->getDiscardableAttrDictionary());
  if (parts.forward.getNumResults() !=
      parts.results) // shardings of the layer's own results are on its return value
    forward->removeAttr(shard::ShardDialect::kShardingsAttr);
  ValueRange recomputed;
  if (parts.recompute) {
    auto again = callPart(parts.recompute, parts.recomputeSources, call, forward.getResults(),
                          parts.results, {});
    again->setAttr(shard::ShardDialect::kRecomputeAttr, builder.getUnitAttr());
    recomputed = again.getResults();
  }
  func::CallOp backward = callPart(parts.backward, parts.backwardSources, call,
                                   forward.getResults(), parts.results, recomputed);
  backward->setAttr(shard::ShardDialect::kBackwardAttr, builder.getUnitAttr());
  for (auto [argument, gradient] : llvm::zip(parts.gradientArguments, backward.getResults()))
    cotangents->add(call.getOperand(argument), gradient);
  call.replaceAllUsesWith(forward.getResults().take_front(parts.results));
  call.erase();
  return success();
}

LogicalResult Entry::differentiate() {
  for (auto [value, cotangent] : seeds)
    cotangents->add(value, cotangent);
  return cotangents->run(ops, [&](func::CallOp call) { return visitCall(call); });
}

/// Ops that make `values`.
static DenseSet<Operation *> opsBehind(SmallVector<Value> values) {
  DenseSet<Operation *> ops;
  while (!values.empty())
    if (Operation *op = values.pop_back_val().getDefiningOp(); op && ops.insert(op).second)
      llvm::append_range(values, op->getOperands());
  return ops;
}

void Entry::replaceOutputs() {
  SmallVector<Value> results(ret()->getOperands()); // the loss and its tokens
  auto named = [&](StringRef name) {
    return builder.getNamedAttr(graph::GraphDialect::kNameAttr, builder.getStringAttr(name));
  };
  SmallVector<DictionaryAttr> attrs = {builder.getDictionaryAttr(named("loss")),
                                       builder.getDictionaryAttr(named("tokens"))};
  SmallVector<ArrayRef<graph::ParameterOp>> untrained;
  for (auto &[name, uses] : parameters) {
    Value sum;
    for (graph::ParameterOp use : uses)
      if (Value part = cotangents->get(use))
        sum = sum ? graph::AddOp::create(builder, use.getLoc(), sum, part).getResult() : part;
    if (!sum) { // no way to the loss (a bias that only chooses experts): not trained, or weight
                // decay would still change it
      untrained.push_back(uses);
      continue;
    }
    results.push_back(sum);
    NamedAttrList list;
    list.append(graph::GraphDialect::kGradientAttr, name.first);
    if (name.second)
      list.append(graph::GraphDialect::kSegmentAttr, name.second);
    attrs.push_back(list.getDictionary(builder.getContext()));
  }
  ret()->setOperands(results);
  function.setFunctionType(
      builder.getFunctionType(function.getArgumentTypes(), ValueRange(results).getTypes()));
  function.setAllResultAttrs(attrs);
  if (untrained.empty())
    return;
  DenseSet<Operation *> needed = opsBehind(results);
  for (ArrayRef<graph::ParameterOp> uses : untrained)
    if (llvm::none_of(uses, [&](graph::ParameterOp use) { return needed.contains(use); })) {
      graph::ParameterOp first = uses.front();
      first.emitWarning() << "\"" << first.getName()
                          << "\" has no influence on the loss: it is in no checkpoint";
    }
}

namespace {
struct DifferentiatePass : impl::DifferentiatePassBase<DifferentiatePass> {
  using DifferentiatePassBase::DifferentiatePassBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto function = module.lookupSymbol<func::FuncOp>(entry);
    if (!function || function.isExternal() || !function.getBody().hasOneBlock()) {
      module.emitError() << "no function @" << entry << " of one block to differentiate";
      return signalPassFailure();
    }
    std::optional<Checkpoint> policy = parseCheckpoint(checkpoint);
    if (!policy) {
      module.emitError() << "checkpoint: \"" << checkpoint << "\" is not none, selective or full";
      return signalPassFailure();
    }
    if (lossChunks < 0) {
      module.emitError() << "loss-chunks: " << lossChunks.getValue() << " is not 0 or above";
      return signalPassFailure();
    }
    Entry main(function, *policy, checkpointLayers);
    if (failed(main.chooseOutput(loss)) || failed(main.chooseParameters(frozen)) ||
        failed(main.findActive()) || failed(main.buildLoss(lossChunks)) ||
        failed(main.differentiate()))
      return signalPassFailure();
    main.replaceOutputs();
    eraseUnused(module);
  }

  /// Outputs that are no more, layers that nothing calls as they were.
  void eraseUnused(ModuleOp module) {
    auto function = module.lookupSymbol<func::FuncOp>(entry);
    Block &body = function.getBody().front();
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(body)))
      if (&op != body.getTerminator() && op.use_empty())
        op.erase();
    DenseSet<StringAttr> called;
    module.walk([&](func::CallOp call) { called.insert(call.getCalleeAttr().getAttr()); });
    for (auto layer : llvm::make_early_inc_range(module.getOps<func::FuncOp>()))
      if (layer.isPrivate() && !called.contains(layer.getSymNameAttr()))
        layer.erase();
  }
};
} // namespace
} // namespace shardc
