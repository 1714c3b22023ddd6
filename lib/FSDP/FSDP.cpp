//===- FSDP.cpp - Parameters and gradients in flat buckets ----------------===//
//
// Input:  a partitioned module, @main(inputs) -> (loss, tokens, gradients…), gradients pending over
// the data-parallel axes. Output: the entries of a training bundle (docs/contracts.md §5.3),
// buckets and states as symbols.
//
//   1. Buckets (Buckets.h).
//   2. Parameters: before a unit's first use its shards are cast, gathered, and taken apart by
//      views; again before its backward pass, if the layer is not the last and nothing else was
//      asked for.
//   3. Gradients: as soon as the last of a bucket is there they are packed, and reduced or added to
//      what earlier micro-batches left.
//   4. Norm and update: in the same entry (`step`), or in one of their own.
//
// Everything is an ordinary tensor op or collective: the result runs in the interpreter. When a
// collective starts and ends is Schedule's business.
//
//===----------------------------------------------------------------------===//

#include "shardc/FSDP/Passes.h"

#include "BucketCode.h"

using namespace mlir;

namespace shardc {
#define GEN_PASS_DEF_FSDPPASS
#include "lib/FSDP/Passes.h.inc"

namespace {

class FSDPBuilder {
public:
  FSDPBuilder(func::FuncOp main, shard::MeshOp meshOp, const FSDPConfig &config, BucketPlan &plan)
      : main(main), layout(meshOp, config.zero > 0, config.cutsReplicas), config(config),
        plan(plan) {}
  void run();

private:
  using Uses = SmallVector<OpOperand *>;
  void addBuckets();
  void replaceParameters(EntryFunction &entry, const Bucket &bucket);
  void replaceUses(EntryFunction &entry, const Bucket &bucket, Value whole,
                   ArrayRef<OpOperand *> uses, Operation *before);
  Value packGradients(EntryFunction &entry, const Bucket &bucket, Value before = {});
  void outputChecks(EntryFunction &entry);
  void buildStep();
  void buildForwardBackward();
  void buildFinishGradSync();
  void buildOptimizerStep();
  void buildZeroGrad();
  void buildGather();
  bool defers(const Bucket &bucket) const {
    return config.defersSync && layout.of(bucket).isSharded;
  }
  /// The last sum makes it smaller.
  bool keepsReducedApart(const Bucket &bucket) const {
    return defers(bucket) || layout.cutsReplicas;
  }
  /// What a bucket's gradient is between entries: whole and unreduced if it is deferred, in the
  /// type of the reduction.
  Value gradientState(EntryFunction &entry, const Bucket &bucket, bool reduced) {
    Type element = BucketCode(entry, layout, config).reduceType(bucket);
    ShardLayout own = layout.of(bucket);
    if (reduced && keepsReducedApart(bucket))
      return entry.state(bucket, "gradient/reduced", element, own.owned());
    AxisList cut = defers(bucket) ? AxisList() : own.inner(), pending = layout.replicate;
    if (cut.empty())
      llvm::append_range(pending, bucket.shards);
    return entry.state(bucket, "gradient", element, cut, pending);
  }

  func::FuncOp main;
  ShardLayout layout;
  const FSDPConfig &config;
  BucketPlan &plan;
  SmallVector<Value> checks; ///< of each rank's own gradients, as packGradients met them
  SmallVector<Attribute> checkedNames;
};

} // namespace

void FSDPBuilder::addBuckets() {
  OpBuilder b(layout.meshOp->getContext());
  b.setInsertionPointAfter(layout.meshOp);
  for (const Bucket &bucket : plan.buckets) {
    SmallVector<Attribute> items;
    for (const TrainedParameter *item : bucket.items) {
      NamedAttrList attrs;
      attrs.append("tensor", item->name);
      attrs.append("offset", b.getI64IntegerAttr(item->offset));
      attrs.append("type", TypeAttr::get(item->global));
      if (item->segment)
        attrs.append("segment", item->segment);
      if (!item->sharding.isReplicated())
        attrs.append("sharding",
                     shard::ShardingAttr::get(layout.symbol, layout.mesh, item->sharding));
      items.push_back(attrs.getDictionary(b.getContext()));
    }
    AxisList axes = layout.cutsReplicas ? layout.of(bucket).owned() : bucket.shards;
    shard::BucketOp::create(b, main.getLoc(), b.getStringAttr(bucket.name),
                            b.getStringAttr(bucket.unit), TypeAttr::get(bucket.element),
                            b.getI64IntegerAttr(bucket.length), layout.symbol, layout.axes(axes),
                            b.getArrayAttr(items));
  }
}

//===----------------------------------------------------------------------===//
// Parameters and gradients of the model's part
//===----------------------------------------------------------------------===//

void FSDPBuilder::replaceUses(EntryFunction &entry, const Bucket &bucket, Value whole,
                              ArrayRef<OpOperand *> uses, Operation *before) {
  entry.builder.setInsertionPoint(before);
  DenseMap<Value, TrainedParameter *> owner;
  for (TrainedParameter *item : bucket.items)
    for (Value value : item->values)
      owner[value] = item;
  DenseMap<TrainedParameter *, Value> views;
  for (OpOperand *use : uses) {
    TrainedParameter *item = owner[use->get()];
    Value &view = views[item];
    if (!view)
      view = shard::BucketViewOp::create(entry.builder, entry.loc(), item->compute, whole,
                                         entry.builder.getI64IntegerAttr(item->offset));
    use->set(view);
  }
}

static Operation *firstOf(ArrayRef<OpOperand *> uses) {
  Operation *first = nullptr;
  for (OpOperand *use : uses)
    if (!first || use->getOwner()->isBeforeInBlock(first))
      first = use->getOwner();
  return first;
}

static Operation *lastOf(ArrayRef<OpOperand *> uses) {
  Operation *last = nullptr;
  for (OpOperand *use : uses)
    if (!last || last->isBeforeInBlock(use->getOwner()))
      last = use->getOwner();
  return last;
}

void FSDPBuilder::replaceParameters(EntryFunction &entry, const Bucket &bucket) {
  Uses forward, backward;
  for (TrainedParameter *item : bucket.items)
    for (Value value : item->values)
      for (OpOperand &use : value.getUses())
        if (use.getOwner() != entry.block.getTerminator())
          (isBackward(use.getOwner()) ? backward : forward).push_back(&use);
  Uses all(forward);
  all.append(backward);
  Operation *first = firstOf(all);
  if (!first)
    return; // nobody reads it
  BucketCode code(entry, layout, config);
  entry.builder.setInsertionPoint(first);
  if (config.keepsWhole(layout.of(bucket)))
    return replaceUses(entry, bucket, code.computeState(bucket), all, first);
  Value shard = code.innerShard(bucket);
  Value whole = code.gather(shard, bucket, "parameters of " + bucket.unit);
  bool again = layout.of(bucket).isSharded && isLayerUnit(bucket.unit) &&
               config.reshard != FSDPConfig::Never &&
               (config.reshard != FSDPConfig::Default || !plan.isLast.lookup(bucket.unit));
  if (!again || forward.empty() || backward.empty())
    return replaceUses(entry, bucket, whole, all, first);
  Operation *second = firstOf(backward), *last = lastOf(forward);
  replaceUses(entry, bucket, whole, forward, first);
  Value wholeAgain;
  // Experts may have so few shards, or so many, that groups do not fit: these are gathered from
  // all.
  if (config.reshard == FSDPConfig::Groups && bucket.parts() > config.reshardGroup &&
      bucket.shards.back().size % config.reshardGroup == 0) {
    entry.builder.setInsertionPointAfter(last);
    Value kept = code.keepInGroups(whole, bucket);
    entry.builder.setInsertionPoint(second);
    wholeAgain = code.gatherFromGroups(kept, bucket);
  } else {
    entry.builder.setInsertionPoint(second);
    wholeAgain = code.gather(shard, bucket, "parameters of " + bucket.unit + ", backward",
                             /*isBackward=*/true);
  }
  replaceUses(entry, bucket, wholeAgain, backward, second);
}

/// Right behind the last gradient of the bucket; the insertion point stays there. Added to
/// `before`, if it is given.
Value FSDPBuilder::packGradients(EntryFunction &entry, const Bucket &bucket, Value before) {
  BucketCode code(entry, layout, config);
  SmallVector<Value> gradients;
  SmallVector<AxisList> pending;
  Operation *ret = entry.block.getTerminator(), *last = nullptr;
  for (TrainedParameter *item : bucket.items) {
    Value gradient = ret->getOperand(item->gradient);
    // What is reduced in a narrower type than it is kept in is not widened before.
    if (auto widened = gradient.getDefiningOp<graph::CastOp>();
        widened && cast<RankedTensorType>(widened.getInput().getType()).getElementType() ==
                       code.reduceType(bucket))
      gradient = widened.getInput();
    gradients.push_back(gradient);
    if (Operation *op = gradient.getDefiningOp(); op && (!last || last->isBeforeInBlock(op)))
      last = op;
    auto attr = entry.function.getResultAttrOfType<shard::ShardingAttr>(
        item->gradient, shard::ShardDialect::kShardingAttr);
    Result<Sharding> sharding = attr ? attr.resolve(layout.mesh) : Result<Sharding>(Sharding());
    pending.push_back(sharding ? sharding->partialAxes() : AxisList());
  }
  if (last)
    entry.builder.setInsertionPointAfter(last);
  else
    entry.builder.setInsertionPoint(ret);
  if (config.checksGradients)
    for (auto [gradient, item] : llvm::zip(gradients, bucket.items)) {
      checks.push_back(code.countNonFinite(gradient));
      checkedNames.push_back(item->name);
    }
  return code.pack(bucket, gradients, pending, before);
}

/// In one buffer: counts are made in place.
void FSDPBuilder::outputChecks(EntryFunction &entry) {
  if (!config.checksGradients)
    return;
  OpBuilder &b = entry.builder;
  SmallVector<int64_t> offsets;
  for (size_t n = 0; n < checks.size(); ++n)
    offsets.push_back(n * kCountStride);
  auto type =
      RankedTensorType::get({static_cast<int64_t>(checks.size()) * kCountStride}, b.getF32Type());
  entry.output(kNonFiniteOutput, shard::BucketPackOp::create(b, entry.loc(), type, checks,
                                                             b.getDenseI64ArrayAttr(offsets)));
  entry.function->setAttr(kCheckedGradientsAttr, b.getArrayAttr(checkedNames));
}

//===----------------------------------------------------------------------===//
// Entries
//===----------------------------------------------------------------------===//

void FSDPBuilder::buildStep() {
  EntryFunction entry(main, layout);
  BucketCode code(entry, layout, config);
  Operation *ret = entry.block.getTerminator();
  Value loss = ret->getOperand(0), tokens = ret->getOperand(1);
  for (const Bucket &bucket : plan.buckets)
    replaceParameters(entry, bucket);
  // Without clipping a bucket is updated as soon as it is reduced, and its gradient is gone. (If
  // gradients are checked the norm decides.)
  bool atOnce = config.clipNorm <= 0 && !config.checksGradients;
  Value scale, isGood;
  if (atOnce) {
    entry.builder.setInsertionPointAfterValue(tokens);
    scale = code.scale({}, tokens);
  }
  SmallVector<std::pair<const Bucket *, Value>> gradients, squares;
  for (const Bucket &bucket : plan.buckets)
    if (bucket.isTrained) {
      Value sum = code.replicaSum(code.scatterSum(packGradients(entry, bucket), bucket), bucket);
      gradients.push_back({&bucket, sum});
      squares.push_back({&bucket, code.squares(sum, bucket)});
      if (atOnce)
        code.update(bucket, sum, scale, isGood);
    }
  entry.builder.setInsertionPoint(ret);
  Value norm = code.norm(squares, tokens);
  if (!atOnce) {
    scale = code.scale(norm, tokens);
    if (config.checksGradients)
      isGood = code.isFinite(norm);
    for (auto &[bucket, gradient] : gradients)
      code.update(*bucket, gradient, scale, isGood);
  }
  entry.output("loss", loss);
  entry.output("tokens", tokens);
  entry.output("grad_norm", norm);
  outputChecks(entry);
  entry.finish("step");
}

void FSDPBuilder::buildForwardBackward() {
  EntryFunction entry(main, layout);
  BucketCode code(entry, layout, config);
  Operation *ret = entry.block.getTerminator();
  Value loss = ret->getOperand(0), tokens = ret->getOperand(1);
  for (const Bucket &bucket : plan.buckets)
    replaceParameters(entry, bucket);
  for (const Bucket &bucket : plan.buckets)
    if (bucket.isTrained) {
      Value before = gradientState(entry, bucket, false);
      if (defers(bucket) || !layout.of(bucket).isSharded) { // tensor by tensor, in place
        entry.setState(before, packGradients(entry, bucket, before));
        continue;
      }
      // The sum over replicas waits for the last micro-batch.
      Value own = code.scatterSum(packGradients(entry, bucket), bucket);
      entry.setState(before, Arithmetic{entry.builder, entry.loc()}.add(before, own));
    }
  entry.builder.setInsertionPoint(ret);
  Value counted = entry.scalarState("tokens");
  entry.setState(counted, Arithmetic{entry.builder, entry.loc()}.add(counted, tokens));
  entry.output("loss", loss);
  entry.output("tokens", tokens);
  outputChecks(entry);
  entry.finish("forward_backward");
}

void FSDPBuilder::buildFinishGradSync() {
  EntryFunction entry = EntryFunction::create("finish_grad_sync", main, layout);
  BucketCode code(entry, layout, config);
  for (const Bucket &bucket : plan.buckets)
    if (bucket.isTrained) {
      Value from = gradientState(entry, bucket, false), sum = from;
      if (defers(bucket) || !layout.of(bucket).isSharded)
        sum = code.scatterSum(sum, bucket);
      sum = code.replicaSum(sum, bucket);
      if (sum != from || keepsReducedApart(bucket))
        entry.setState(gradientState(entry, bucket, true), sum);
    }
  entry.finish("finish_grad_sync");
}

void FSDPBuilder::buildOptimizerStep() {
  EntryFunction entry = EntryFunction::create("optimizer_step", main, layout);
  BucketCode code(entry, layout, config);
  Value tokens = entry.scalarState("tokens");
  SmallVector<std::pair<const Bucket *, Value>> gradients, squares;
  for (const Bucket &bucket : plan.buckets)
    if (bucket.isTrained) {
      Value gradient = gradientState(entry, bucket, true);
      gradient = graph::castTo(entry.builder, entry.loc(), gradient, bucket.element);
      gradients.push_back({&bucket, gradient});
      squares.push_back({&bucket, code.squares(gradient, bucket)});
    }
  Value norm = code.norm(squares, tokens), scale = code.scale(norm, tokens),
        isGood = config.checksGradients ? code.isFinite(norm) : Value();
  for (auto &[bucket, gradient] : gradients)
    code.update(*bucket, gradient, scale, isGood);
  entry.output("grad_norm", norm);
  entry.finish("optimizer_step");
}

void FSDPBuilder::buildZeroGrad() {
  EntryFunction entry = EntryFunction::create("zero_grad", main, layout);
  auto zero = [&](Value state) {
    entry.setState(state, graph::ConstantOp::splat(entry.builder, entry.loc(),
                                                   cast<RankedTensorType>(state.getType()), 0));
  };
  for (const Bucket &bucket : plan.buckets)
    if (bucket.isTrained)
      zero(gradientState(entry, bucket, false));
  zero(entry.scalarState("tokens"));
  entry.finish("zero_grad");
}

void FSDPBuilder::buildGather() {
  EntryFunction entry = EntryFunction::create("gather", main, layout);
  BucketCode code(entry, layout, config);
  for (const Bucket &bucket : plan.buckets)
    if (ShardLayout own = layout.of(bucket); config.keepsCompute(own))
      entry.setState(code.computeState(bucket),
                     code.computeOf(entry.state(bucket, "parameter", bucket.element, own.owned()),
                                    bucket, "parameters of " + bucket.unit));
  entry.finish("gather");
}

void FSDPBuilder::run() {
  addBuckets();
  if (config.keepsCompute(layout))
    buildGather();
  if (!config.hasSeparateEntries)
    return buildStep();
  buildZeroGrad(); // the last one made stands first
  buildOptimizerStep();
  buildFinishGradSync();
  buildForwardBackward();
}

namespace {
struct FSDPPass : impl::FSDPPassBase<FSDPPass> {
  using FSDPPassBase::FSDPPassBase;

  FailureOr<FSDPConfig> readOptions(const ShardLayout &layout) {
    int64_t parts = layout.parts();
    auto error = [&]() { return getOperation().emitError(); };
    FSDPConfig config;
    config.zero = zero;
    if (zero < 0 || zero > 3)
      return error() << "zero: " << zero.getValue() << " is not 0, 1, 2 or 3";
    if (reshard == "true" || reshard == "false") {
      config.reshard = reshard == "true" ? FSDPConfig::Always : FSDPConfig::Never;
    } else if (!reshard.empty()) {
      if (StringRef(reshard).getAsInteger(10, config.reshardGroup) || config.reshardGroup < 1)
        return error() << "reshard: \"" << reshard << "\" is not true, false or a number of ranks";
      if (parts % config.reshardGroup)
        return error() << "reshard: groups of " << config.reshardGroup
                       << " ranks do not divide the " << parts << " ranks along dp_shard";
      // Neighbours along the innermost axis.
      if (config.reshardGroup > 1 && config.reshardGroup < parts &&
          axesSize({layout.shards.back()}) % config.reshardGroup)
        return error() << "reshard: groups of " << config.reshardGroup
                       << " ranks do not divide the " << axesSize({layout.shards.back()})
                       << " ranks along \"" << str(layout.mesh, layout.shards.back()) << "\"";
      config.reshard = config.reshardGroup == 1       ? FSDPConfig::Never
                       : config.reshardGroup == parts ? FSDPConfig::Always
                                                      : FSDPConfig::Groups;
    }
    if (zero != 3 && config.reshard != FSDPConfig::Default && config.reshard != FSDPConfig::Never)
      return error() << "reshard: needs zero 3, where parameters are sharded; zero is "
                     << zero.getValue();
    if (outer != "no_shard" && outer != "optim")
      return error() << "outer: \"" << outer << "\" is not no_shard or optim";
    config.cutsReplicas = outer == "optim";
    if (config.cutsReplicas && zero != 3)
      return error() << "outer: optim needs zero 3, where replicas are of shards; zero is "
                     << zero.getValue();
    if (config.cutsReplicas && (layout.replicas() == 1 || parts == 1))
      return error() << "outer: optim needs replicas of shards; dp_replicate is "
                     << layout.replicas() << ", dp_shard " << parts;
    llvm::Expected<OptimizerSpec> spec = parseOptimizer(optimizer);
    if (!spec)
      return error() << llvm::toString(spec.takeError());
    config.optimizer = *spec;
    config.clipNorm = clipNorm;
    config.checksGradients = checkGradients;
    config.hasSeparateEntries = separateEntries;
    config.defersSync = deferSync;
    Builder b(&getContext());
    if (!reduceDtype.empty()) {
      config.reduceType = llvm::StringSwitch<Type>(reduceDtype)
                              .Case("f32", b.getF32Type())
                              .Case("bf16", b.getBF16Type())
                              .Case("f16", b.getF16Type())
                              .Default({});
      if (!config.reduceType)
        return error() << "reduce-dtype: \"" << reduceDtype << "\" is not f32, bf16 or f16";
    }
    return config;
  }

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto function = module.lookupSymbol<func::FuncOp>(entry);
    shard::MeshOp meshOp = shard::getOnlyMesh(module);
    if (!function || !meshOp || function.getNumResults() < 3 ||
        !function.getResultAttr(2, graph::GraphDialect::kGradientAttr)) {
      module.emitError() << "needs one shard.mesh and a differentiated function @" << entry;
      return signalPassFailure();
    }
    ShardLayout layout(meshOp, true, true);
    FailureOr<FSDPConfig> config = readOptions(layout);
    if (failed(config))
      return signalPassFailure();
    FailureOr<NamePattern> pattern =
        NamePattern::parse("no-decay", noDecay, [&] { return module.emitError(); });
    if (failed(pattern))
      return signalPassFailure();
    FailureOr<BucketPlan> plan =
        planBuckets(function, layout.mesh, layout.shards, layout.replicas(), *pattern,
                    config->optimizer.kind == OptimizerSpec::Muon);
    if (failed(plan))
      return signalPassFailure();
    if (config->optimizer.kind == OptimizerSpec::Muon &&
        llvm::none_of(plan->buckets, [](const Bucket &bucket) { return bucket.hasMatrices; })) {
      function.emitError() << "optimizer muon updates trained matrices of layers, of which there "
                              "are none (embeddings, heads and vectors "
                              "take adamw); no layers were found, or all of them are frozen";
      return signalPassFailure();
    }
    FSDPBuilder(function, meshOp, *config, *plan).run();
  }
};
} // namespace
} // namespace shardc
