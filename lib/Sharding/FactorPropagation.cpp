//===- FactorPropagation.cpp - One op's share of propagation --------------===//
//
// 1. Project every tensor's sharding to factors.
// 2. For each factor, the longest axis list that no tensor contradicts.
// 3. Extend every open tensor towards it, axis by axis, as far as the axis is free there and the
//    dimension's blocks stay blocks of factors. Repeat until nothing changes (a minor factor waits
//    for its major one).
//
//===----------------------------------------------------------------------===//
#include "shardc/Sharding/FactorSharding.h"

#include <algorithm>
#include <numeric>
#include <tuple>

using namespace shardc;

namespace {

class Propagation {
public:
  Propagation(const ShardingRule &rule, const Mesh &mesh, const std::vector<Sharding> &operands,
              const std::vector<Sharding> &results, const PropagateOptions &options,
              const std::vector<int64_t> &bytes)
      : rule(rule), mesh(mesh), options(options), bytes(bytes), operandCount(operands.size()) {
    shardings = operands;
    shardings.insert(shardings.end(), results.begin(), results.end());
    for (size_t t = 0; t < shardings.size(); ++t)
      tensors.push_back(projectToFactors(rule, dimsOf(t), shardings[t]));
    this->bytes.resize(shardings.size());
  }

  PropagateResult run() {
    while (sweep())
      result.changed = true;
    result.operands.assign(shardings.begin(), shardings.begin() + operandCount);
    result.results.assign(shardings.begin() + operandCount, shardings.end());
    return std::move(result);
  }

private:
  const FactorDims &dimsOf(size_t tensor) const {
    return tensor < operandCount ? rule.operands[tensor] : rule.results[tensor - operandCount];
  }
  bool isOperand(size_t tensor) const { return tensor < operandCount; }
  std::string nameOf(size_t tensor) const {
    return isOperand(tensor) ? "operand " + std::to_string(tensor)
                             : "result " + std::to_string(tensor - operandCount);
  }
  const TensorFactors::Entry &entry(size_t tensor, size_t factor) const {
    return tensors[tensor].factors[factor];
  }

  bool isVisible(size_t tensor, size_t factor) const {
    return entry(tensor, factor).present && entry(tensor, factor).priority <= options.priority;
  }
  bool gives(size_t tensor) const { return isOperand(tensor) ? options.forward : options.backward; }
  /// With one direction only, tensors of the giving side do not take.
  bool takes(size_t tensor) const {
    if (options.forward && options.backward)
      return true;
    return isOperand(tensor) ? options.backward : options.forward;
  }

  void addConflict(std::string text) {
    auto &all = result.conflicts;
    if (std::find(all.begin(), all.end(), text) == all.end())
      all.push_back(std::move(text));
  }

  AxisList compatibleAxes(size_t factor);
  std::vector<size_t> factorOrder() const;
  bool sweep();
  bool extend(size_t tensor, size_t factor, const AxisList &wanted);
  bool tryAppend(size_t tensor, size_t factor, const AxisRef &ref);
  bool isUsed(size_t tensor, const AxisRef &ref) const;

  const ShardingRule &rule;
  const Mesh &mesh;
  PropagateOptions options;
  std::vector<int64_t> bytes;
  size_t operandCount;
  std::vector<Sharding> shardings;
  std::vector<TensorFactors> tensors;
  PropagateResult result;
};

/// A tensor with fewer axes does not contradict one with more; at the first axis where two differ,
/// all stops.
AxisList Propagation::compatibleAxes(size_t factor) {
  AxisList agreed;
  size_t giver = shardings.size();
  bool cut = false;
  for (size_t t = 0; t < shardings.size(); ++t) {
    if (!isVisible(t, factor) || !gives(t) || entry(t, factor).axes.empty())
      continue;
    const AxisList &axes = entry(t, factor).axes;
    if (dropPrefix(agreed, axes))
      continue;
    if (dropPrefix(axes, agreed)) {
      if (!cut) {
        agreed = axes;
        giver = t;
      }
      continue;
    }
    addConflict("factor " + std::to_string(factor) + " (size " +
                std::to_string(rule.factors[factor].size) + "): " + nameOf(giver) + " has " +
                str(mesh, entry(giver, factor).axes) + ", " + nameOf(t) + " has " +
                str(mesh, axes));
    agreed = commonPrefix(agreed, axes);
    cut = true;
  }
  return agreed;
}

/// By priority, then the largest tensor that has axes to give, then index.
std::vector<size_t> Propagation::factorOrder() const {
  std::vector<std::tuple<int, int64_t, size_t>> keys;
  for (size_t f = 0; f < rule.factors.size(); ++f) {
    int priority = INT_MAX;
    int64_t largest = 0;
    for (size_t t = 0; t < shardings.size(); ++t)
      if (isVisible(t, f) && gives(t) && !entry(t, f).axes.empty()) {
        priority = std::min(priority, entry(t, f).priority);
        largest = std::max(largest, bytes[t]);
      }
    keys.push_back({priority, -largest, f});
  }
  std::sort(keys.begin(), keys.end());
  std::vector<size_t> order;
  for (const auto &key : keys)
    order.push_back(std::get<2>(key));
  return order;
}

bool Propagation::isUsed(size_t tensor, const AxisRef &ref) const {
  for (const AxisRef &used : shardings[tensor].usedAxes())
    if (overlaps(used, ref))
      return true;
  return false;
}

bool Propagation::tryAppend(size_t tensor, size_t factor, const AxisRef &ref) {
  const FactorDims &dims = dimsOf(tensor);
  size_t dim = 0;
  while (std::find(dims[dim].begin(), dims[dim].end(), factor) == dims[dim].end())
    ++dim;
  if (!tensors[tensor].overflow[dim].empty())
    return false;
  std::vector<AxisList> axes;
  for (const TensorFactors::Entry &entry : tensors[tensor].factors)
    axes.push_back(entry.axes);
  axes[factor].push_back(ref);
  std::optional<Sharding> extended = shardingOf(rule, {dims[dim]}, axes);
  // What the dimension has stays in place; only minor axes may be added.
  if (!extended || !dropPrefix(extended->dims[0].axes, shardings[tensor].dims[dim].axes))
    return false;
  tensors[tensor].factors[factor].axes = canonicalAxes(axes[factor]);
  shardings[tensor].dims[dim].axes = extended->dims[0].axes;
  return true;
}

bool Propagation::extend(size_t tensor, size_t factor, const AxisList &wanted) {
  std::optional<AxisList> missing = dropPrefix(wanted, entry(tensor, factor).axes);
  if (!missing)
    return false;
  bool changed = false;
  for (const AxisRef &ref : refineBy(*missing, shardings[tensor].usedAxes())) {
    if (isUsed(tensor, ref)) {
      addConflict("axis " + str(mesh, ref) + " of factor " + std::to_string(factor) +
                  " is already used in " + nameOf(tensor));
      return changed;
    }
    if (tryAppend(tensor, factor, ref)) {
      changed = true;
      continue;
    }
    int64_t room = rule.factors[factor].size / axesSize(entry(tensor, factor).axes);
    auto parts = splitAxis(ref, std::gcd(room, ref.size));
    return (parts && parts->first.size > 1 && tryAppend(tensor, factor, parts->first)) || changed;
  }
  return changed;
}

bool Propagation::sweep() {
  bool changed = false;
  for (size_t factor : factorOrder()) {
    if (rule.factors[factor].kind == FactorKind::NeedReplication)
      continue;
    AxisList agreed = compatibleAxes(factor);
    for (size_t t = 0; t < shardings.size() && !agreed.empty(); ++t)
      if (isVisible(t, factor) && takes(t) && entry(t, factor).open)
        changed |= extend(t, factor, agreed);
  }
  return changed;
}

} // namespace

PropagateResult shardc::propagateOp(const ShardingRule &rule, const Mesh &mesh,
                                    const std::vector<Sharding> &operands,
                                    const std::vector<Sharding> &results,
                                    const PropagateOptions &options,
                                    const std::vector<int64_t> &bytes) {
  return Propagation(rule, mesh, operands, results, options, bytes).run();
}
