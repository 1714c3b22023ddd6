//===- FSDP.cpp - parameters and gradients in flat buckets --------------------------------------===//
//
// Input:  a partitioned module, @main(inputs) -> (loss, tokens, gradients…), gradients pending over the data-parallel axes.
// Output: @step(inputs, scalars, states) -> (loss, tokens, grad_norm, new states), buckets and states as symbols.
//
//   1. Buckets (Buckets.h).
//   2. Parameters: before a unit's first use its shards are cast, gathered, and taken apart by views; again before its backward pass, if
//      the layer is not the last and nothing else was asked for.
//   3. Gradients: as soon as the last of a bucket is there they are packed, and reduced: scattered over `dp_shard`, summed over `dp_replicate`.
//   4. Norm: squares are summed in fixed blocks, then over buckets, then over ranks in their order; so is the sum where every rank has the whole
//      gradient, so that all ZeRO stages agree bit for bit.
//   5. Update: at once if nothing depends on the global norm, else behind the last reduction.
//
// Everything is an ordinary tensor op or collective: the result runs in the interpreter. When a collective starts and ends is Schedule's business.
//
//===----------------------------------------------------------------------===//

#include "shardc/FSDP/Passes.h"

#include "Buckets.h"
#include "Optimizer.h"

using namespace mlir;

namespace shardc {
#define GEN_PASS_DEF_FSDPPASS
#include "lib/FSDP/Passes.h.inc"

namespace {

struct FSDPConfig {
  int64_t zero = 3;
  enum { Default, Always, Never, Groups } reshard = Default;
  int64_t reshardGroup = 0;
  OptimizerSpec optimizer;
  double clipNorm = 0;
  Type reduceType; ///< null: the parameter's
};

/// A bucket with its values in the step function.
struct LiveBucket {
  const Bucket *plan;
  Value parameter, compute;    ///< states: the master copy, and the gathered copy of ZeRO 1 and 2
  SmallVector<Value> states;   ///< of the optimizer
  unsigned firstArgument = 0;
  Value gradient;              ///< reduced
  Value squares;               ///< [parts here]
  SmallVector<Value> results;  ///< new parameter, [new compute,] new states
};

class StepBuilder {
public:
  StepBuilder(func::FuncOp function, shard::MeshOp meshOp, const FSDPConfig &config, BucketPlan &plan)
      : function(function), meshOp(meshOp), mesh(meshOp.getMesh()), symbol(FlatSymbolRefAttr::get(meshOp.getSymNameAttr())), config(config),
        plan(plan), builder(function.getContext()), block(function.getBody().front()) {
    for (auto [n, axis] : llvm::enumerate(mesh.axes)) {
      AxisRef ref = wholeAxis(mesh, static_cast<int>(n));
      if (!StringRef(axis.name).starts_with("dp") || axis.size == 1)
        continue;
      (axis.name == "dp_replicate" ? replicate : shards).push_back(ref);
    }
  }

  static AxisList shardAxes(const Mesh &mesh);
  LogicalResult run();

private:
  int64_t parts() const { return axesSize(shards); }
  bool isSharded() const { return config.zero > 0 && parts() > 1; }
  bool keepsCompute() const { return isSharded() && config.zero < 3; }
  ArrayAttr axes(const AxisList &list) { return shard::axesAttr(builder.getContext(), mesh, list); }
  Location loc() { return function.getLoc(); }

  void addSymbols();
  BlockArgument addArgument(RankedTensorType type, NamedAttrList attrs);
  Value addState(const Bucket &bucket, StringRef role, Type element, bool sharded);
  void addArguments();
  void replaceParameters(LiveBucket &bucket);
  Value gather(Value shard, const Bucket &bucket, StringRef why);
  void replaceUses(LiveBucket &bucket, Value whole, ArrayRef<OpOperand *> uses, Operation *before);
  void reduceGradients(LiveBucket &bucket);
  Value onlyFirst(Value gradient, const AxisList &axes);
  void sumSquares(LiveBucket &bucket);
  Value buildNorm();
  void update(LiveBucket &bucket, Value scale);
  void finish();
  template <typename Op, typename... Args> Value collective(const AxisList &over, StringRef why, RankedTensorType type, Value input, Args... args);

  func::FuncOp function;
  shard::MeshOp meshOp;
  Mesh mesh;
  FlatSymbolRefAttr symbol;
  const FSDPConfig &config;
  BucketPlan &plan;
  OpBuilder builder;
  Block &block;
  AxisList shards, replicate;
  std::vector<LiveBucket> buckets;
  llvm::StringMap<Value> scalars;
  Value loss, tokens, norm;
  SmallVector<std::pair<Value, StringAttr>> stateResults;
};

} // namespace

static RankedTensorType flat(int64_t length, Type element) { return RankedTensorType::get({length}, element); }

template <typename Op, typename... Args>
Value StepBuilder::collective(const AxisList &over, StringRef why, RankedTensorType type, Value input, Args... args) {
  auto op = Op::create(builder, loc(), type, input, symbol.getValue(), axes(over), args...);
  op->setAttr(shard::ShardDialect::kOriginAttr, builder.getStringAttr(why));
  return op;
}

//===----------------------------------------------------------------------===//
// Symbols, arguments
//===----------------------------------------------------------------------===//

void StepBuilder::addSymbols() {
  OpBuilder b(meshOp->getContext());
  b.setInsertionPointAfter(meshOp);
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
        attrs.append("sharding", shard::ShardingAttr::get(symbol, mesh, item->sharding));
      items.push_back(attrs.getDictionary(b.getContext()));
    }
    shard::BucketOp::create(b, loc(), b.getStringAttr(bucket.name), b.getStringAttr(bucket.unit), TypeAttr::get(bucket.element),
                            b.getI64IntegerAttr(bucket.length), symbol, axes(shards), b.getArrayAttr(items));
  }
}

BlockArgument StepBuilder::addArgument(RankedTensorType type, NamedAttrList attrs) {
  (void)function.insertArgument(function.getNumArguments(), type, attrs.getDictionary(builder.getContext()), loc());
  return function.getArguments().back();
}

/// A state of a bucket as an argument. For the interpreter it is cut over the ranks that hold different parts of it.
Value StepBuilder::addState(const Bucket &bucket, StringRef role, Type element, bool sharded) {
  std::string name = (role + "/" + bucket.name).str();
  auto type = flat(bucket.length / (sharded ? parts() : 1), element);
  OpBuilder b(meshOp->getContext());
  b.setInsertionPoint(function);
  auto symbolName = b.getStringAttr(name);
  shard::StateOp::create(b, loc(), symbolName, b.getStringAttr(role), TypeAttr::get(type), FlatSymbolRefAttr::get(b.getContext(), bucket.name),
                         sharded ? b.getUnitAttr() : UnitAttr());
  Sharding sharding = Sharding::replicated(1);
  sharding.dims[0].axes = bucket.cut;
  if (sharded)
    llvm::append_range(sharding.dims[0].axes, shards);
  NamedAttrList attrs;
  attrs.append(shard::ShardDialect::kStateAttr, symbolName);
  attrs.append(shard::ShardDialect::kShardingAttr, shard::ShardingAttr::get(symbol, mesh, sharding));
  if (!sharding.isReplicated())
    attrs.append(graph::GraphDialect::kGlobalTypeAttr, TypeAttr::get(flat(type.getNumElements() * axesSize(sharding.dims[0].axes), element)));
  return addArgument(type, attrs);
}

void StepBuilder::addArguments() {
  auto scalar = RankedTensorType::get({}, builder.getF32Type());
  for (StringRef name : config.optimizer.scalarNames()) {
    NamedAttrList attrs;
    attrs.append(graph::GraphDialect::kNameAttr, builder.getStringAttr(name));
    attrs.append(shard::ShardDialect::kShardingAttr, shard::ShardingAttr::get(symbol, mesh, Sharding::replicated(0)));
    scalars[name] = addArgument(scalar, attrs);
  }
  for (const Bucket &bucket : plan.buckets) {
    LiveBucket live{&bucket};
    live.firstArgument = function.getNumArguments();
    live.parameter = addState(bucket, "parameter", bucket.element, isSharded());
    if (keepsCompute())
      live.compute = addState(bucket, "compute_parameter", bucket.compute, false);
    if (bucket.isTrained)
      for (StringRef role : config.optimizer.stateRoles())
        live.states.push_back(addState(bucket, role, bucket.element, isSharded()));
    buckets.push_back(std::move(live));
  }
}

//===----------------------------------------------------------------------===//
// Parameters
//===----------------------------------------------------------------------===//

/// Shard, or whole if it is not cut, in the type of the uses and gathered.
Value StepBuilder::gather(Value shard, const Bucket &bucket, StringRef why) {
  auto type = cast<RankedTensorType>(shard.getType());
  if (type.getElementType() != bucket.compute)
    shard = graph::CastOp::create(builder, loc(), shard, bucket.compute);
  if (type.getNumElements() == bucket.length)
    return shard;
  return collective<shard::AllGatherOp>(shards, why, flat(bucket.length, bucket.compute), shard, 0);
}

void StepBuilder::replaceUses(LiveBucket &bucket, Value whole, ArrayRef<OpOperand *> uses, Operation *before) {
  builder.setInsertionPoint(before);
  DenseMap<Value, TrainedParameter *> owner;
  for (TrainedParameter *item : bucket.plan->items)
    for (Value value : item->values)
      owner[value] = item;
  DenseMap<TrainedParameter *, Value> views;
  for (OpOperand *use : uses) {
    TrainedParameter *item = owner[use->get()];
    Value &view = views[item];
    if (!view)
      view = shard::BucketViewOp::create(builder, loc(), item->compute, whole, builder.getI64IntegerAttr(item->offset));
    use->set(view);
  }
}

static bool isBackward(Operation *op) { return op->hasAttr("shard.backward") || op->hasAttr("shard.recompute"); }

static Operation *firstOf(ArrayRef<OpOperand *> uses) {
  Operation *first = nullptr;
  for (OpOperand *use : uses)
    if (!first || use->getOwner()->isBeforeInBlock(first))
      first = use->getOwner();
  return first;
}

void StepBuilder::replaceParameters(LiveBucket &bucket) {
  const Bucket &own = *bucket.plan;
  SmallVector<OpOperand *> forward, backward;
  for (TrainedParameter *item : own.items)
    for (Value value : item->values)
      for (OpOperand &use : value.getUses())
        if (use.getOwner() != block.getTerminator())
          (isBackward(use.getOwner()) ? backward : forward).push_back(&use);
  bool isLayer = own.unit != "embedding" && own.unit != "head";
  bool again = isSharded() && config.zero == 3 && isLayer && config.reshard != FSDPConfig::Never &&
               (config.reshard != FSDPConfig::Default || !plan.isLast.lookup(own.unit));
  Operation *first = firstOf(forward), *second = firstOf(backward);
  if (!first)
    std::swap(first, second);
  if (!first)
    return; // nobody reads it
  if (bucket.compute || !again || !second || first == second) {
    builder.setInsertionPoint(first);
    SmallVector<OpOperand *> all(forward);
    all.append(backward);
    replaceUses(bucket, bucket.compute ? bucket.compute : gather(bucket.parameter, own, "parameters of " + own.unit), all, first);
    return;
  }
  builder.setInsertionPoint(first);
  Value whole = gather(bucket.parameter, own, "parameters of " + own.unit);
  replaceUses(bucket, whole, forward, first);
  Value kept = bucket.parameter;
  AxisList over = shards;
  if (config.reshard == FSDPConfig::Groups) {
    // A copy stays cut over groups of neighbouring ranks only: the way back is short (ZeRO++ hpZ).
    AxisRef inner = shards.back();
    int64_t size = axesSize({inner});
    over = {AxisRef{inner.axis, inner.pre * (size / config.reshardGroup), config.reshardGroup}};
    Operation *last = first;
    for (OpOperand *use : forward)
      if (last->isBeforeInBlock(use->getOwner()))
        last = use->getOwner();
    builder.setInsertionPointAfter(last);
    kept = collective<shard::SliceOp>(over, "reshard_after_forward of " + own.unit, flat(own.length / config.reshardGroup, own.compute), whole, 0);
  }
  builder.setInsertionPoint(second);
  Value wholeAgain;
  if (config.reshard == FSDPConfig::Groups)
    wholeAgain = collective<shard::AllGatherOp>(over, "parameters of " + own.unit + ", backward", flat(own.length, own.compute), kept, 0);
  else
    wholeAgain = gather(bucket.parameter, own, "parameters of " + own.unit + ", backward");
  replaceUses(bucket, wholeAgain, backward, second);
}

//===----------------------------------------------------------------------===//
// Gradients
//===----------------------------------------------------------------------===//

/// A gradient that is equal on all ranks along `axes` becomes a term of their sum: zero but on the first.
Value StepBuilder::onlyFirst(Value gradient, const AxisList &over) {
  auto type = cast<RankedTensorType>(gradient.getType());
  Value index = shard::AxisIndexOp::create(builder, loc(), RankedTensorType::get({}, builder.getI64Type()), symbol, axes(over));
  Value zero = graph::ConstantOp::splat(builder, loc(), RankedTensorType::get({}, builder.getI64Type()), 0);
  Value isFirst = graph::CompareOp::create(builder, loc(), graph::Predicate::EQ, index, zero);
  return graph::SelectOp::create(builder, loc(), graph::broadcastScalar(builder, loc(), isFirst, type.getShape()), gradient,
                                 graph::ConstantOp::splat(builder, loc(), type, 0));
}

void StepBuilder::reduceGradients(LiveBucket &bucket) {
  const Bucket &own = *bucket.plan;
  Type reduceType = config.reduceType ? config.reduceType : own.element;
  SmallVector<Value> gradients;
  SmallVector<int64_t> offsets;
  Operation *last = nullptr;
  AxisList data = replicate;
  llvm::append_range(data, shards);
  auto *ret = block.getTerminator();
  for (TrainedParameter *item : own.items) {
    Value gradient = ret->getOperand(item->gradient);
    // What is reduced in a narrower type than it is kept in is not widened before.
    if (auto widened = gradient.getDefiningOp<graph::CastOp>(); widened && widened.getInput().getType().getElementType() == reduceType)
      gradient = widened.getInput();
    gradients.push_back(gradient);
    offsets.push_back(item->offset);
    if (Operation *op = gradient.getDefiningOp(); op && (!last || last->isBeforeInBlock(op)))
      last = op;
  }
  if (last)
    builder.setInsertionPointAfter(last);
  else
    builder.setInsertionPoint(ret);
  for (auto [gradient, item] : llvm::zip(gradients, own.items)) {
    auto attr = function.getResultAttrOfType<shard::ShardingAttr>(item->gradient, shard::ShardDialect::kShardingAttr);
    AxisList missing = data;
    if (Result<Sharding> sharding = attr ? attr.resolve(mesh) : Result<Sharding>(Sharding()))
      llvm::erase_if(missing, [&](const AxisRef &axis) { return llvm::is_contained(sharding->partialAxes(), axis); });
    if (!missing.empty())
      gradient = onlyFirst(gradient, missing);
    if (cast<RankedTensorType>(gradient.getType()).getElementType() != reduceType)
      gradient = graph::CastOp::create(builder, loc(), gradient, reduceType);
  }
  Value sum = shard::BucketPackOp::create(builder, loc(), flat(own.length, reduceType), gradients, builder.getDenseI64ArrayAttr(offsets));
  auto kind = shard::ReduceKindAttrValue::Sum;
  std::string why = "gradients of " + own.unit;
  if (isSharded())
    sum = collective<shard::ReduceScatterOp>(shards, why, flat(own.length / parts(), reduceType), sum, kind, 0);
  else if (!shards.empty())
    sum = collective<shard::AllReduceOp>(shards, why, flat(own.length, reduceType), sum, kind);
  if (!replicate.empty())
    sum = collective<shard::AllReduceOp>(replicate, why, cast<RankedTensorType>(sum.getType()), sum, kind);
  if (reduceType != own.element)
    sum = graph::CastOp::create(builder, loc(), sum, own.element);
  bucket.gradient = sum;
  sumSquares(bucket);
}

/// [parts here, rows, columns]: the columns and rows of a shard are the same however many shards are here.
void StepBuilder::sumSquares(LiveBucket &bucket) {
  constexpr int64_t kColumns = 4096;
  Arithmetic a{builder, loc()};
  int64_t here = isSharded() ? 1 : parts(), length = bucket.plan->length / parts(), blocks = length / 64, per = 1;
  for (int64_t d = 1; d <= kColumns / 64; ++d)
    if (blocks % d == 0)
      per = d;
  Value gradient = bucket.gradient;
  if (bucket.plan->element != builder.getF32Type())
    gradient = graph::CastOp::create(builder, loc(), gradient, builder.getF32Type());
  Value rows = graph::ReshapeOp::create(builder, loc(), RankedTensorType::get({here, blocks / per, per * 64}, builder.getF32Type()), gradient);
  Value perRow = graph::ReduceOp::create(builder, loc(), graph::Reduction::Sum, a.mul(rows, rows), {2});
  bucket.squares = graph::ReduceOp::create(builder, loc(), graph::Reduction::Sum, perRow, {1});
}

/// The global norm of the gradient, of loss / tokens.
Value StepBuilder::buildNorm() {
  Arithmetic a{builder, loc()};
  struct Class {
    AxisList cut;
    Value sum;
  };
  SmallVector<Class> classes;
  for (LiveBucket &bucket : buckets) {
    if (!bucket.squares)
      continue;
    auto found = llvm::find_if(classes, [&](const Class &c) { return c.cut == bucket.plan->cut; });
    if (found == classes.end())
      classes.push_back({bucket.plan->cut, bucket.squares});
    else
      found->sum = a.add(found->sum, bucket.squares);
  }
  Value total;
  auto one = RankedTensorType::get({1}, builder.getF32Type());
  auto kind = shard::ReduceKindAttrValue::Sum;
  for (Class &c : classes) {
    Value sum = c.sum;
    if (isSharded()) {
      sum = collective<shard::AllReduceOp>(shards, "norm of the gradient", one, sum, kind);
    } else if (parts() > 1) { // rank by rank, as the all-reduce would
      Value slots = sum;
      for (int64_t r = 0; r < parts(); ++r) {
        Value slot = graph::SliceOp::create(builder, loc(), one, slots, builder.getDenseI64ArrayAttr({r}), builder.getDenseI64ArrayAttr({1}));
        sum = r ? a.add(sum, slot) : slot;
      }
    }
    if (!c.cut.empty())
      sum = collective<shard::AllReduceOp>(c.cut, "norm of the gradient", one, sum, kind);
    total = total ? a.add(total, sum) : sum;
  }
  Value scalar = graph::ReshapeOp::create(builder, loc(), RankedTensorType::get({}, builder.getF32Type()), total);
  return a.div(a.sqrt(scalar), tokens);
}

//===----------------------------------------------------------------------===//
// Update
//===----------------------------------------------------------------------===//

void StepBuilder::update(LiveBucket &bucket, Value scale) {
  const Bucket &own = *bucket.plan;
  Type f32 = builder.getF32Type();
  auto widen = [&](Value value) {
    return own.element == f32 ? value : graph::CastOp::create(builder, loc(), value, f32).getResult();
  };
  UpdateInputs in;
  in.parameter = widen(bucket.parameter);
  in.gradient = widen(bucket.gradient);
  for (Value state : bucket.states)
    in.states.push_back(widen(state));
  in.scale = scale;
  in.scalars = scalars;
  in.hasDecay = own.hasDecay;
  SmallVector<Value> results = buildUpdate(builder, loc(), config.optimizer, in);
  if (own.element != f32)
    for (Value &result : results)
      result = graph::CastOp::create(builder, loc(), result, own.element);
  bucket.results = {results[0]};
  if (bucket.compute)
    bucket.results.push_back(gather(results[0], own, "updated parameters of " + own.unit));
  bucket.results.append(results.begin() + 1, results.end());
}

void StepBuilder::finish() {
  SmallVector<Value> results = {loss, tokens, norm};
  SmallVector<DictionaryAttr> attrs;
  auto whole = [&](StringRef name) {
    NamedAttrList list;
    list.append(graph::GraphDialect::kNameAttr, builder.getStringAttr(name));
    list.append(shard::ShardDialect::kShardingAttr, shard::ShardingAttr::get(symbol, mesh, Sharding::replicated(0)));
    return list.getDictionary(builder.getContext());
  };
  for (StringRef name : {"loss", "tokens", "grad_norm"})
    attrs.push_back(whole(name));
  for (LiveBucket &bucket : buckets)
    for (auto [i, value] : llvm::enumerate(bucket.results)) {
      results.push_back(value);
      attrs.push_back(function.getArgAttrDict(bucket.firstArgument + i));
    }
  block.getTerminator()->setOperands(results);
  function.setFunctionType(builder.getFunctionType(function.getArgumentTypes(), ValueRange(results).getTypes()));
  function.setAllResultAttrs(attrs);
  SymbolTable::setSymbolName(function, "step");
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
    if (&op != block.getTerminator() && op.use_empty() && isMemoryEffectFree(&op))
      op.erase();
}

LogicalResult StepBuilder::run() {
  loss = block.getTerminator()->getOperand(0);
  tokens = block.getTerminator()->getOperand(1);
  addSymbols();
  addArguments();
  for (LiveBucket &bucket : buckets)
    replaceParameters(bucket);
  for (LiveBucket &bucket : buckets)
    if (bucket.plan->isTrained)
      reduceGradients(bucket);
  builder.setInsertionPoint(block.getTerminator());
  Arithmetic a{builder, loc()};
  norm = buildNorm();
  Value one = a.constant(tokens.getType(), 1), scale = a.div(one, tokens);
  if (config.clipNorm > 0) {
    // torch.nn.utils.clip_grad_norm_
    Value ratio = a.div(a.constant(norm.getType(), config.clipNorm), a.add(norm, a.constant(norm.getType(), 1e-6)));
    scale = a.mul(scale, graph::MinOp::create(builder, loc(), ratio, one));
  }
  for (LiveBucket &bucket : buckets) {
    if (!bucket.plan->isTrained)
      continue;
    builder.setInsertionPoint(block.getTerminator());
    update(bucket, scale);
  }
  finish();
  return success();
}

namespace {
struct FSDPPass : impl::FSDPPassBase<FSDPPass> {
  using FSDPPassBase::FSDPPassBase;

  FailureOr<FSDPConfig> readOptions(int64_t parts) {
    auto error = [&]() { return getOperation().emitError(); };
    FSDPConfig config;
    config.zero = zero;
    if (zero < 0 || zero > 3)
      return error() << "zero: " << zero << " is not 0, 1, 2 or 3";
    if (reshard == "true" || reshard == "false") {
      config.reshard = reshard == "true" ? FSDPConfig::Always : FSDPConfig::Never;
    } else if (!reshard.empty()) {
      if (StringRef(reshard).getAsInteger(10, config.reshardGroup) || config.reshardGroup < 1)
        return error() << "reshard: \"" << reshard << "\" is not true, false or a number of ranks";
      if (parts % config.reshardGroup)
        return error() << "reshard: groups of " << config.reshardGroup << " ranks do not divide the " << parts << " ranks along dp_shard";
      config.reshard = config.reshardGroup == 1 ? FSDPConfig::Never : config.reshardGroup == parts ? FSDPConfig::Always : FSDPConfig::Groups;
    }
    if (zero != 3 && config.reshard != FSDPConfig::Default && config.reshard != FSDPConfig::Never)
      return error() << "reshard: needs zero 3, where parameters are sharded; zero is " << zero;
    if (optimizer != "adamw" && optimizer != "sgd")
      return error() << "optimizer: \"" << optimizer << "\" is not adamw or sgd";
    config.optimizer = {optimizer == "adamw" ? OptimizerSpec::AdamW : OptimizerSpec::Sgd, beta1, beta2, epsilon, momentum, weightDecay};
    config.clipNorm = clipNorm;
    Builder b(&getContext());
    if (!reduceDtype.empty()) {
      config.reduceType = llvm::StringSwitch<Type>(reduceDtype).Case("f32", b.getF32Type()).Case("bf16", b.getBF16Type()).Case("f16", b.getF16Type()).Default({});
      if (!config.reduceType)
        return error() << "reduce-dtype: \"" << reduceDtype << "\" is not f32, bf16 or f16";
    }
    return config;
  }

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto function = module.lookupSymbol<func::FuncOp>(entry);
    shard::MeshOp meshOp = shard::getOnlyMesh(module);
    if (!function || !meshOp || function.getNumResults() < 3 || !function.getResultAttr(2, "graph.gradient")) {
      module.emitError() << "needs one shard.mesh and a differentiated function @" << entry;
      return signalPassFailure();
    }
    Mesh mesh = meshOp.getMesh();
    int64_t parts = 1;
    for (const MeshAxis &axis : mesh.axes)
      if (StringRef(axis.name).starts_with("dp") && axis.name != "dp_replicate")
        parts *= axis.size;
    FailureOr<FSDPConfig> config = readOptions(parts);
    if (failed(config))
      return signalPassFailure();
    llvm::Regex pattern(noDecay);
    std::string error;
    if (!noDecay.empty() && !pattern.isValid(error)) {
      module.emitError() << "no-decay: \"" << noDecay << "\" is not a regular expression: " << error;
      return signalPassFailure();
    }
    FailureOr<BucketPlan> plan = planBuckets(function, mesh, parts, noDecay.empty() ? nullptr : &pattern);
    if (failed(plan) || failed(StepBuilder(function, meshOp, *config, *plan).run()))
      signalPassFailure();
  }
};
} // namespace
} // namespace shardc
