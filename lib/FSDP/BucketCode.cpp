//===- BucketCode.cpp - What is done with a bucket ------------------------===//
//
// Sums in one order whatever is sharded, so that all ZeRO stages agree bit for bit: over dp_shard,
// then dp_replicate; the norm in fixed blocks, then over buckets, then over ranks in the same order
// - by an all-reduce, or by adding slot by slot where a rank has the parts of several.
//
//===----------------------------------------------------------------------===//

#include "BucketCode.h"
#include "Muon.h"

using namespace mlir;

namespace shardc {

static constexpr auto kSum = shard::ReduceKindAttrValue::Sum;
static RankedTensorType flat(int64_t length, Type element) {
  return RankedTensorType::get({length}, element);
}

template <typename Op, typename... Args>
Value BucketCode::collective(const AxisList &over, StringRef why, RankedTensorType type,
                             Value input, Args... args) {
  auto op =
      Op::create(builder, loc(), type, input, layout.symbol.getValue(), layout.axes(over), args...);
  op->setAttr(shard::ShardDialect::kOriginAttr, builder.getStringAttr(why));
  return op;
}

//===----------------------------------------------------------------------===//
// Parameters
//===----------------------------------------------------------------------===//

/// FSDP's own traffic runs behind computation.
static Value overlapped(Value value, bool isBackward = false) {
  if (Operation *op = value.getDefiningOp()) {
    op->setAttr(shard::ShardDialect::kOverlapAttr, UnitAttr::get(op->getContext()));
    if (isBackward)
      op->setAttr(shard::ShardDialect::kBackwardAttr, UnitAttr::get(op->getContext()));
  }
  return value;
}

Value BucketCode::castTo(Value value, Type element) {
  return graph::castTo(builder, loc(), value, element);
}

Value BucketCode::gatherReplicas(Value owned, const Bucket &bucket) {
  return overlapped(collective<shard::AllGatherOp>(
      layout.replicate, "parameters of " + bucket.unit + ", from replicas",
      flat(bucket.length / bucket.parts(), bucket.compute), castTo(owned, bucket.compute), 0));
}

Value BucketCode::innerShard(const Bucket &bucket) {
  ShardLayout own = layout.of(bucket);
  if (config.keepsCompute(own))
    return computeState(bucket);
  Value owned = entry.state(bucket, "parameter", bucket.element, own.owned());
  return layout.cutsReplicas ? gatherReplicas(owned, bucket) : owned;
}

Value BucketCode::gather(Value shard, const Bucket &bucket, StringRef why, bool isBackward) {
  shard = castTo(shard, bucket.compute);
  if (cast<RankedTensorType>(shard.getType()).getNumElements() == bucket.length)
    return shard;
  return overlapped(collective<shard::AllGatherOp>(bucket.shards, why,
                                                   flat(bucket.length, bucket.compute), shard, 0),
                    isBackward);
}

/// Neighbouring ranks along the last shard axis (ZeRO++ hpZ, arXiv 2306.10209).
AxisList BucketCode::groupAxes(const Bucket &bucket) {
  AxisRef inner = bucket.shards.back();
  int64_t size = axesSize({inner});
  return {AxisRef{inner.axis, inner.pre * (size / config.reshardGroup), config.reshardGroup}};
}

Value BucketCode::keepInGroups(Value whole, const Bucket &bucket) {
  return collective<shard::SliceOp>(groupAxes(bucket), "reshard_after_forward of " + bucket.unit,
                                    flat(bucket.length / config.reshardGroup, bucket.compute),
                                    whole, 0);
}

Value BucketCode::gatherFromGroups(Value part, const Bucket &bucket) {
  return overlapped(collective<shard::AllGatherOp>(groupAxes(bucket),
                                                   "parameters of " + bucket.unit + ", backward",
                                                   flat(bucket.length, bucket.compute), part, 0),
                    /*isBackward=*/true);
}

//===----------------------------------------------------------------------===//
// Gradients
//===----------------------------------------------------------------------===//

/// A gradient that is equal on all ranks along `over` becomes a term of their sum: zero but on the
/// first.
Value BucketCode::onlyFirst(Value gradient, const AxisList &over) {
  auto type = cast<RankedTensorType>(gradient.getType());
  auto scalar = RankedTensorType::get({}, builder.getI64Type());
  Value index =
      shard::AxisIndexOp::create(builder, loc(), scalar, layout.symbol, layout.axes(over));
  Value isFirst = graph::CompareOp::create(builder, loc(), graph::Predicate::EQ, index,
                                           graph::ConstantOp::splat(builder, loc(), scalar, 0));
  return graph::SelectOp::create(builder, loc(),
                                 graph::broadcastScalar(builder, loc(), isFirst, type.getShape()),
                                 gradient, graph::ConstantOp::splat(builder, loc(), type, 0));
}

Value BucketCode::pack(const Bucket &bucket, ArrayRef<Value> gradients, ArrayRef<AxisList> pending,
                       Value before) {
  AxisList data = layout.replicate;
  llvm::append_range(data, bucket.shards);
  SmallVector<Value> parts;
  SmallVector<int64_t> offsets;
  for (auto [gradient, axes, item] : llvm::zip(gradients, pending, bucket.items)) {
    AxisList missing = refineBy(data, axes), present = refineBy(axes, data);
    llvm::erase_if(missing, [&](const AxisRef &axis) { return llvm::is_contained(present, axis); });
    Value part =
        castTo(missing.empty() ? gradient : onlyFirst(gradient, missing), reduceType(bucket));
    if (before) {
      Value view = shard::BucketViewOp::create(builder, loc(), part.getType(), before,
                                               builder.getI64IntegerAttr(item->offset));
      part = graph::AddOp::create(builder, loc(), view, part);
    }
    parts.push_back(part);
    offsets.push_back(item->offset);
  }
  return shard::BucketPackOp::create(builder, loc(), flat(bucket.length, reduceType(bucket)), parts,
                                     builder.getDenseI64ArrayAttr(offsets));
}

Value BucketCode::scatterSum(Value sum, const Bucket &bucket) {
  Type element = cast<RankedTensorType>(sum.getType()).getElementType();
  if (layout.of(bucket).isSharded)
    return overlapped(collective<shard::ReduceScatterOp>(
        bucket.shards, "gradients of " + bucket.unit, flat(bucket.length / bucket.parts(), element),
        sum, kSum, 0));
  return bucket.shards.empty() ? sum
                               : overlapped(collective<shard::AllReduceOp>(
                                     bucket.shards, "gradients of " + bucket.unit,
                                     cast<RankedTensorType>(sum.getType()), sum, kSum));
}

Value BucketCode::replicaSum(Value sum, const Bucket &bucket) {
  if (layout.replicate.empty())
    return sum;
  auto type = cast<RankedTensorType>(sum.getType());
  std::string why = "gradients of " + bucket.unit + ", replicas";
  if (!layout.cutsReplicas)
    return overlapped(collective<shard::AllReduceOp>(layout.replicate, why, type, sum, kSum));
  type = flat(type.getNumElements() / layout.replicas(), type.getElementType());
  return overlapped(collective<shard::ReduceScatterOp>(layout.replicate, why, type, sum, kSum, 0));
}

/// [parts here, rows, columns]: rows and columns of a part are the same however many parts are
/// here.
Value BucketCode::squares(Value gradient, const Bucket &bucket) {
  constexpr int64_t kColumns = 4096;
  Arithmetic a{builder, loc()};
  Type f32 = builder.getF32Type();
  int64_t parts = bucket.parts() * layout.replicas(),
          here = parts / axesSize(layout.of(bucket).owned()), blocks = bucket.length / parts / 64,
          per = 1;
  for (int64_t d = 1; d <= kColumns / 64; ++d)
    if (blocks % d == 0)
      per = d;
  Value rows = graph::ReshapeOp::create(builder, loc(),
                                        RankedTensorType::get({here, blocks / per, per * 64}, f32),
                                        castTo(gradient, f32));
  Value perRow =
      graph::ReduceOp::create(builder, loc(), graph::Reduction::Sum, a.mul(rows, rows), {2});
  return graph::ReduceOp::create(builder, loc(), graph::Reduction::Sum, perRow, {1});
}

/// Adds the `groups` equal parts of `slots`, one by one, as an all-reduce of ranks that have one
/// each would.
Value BucketCode::addSlots(Value slots, int64_t groups) {
  if (groups == 1)
    return slots;
  int64_t size = cast<RankedTensorType>(slots.getType()).getNumElements() / groups;
  Value sum;
  for (int64_t r = 0; r < groups; ++r) {
    Value slot = graph::SliceOp::create(builder, loc(), flat(size, builder.getF32Type()), slots,
                                        builder.getDenseI64ArrayAttr({r * size}),
                                        builder.getDenseI64ArrayAttr({1}));
    sum = r ? Arithmetic{builder, loc()}.add(sum, slot) : slot;
  }
  return sum;
}

Value BucketCode::norm(ArrayRef<std::pair<const Bucket *, Value>> squares, Value tokens) {
  Arithmetic a{builder, loc()};
  struct Class { // buckets that are cut and sharded over the same axes
    AxisList cut, shards;
    Value sum;
  };
  std::vector<Class> classes;
  for (auto &square : squares) {
    const Bucket *bucket = square.first;
    Value own = square.second;
    auto found = llvm::find_if(classes, [&](const Class &c) {
      return c.cut == bucket->cut && c.shards == bucket->shards;
    });
    if (found == classes.end())
      classes.push_back({bucket->cut, bucket->shards, own});
    else
      found->sum = a.add(found->sum, own);
  }
  Value total;
  for (Class &c : classes) {
    Value sum = c.sum;
    auto overRanks = [&](const AxisList &axes) {
      return collective<shard::AllReduceOp>(axes, "norm of the gradient",
                                            cast<RankedTensorType>(sum.getType()), sum, kSum);
    };
    sum = layout.isSharded && !c.shards.empty() ? overRanks(c.shards)
                                                : addSlots(sum, axesSize(c.shards));
    sum = layout.cutsReplicas ? overRanks(layout.replicate) : addSlots(sum, layout.replicas());
    if (!c.cut.empty())
      sum = overRanks(c.cut);
    total = total ? a.add(total, sum) : sum;
  }
  Value scalar = graph::ReshapeOp::create(builder, loc(),
                                          RankedTensorType::get({}, builder.getF32Type()), total);
  return a.div(a.sqrt(scalar), tokens);
}

Value BucketCode::scale(Value norm, Value tokens) {
  Arithmetic a{builder, loc()};
  Value one = a.constant(tokens.getType(), 1), scale = a.div(one, tokens);
  if (config.clipNorm <= 0)
    return scale;
  // torch.nn.utils.clip_grad_norm_
  Value ratio = a.div(a.constant(norm.getType(), config.clipNorm),
                      a.add(norm, a.constant(norm.getType(), 1e-6)));
  return a.mul(scale, graph::MinOp::create(builder, loc(), ratio, one));
}

//===----------------------------------------------------------------------===//
// Update
//===----------------------------------------------------------------------===//

Value BucketCode::isFinite(Value value) {
  Value limit =
      Arithmetic{builder, loc()}.constant(value.getType(), std::numeric_limits<double>::infinity());
  return graph::CompareOp::create(builder, loc(), graph::Predicate::LT,
                                  graph::AbsOp::create(builder, loc(), value), limit);
}

Value BucketCode::countNonFinite(Value gradient) {
  Arithmetic a{builder, loc()};
  auto type = cast<RankedTensorType>(gradient.getType());
  auto counts = RankedTensorType::get(type.getShape(), builder.getF32Type());
  Value bad = graph::SelectOp::create(builder, loc(), isFinite(gradient), a.constant(counts, 0),
                                      a.constant(counts, 1));
  Value rows = graph::ReshapeOp::create(builder, loc(),
                                        flat(type.getNumElements(), counts.getElementType()), bad);
  return graph::ReshapeOp::create(
      builder, loc(), flat(1, counts.getElementType()),
      graph::ReduceOp::create(builder, loc(), graph::Reduction::Sum, rows, {0}));
}

void BucketCode::update(const Bucket &bucket, Value gradient, Value scale, Value isGood) {
  Type f32 = builder.getF32Type();
  ShardLayout own = layout.of(bucket);
  SmallVector<Value> before = {entry.state(bucket, "parameter", bucket.element, own.owned())};
  OptimizerSpec spec = bucket.hasMatrices ? config.optimizer : config.optimizer.forOthers();
  UpdateInputs in;
  in.parameter = castTo(before[0], f32);
  in.gradient = castTo(gradient, f32);
  for (StringRef role : spec.stateRoles()) {
    before.push_back(entry.state(bucket, role, bucket.element, own.owned()));
    in.states.push_back(castTo(before.back(), f32));
  }
  for (StringRef name : spec.scalarNames())
    in.scalars[name] = entry.scalar(name);
  in.scale = scale;
  in.hasDecay = bucket.hasDecay;
  SmallVector<Value> results = buildUpdate(builder, loc(), spec, in, [&](Value momentum) {
    return orthogonalise(builder, loc(), layout, bucket, spec, momentum);
  });
  for (auto [from, to] : llvm::zip(before, MutableArrayRef<Value>(results))) {
    to = castTo(to, bucket.element);
    if (isGood)
      to = graph::SelectOp::create(
          builder, loc(),
          graph::broadcastScalar(builder, loc(), isGood,
                                 cast<RankedTensorType>(to.getType()).getShape()),
          to, from);
    entry.setState(from, to);
  }
  if (config.keepsCompute(own))
    entry.setState(computeState(bucket),
                   computeOf(results[0], bucket, "updated parameters of " + bucket.unit));
}

} // namespace shardc
