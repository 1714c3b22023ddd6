//===- ReshardPlan.cpp - Planning a reshard, with memory ------------------===//
//
// 1. Cut the axes of source and target at each other's points ("atoms"); set aside what stays where
//    it is.
// 2. Search: a state is, per dimension, the ordered atoms that cut it, and the set of pending
//    atoms.
// 3. Turn the moves on the cheapest route into steps, joining consecutive slices and consecutive
//    permutes.
//
//===----------------------------------------------------------------------===//
#include "ReshardSearch.h"

#include <mutex>

using namespace shardc;
using reshard::Search;

static Error verifyRequest(const Mesh &mesh, const Shape &shape, int64_t elementBytes,
                           const Sharding &from, const Sharding &to, const MeshCosts &costs) {
  if (Error error = mesh.verify())
    return error;
  if (costs.axes.size() != mesh.axes.size())
    return "costs are given for " + std::to_string(costs.axes.size()) + " axes, mesh \"" +
           mesh.name + "\" has " + std::to_string(mesh.axes.size());
  for (size_t i = 0; i < costs.axes.size(); ++i)
    if (!(costs.axes[i].gigabytesPerSecond > 0) || !(costs.axes[i].latencyMicros >= 0))
      return "axis \"" + mesh.axes[i].name +
             "\" needs a positive bandwidth and a latency of at least 0";
  if (!(costs.localGigabytesPerSecond > 0) || !(costs.stepMicros >= 0))
    return std::string("local bandwidth must be positive and step overhead at least 0");
  if (elementBytes < 1)
    return "element size is " + std::to_string(elementBytes) + " bytes, expected at least 1";
  if (Error error = verify(mesh, from, shape))
    return "source sharding: " + *error;
  if (Error error = verify(mesh, to, shape))
    return "target sharding: " + *error;
  return std::nullopt;
}

Result<ReshardPlan> shardc::planReshard(const Mesh &mesh, const Shape &shape, int64_t elementBytes,
                                        const Sharding &from, const Sharding &to,
                                        const MeshCosts &costs) {
  if (Error error = verifyRequest(mesh, shape, elementBytes, from, to, costs))
    return Result<ReshardPlan>::failure(*error);
  ReshardPlan plan;
  if (sameLayout(from, to))
    return plan;
  // A simple route first: it bounds the search, and stands in when that meets too many states.
  double bound = std::numeric_limits<double>::infinity();
  Search simple(mesh, shape, elementBytes, from, to, costs, /*restricted=*/true);
  if (simple.run()) {
    bound = simple.cost();
    plan.steps = simple.route();
  }
  Search full(mesh, shape, elementBytes, from, to, costs, /*restricted=*/false, bound);
  if (full.run())
    plan.steps = full.route();
  if (plan.steps.empty())
    return Result<ReshardPlan>::failure("no way from " + str(mesh, from) + " to " + str(mesh, to) +
                                        ": a pending product cannot be made from complete values");
  return plan;
}

struct ReshardPlanner::Memo {
  std::mutex mutex;
  std::unordered_map<std::string, Result<ReshardPlan>> plans;
};

ReshardPlanner::ReshardPlanner(Mesh mesh, MeshCosts costs)
    : mesh(std::move(mesh)), costs(std::move(costs)), memo(std::make_unique<Memo>()) {}
ReshardPlanner::~ReshardPlanner() = default;

static void appendKey(std::string &key, const Sharding &sharding) {
  auto append = [&](const AxisList &axes) {
    for (const AxisRef &ref : axes)
      for (int64_t number : {int64_t(ref.axis), ref.pre, ref.size})
        key += std::to_string(number) + ",";
    key += ';';
  };
  for (const DimSharding &dim : sharding.dims)
    append(dim.axes);
  for (const auto &entry : sharding.partial)
    key += str(entry.first);
  append(sharding.partialAxes());
  key += '/';
}

const Result<ReshardPlan> &ReshardPlanner::plan(const Shape &shape, int64_t elementBytes,
                                                const Sharding &from, const Sharding &to) {
  std::string key = std::to_string(elementBytes) + ":";
  for (int64_t size : shape)
    key += std::to_string(size) + "x";
  appendKey(key, from);
  appendKey(key, to);
  std::lock_guard<std::mutex> lock(memo->mutex);
  auto found = memo->plans.find(key);
  if (found == memo->plans.end())
    found = memo->plans.emplace(key, planReshard(mesh, shape, elementBytes, from, to, costs)).first;
  return found->second;
}
