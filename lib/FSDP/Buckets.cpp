//===- Buckets.cpp - Which parameter lies where ---------------------------===//
//
//   1. A parameter that only one layer's calls use belongs to that layer's unit. Of the others,
//      those that are first used behind the last layer are one unit (final norm, head), the rest
//      another (embedding).
//   2. Inside of a unit: one bucket for each combination of element type, type of the uses,
//      trainability, decay, optimizer, axes over which the parameter is whole (the norm of the
//      gradient counts those ranks once), and axes over which it is sharded: experts that are cut
//      over a part of dp_shard have the rest.
//   3. Offsets are multiples of 64 elements, so that views are aligned for every type.
//
//===----------------------------------------------------------------------===//

#include "Buckets.h"

#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace shardc {

constexpr int64_t kAlignment = 64;

/// If all uses are casts to one type, those; the cast is done on the shard, and the narrow type
/// travels.
static void followCasts(TrainedParameter &parameter, ArrayRef<graph::ParameterOp> ops) {
  SmallVector<Value> casts;
  bool allCasts = true;
  for (graph::ParameterOp op : ops)
    for (Operation *user : op->getUsers()) {
      auto cast = dyn_cast<graph::CastOp>(user);
      allCasts &= cast && (casts.empty() || casts.front().getType() == cast.getType());
      if (cast)
        casts.push_back(cast);
    }
  for (graph::ParameterOp op : ops)
    parameter.values.push_back(op);
  if (allCasts && !casts.empty())
    parameter.values = casts;
  parameter.compute = cast<RankedTensorType>(parameter.values.front().getType());
}

static std::string layerOf(Operation *user) {
  auto call = dyn_cast<func::CallOp>(user);
  auto path = call ? call->getAttrOfType<StringAttr>(graph::GraphDialect::kPathAttr) : StringAttr();
  return path ? path.str() : "";
}

static void chooseUnit(TrainedParameter &parameter, Operation *lastLayer) {
  std::optional<std::string> layer;
  bool isLate = true;
  for (Value value : parameter.values)
    for (Operation *user : value.getUsers()) {
      std::string own = layerOf(user);
      layer = !layer || *layer == own ? own : "";
      isLate &= !lastLayer ||
                (user->getBlock() == lastLayer->getBlock() && lastLayer->isBeforeInBlock(user));
    }
  parameter.unit = layer && !layer->empty() ? *layer : (isLate ? kHead : kEmbedding).str();
}

/// Of the mesh's axes what cuts the parameter, what shards its bucket, and over what else than data
/// it is whole.
static void setAxes(Bucket &bucket, const Mesh &mesh, const Sharding &sharding,
                    const AxisList &shards) {
  AxisList used = sharding.usedAxes();
  for (auto [n, axis] : llvm::enumerate(mesh.axes)) {
    AxisRef ref = wholeAxis(mesh, static_cast<int>(n));
    bool isShard = llvm::is_contained(shards, ref);
    AxisList own, unwanted,
        &rest = isShard                                  ? bucket.shards
                : StringRef(axis.name).starts_with("dp") ? unwanted
                                                         : bucket.replicated;
    for (const AxisRef &part : used)
      if (part.axis == ref.axis)
        own.push_back(part);
    if (own.empty()) {
      rest.push_back(ref);
      continue;
    }
    // What of the axis is not used: k/v heads that several ranks share, experts that several ranks
    // have.
    bucket.cut.insert(bucket.cut.end(), own.begin(), own.end());
    if (axesSize(own) < axis.size && own.size() == 1) {
      if (own[0].pre > 1)
        rest.push_back({ref.axis, 1, own[0].pre});
      if (int64_t minor = axis.size / (own[0].pre * own[0].size); minor > 1)
        rest.push_back({ref.axis, own[0].pre * own[0].size, minor});
    }
  }
}

/// Do two pieces of one weight have an element in common? (Of every element there is one, that is
/// trained.)
static bool haveCommonPart(const TrainedParameter &a, const TrainedParameter &b) {
  if (a.name != b.name)
    return false;
  if (!a.segment || !b.segment || a.segment[0] != b.segment[0])
    return true;
  return a.segment[1] < b.segment[1] + b.segment[2] && b.segment[1] < a.segment[1] + a.segment[2];
}

FailureOr<BucketPlan> planBuckets(func::FuncOp entry, const Mesh &mesh, const AxisList &shards,
                                  int64_t replicas, const NamePattern &noDecay,
                                  bool splitMatrices) {
  BucketPlan plan;
  llvm::MapVector<std::pair<Attribute, Attribute>, SmallVector<graph::ParameterOp>> named;
  Operation *lastLayer = nullptr;
  llvm::StringMap<std::string> lastOfList;
  for (Operation &op : entry.getBody().front()) {
    if (auto parameter = dyn_cast<graph::ParameterOp>(op))
      if (isa<FloatType>(parameter.getType().getElementType()))
        named[{parameter.getNameAttr(), parameter.getSegmentAttr()}].push_back(parameter);
    if (isa<func::CallOp>(op) && !isBackward(&op) && !layerOf(&op).empty()) {
      lastLayer = &op;
      std::string path = layerOf(&op);
      lastOfList[StringRef(path).rsplit('.').first] = path;
    }
  }
  for (auto &entryOfList : lastOfList)
    plan.isLast[entryOfList.second] = true;
  DenseMap<std::pair<Attribute, Attribute>, int> gradients;
  for (unsigned n = 0; n < entry.getNumResults(); ++n)
    if (Attribute name = entry.getResultAttr(n, graph::GraphDialect::kGradientAttr))
      gradients[{name, entry.getResultAttr(n, graph::GraphDialect::kSegmentAttr)}] = n;

  llvm::MapVector<StringRef, int>
      order; // units, by first use; parameters stand before their first use
  for (auto &[key, ops] : named) {
    auto parameter = std::make_unique<TrainedParameter>();
    graph::ParameterOp first = ops.front();
    parameter->name = first.getNameAttr();
    parameter->segment = first.getSegmentAttr();
    parameter->local = first.getType();
    parameter->global = first.getGlobalType();
    followCasts(*parameter, ops);
    parameter->sharding = Sharding::replicated(parameter->local.getRank());
    if (shard::ShardingAttr attr = shard::getSharding(first.getResult())) {
      Result<Sharding> sharding = attr.resolve(mesh);
      if (!sharding)
        return first.emitOpError() << sharding.error;
      parameter->sharding = *sharding;
    }
    for (graph::ParameterOp op : ops)
      if (op.getType() != first.getType() ||
          shard::getSharding(op.getResult()) != shard::getSharding(first.getResult()))
        return op.emitOpError() << "\"" << op.getName()
                                << "\" stands twice, under different shardings";
    for (auto &other : plan.parameters)
      if (haveCommonPart(*other, *parameter))
        return first.emitOpError()
               << "\"" << first.getName() << "\" stands twice, in pieces that overlap";
    if (auto found = gradients.find(key); found != gradients.end())
      parameter->gradient = found->second;
    chooseUnit(*parameter, lastLayer);
    plan.parameters.push_back(std::move(parameter));
  }

  for (auto &parameter : plan.parameters) {
    Bucket own;
    setAxes(own, mesh, parameter->sharding, shards);
    bool isMatrix = splitMatrices && parameter->gradient >= 0 && parameter->global.getRank() == 2 &&
                    isLayerUnit(parameter->unit);
    bool hasDecay = !noDecay.matches(parameter->name.getValue());
    auto found = llvm::find_if(plan.buckets, [&](const Bucket &bucket) {
      return bucket.unit == parameter->unit &&
             bucket.element == parameter->local.getElementType() &&
             bucket.compute == parameter->compute.getElementType() &&
             bucket.isTrained == (parameter->gradient >= 0) && bucket.hasDecay == hasDecay &&
             bucket.hasMatrices == isMatrix && bucket.replicated == own.replicated &&
             bucket.shards == own.shards;
    });
    if (found == plan.buckets.end()) {
      own.unit = parameter->unit;
      own.element = parameter->local.getElementType();
      own.compute = parameter->compute.getElementType();
      own.isTrained = parameter->gradient >= 0;
      own.hasDecay = hasDecay;
      own.hasMatrices = isMatrix;
      found = plan.buckets.insert(plan.buckets.end(), std::move(own));
    }
    found->items.push_back(parameter.get());
  }
  llvm::StringMap<int> perUnit;
  for (Bucket &bucket : plan.buckets) {
    int n = perUnit[bucket.unit]++;
    bucket.name = bucket.unit + (n ? "/" + std::to_string(n) : "");
    int64_t end = 0;
    for (TrainedParameter *item : bucket.items) {
      item->offset = llvm::alignTo(end, kAlignment);
      end = item->offset + item->local.getNumElements();
    }
    bucket.length = llvm::alignTo(end, kAlignment * bucket.parts() * replicas);
  }
  return std::move(plan);
}

} // namespace shardc
