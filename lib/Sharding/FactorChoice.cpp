//===- FactorChoice.cpp - Settling disagreement about factors by cost -----===//
//
// 1. Candidates for a factor: the axis lists that tensors have or want on it, and all their
//    prefixes.
// 2. Depth first over factors: each takes a candidate that overlaps none taken before. As soon as
//    all factors of a tensor are decided its reshard is planned; a branch that already costs more
//    than the best is left.
// 3. The reason: what each reshard costs, and what each rejected candidate would have cost.
//
//===----------------------------------------------------------------------===//
#include "shardc/Sharding/FactorSharding.h"

#include <algorithm>
#include <cstdio>
#include <limits>

using namespace shardc;

namespace {

constexpr int64_t maxLeaves = 20000;
constexpr double weightMicros = 1e6; // see TensorInfo::isWeight
constexpr double infinite = std::numeric_limits<double>::infinity();

std::string micros(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f us", value);
  return text;
}

/// An assignment under construction.
struct Choice {
  std::vector<AxisList> axes; ///< Per factor.
  AxisList pending;           ///< Passed through.
};

class Chooser {
public:
  Chooser(const ShardingRule &rule, ReshardPlanner &planner, const FactorRequest &request)
      : rule(rule), planner(planner), mesh(planner.getMesh()), request(request) {}

  Result<FactorAssignment> run();

private:
  Error verifyRequest() const;
  void collectCandidates();
  void addCandidate(size_t factor, const AxisList &axes);
  void addProjected(const FactorDims &dims, const Sharding &sharding);
  void collectPendingCandidates();

  bool isConsistent(const Choice &choice) const;
  AxisList pendingOf(const Choice &choice) const;
  std::optional<Sharding> needed(const Choice &choice, size_t operand) const;
  std::optional<Sharding> produced(const Choice &choice, size_t result) const;
  double reshardMicros(const TensorInfo &type, const Sharding &from, const Sharding &to);
  double operandMicros(const Choice &choice, size_t operand);
  double resultMicros(const Choice &choice, size_t result);
  double computeMicros(const Choice &choice) const;
  double totalMicros(const Choice &choice);

  void search(Choice &choice, size_t factor, double soFar);
  double decidedMicros(const Choice &choice, size_t factor);
  std::string explain();
  std::string explainRejected(size_t factor);
  std::string explainReshard(const std::string &name, const TensorInfo &type, const Sharding &from,
                             const Sharding &to);

  const ShardingRule &rule;
  ReshardPlanner &planner;
  const Mesh &mesh;
  const FactorRequest &request;
  std::vector<std::vector<AxisList>> candidates; ///< Per factor; the empty list first.
  std::vector<AxisList> pendingCandidates;
  std::vector<int> lastFactor; ///< Per operand: after which factor all of its factors are decided.
  Choice best;
  double bestMicros = infinite;
  int64_t leaves = 0;
};

//===----------------------------------------------------------------------===//
// Candidates
//===----------------------------------------------------------------------===//

Error Chooser::verifyRequest() const {
  std::vector<Shape> operandShapes, resultShapes;
  for (const TensorInfo &type : request.operandTypes)
    operandShapes.push_back(type.shape);
  for (const TensorInfo &type : request.resultTypes)
    resultShapes.push_back(type.shape);
  if (Error error = rule.verify(operandShapes, resultShapes))
    return error;
  if (request.operands.size() != operandShapes.size() ||
      request.results.size() != resultShapes.size())
    return "got " + std::to_string(request.operands.size()) + " operand and " +
           std::to_string(request.results.size()) + " result shardings for " +
           std::to_string(operandShapes.size()) + " operands and " +
           std::to_string(resultShapes.size()) + " results";
  for (size_t i = 0; i < operandShapes.size(); ++i)
    if (Error error = verify(mesh, request.operands[i], operandShapes[i]))
      return "operand " + std::to_string(i) + ": " + *error;
  for (size_t i = 0; i < resultShapes.size(); ++i)
    if (request.results[i])
      if (Error error = verify(mesh, *request.results[i], resultShapes[i]))
        return "result " + std::to_string(i) + ": " + *error;
  return std::nullopt;
}

void Chooser::addCandidate(size_t factor, const AxisList &axes) {
  AxisList list = canonicalAxes(axes);
  auto &known = candidates[factor];
  if (std::find(known.begin(), known.end(), list) == known.end())
    known.push_back(list);
}

void Chooser::addProjected(const FactorDims &dims, const Sharding &sharding) {
  TensorFactors projected = projectToFactors(rule, dims, sharding);
  for (size_t f = 0; f < rule.factors.size(); ++f)
    if (projected.factors[f].present)
      addCandidate(f, projected.factors[f].axes);
}

/// A pending sum may pass through a linear op: the axes that some tensor pends.
void Chooser::collectPendingCandidates() {
  pendingCandidates = {{}};
  if (!rule.linear)
    return;
  auto add = [&](const Sharding &sharding) {
    AxisList axes = canonical(sharding).partialAxes();
    if (sharding.partialKind() == ReduceKind::Sum &&
        std::find(pendingCandidates.begin(), pendingCandidates.end(), axes) ==
            pendingCandidates.end())
      pendingCandidates.push_back(axes);
  };
  for (const Sharding &sharding : request.operands)
    add(sharding);
  for (const auto &sharding : request.results)
    if (sharding)
      add(*sharding);
}

void Chooser::collectCandidates() {
  candidates.assign(rule.factors.size(), {AxisList()});
  for (size_t i = 0; i < rule.operands.size(); ++i)
    addProjected(rule.operands[i], request.operands[i]);
  for (size_t i = 0; i < rule.results.size(); ++i) {
    if (!request.results[i])
      continue;
    addProjected(rule.results[i], *request.results[i]);
    // A result that shall pend is made by sharding a reduction.
    for (size_t f = 0; f < rule.factors.size(); ++f)
      if (rule.factors[f].kind == FactorKind::Reduction)
        addCandidate(f, request.results[i]->partialAxes());
  }
  AxisList all;
  for (const auto &lists : candidates)
    for (const AxisList &list : lists)
      all.insert(all.end(), list.begin(), list.end());
  for (size_t f = 0; f < rule.factors.size(); ++f) {
    FactorKind kind = rule.factors[f].kind;
    std::vector<AxisList> lists = std::move(candidates[f]);
    candidates[f] = {AxisList()};
    if (kind == FactorKind::NeedReplication || kind == FactorKind::Permutation)
      continue;
    for (const AxisList &list : lists) {
      AxisList parts = refineBy(list, all);
      for (size_t length = parts.size(); length > 0; --length)
        addCandidate(f, {parts.begin(), parts.begin() + length});
    }
  }
  collectPendingCandidates();
  for (const FactorDims &dims : rule.operands) {
    int last = -1;
    for (const std::vector<int> &factors : dims)
      for (int factor : factors)
        last = std::max(last, factor);
    lastFactor.push_back(last);
  }
}

//===----------------------------------------------------------------------===//
// What a choice means and costs
//===----------------------------------------------------------------------===//

/// Every axis on one factor at most, over the whole op: on two, a device would see only the
/// diagonal of the two loops. One kind of reduction pends.
bool Chooser::isConsistent(const Choice &choice) const {
  AxisList used = choice.pending;
  std::optional<ReduceKind> kind;
  if (!choice.pending.empty())
    kind = ReduceKind::Sum;
  for (size_t f = 0; f < choice.axes.size(); ++f) {
    const Factor &factor = rule.factors[f];
    if (choice.axes[f].empty())
      continue;
    if (overlaps(choice.axes[f], used))
      return false;
    used.insert(used.end(), choice.axes[f].begin(), choice.axes[f].end());
    if (factor.kind != FactorKind::Reduction)
      continue;
    if (kind && *kind != factor.reduce)
      return false;
    kind = factor.reduce;
    if (!request.allowUnevenReduction && factor.size % axesSize(choice.axes[f]) != 0)
      return false;
  }
  return true;
}

static void addPending(Sharding &sharding, ReduceKind kind, const AxisList &axes) {
  for (const AxisRef &ref : axes)
    sharding.partial.push_back({kind, ref});
}

static bool hasFactor(const FactorDims &dims, size_t factor) {
  for (const std::vector<int> &factors : dims)
    if (std::find(factors.begin(), factors.end(), static_cast<int>(factor)) != factors.end())
      return true;
  return false;
}

std::optional<Sharding> Chooser::needed(const Choice &choice, size_t operand) const {
  std::optional<Sharding> sharding = shardingOf(rule, rule.operands[operand], choice.axes);
  if (!sharding)
    return sharding;
  addPending(*sharding, ReduceKind::Sum, choice.pending);
  return canonical(*sharding);
}

std::optional<Sharding> Chooser::produced(const Choice &choice, size_t result) const {
  std::optional<Sharding> sharding = shardingOf(rule, rule.results[result], choice.axes);
  if (!sharding)
    return sharding;
  addPending(*sharding, ReduceKind::Sum, choice.pending);
  for (size_t f = 0; f < choice.axes.size(); ++f)
    if (rule.factors[f].kind == FactorKind::Reduction && !hasFactor(rule.results[result], f))
      addPending(*sharding, rule.factors[f].reduce, choice.axes[f]);
  return canonical(*sharding);
}

double Chooser::reshardMicros(const TensorInfo &type, const Sharding &from, const Sharding &to) {
  if (sameLayout(from, to))
    return 0;
  const Result<ReshardPlan> &plan = planner.plan(type.shape, type.elementBytes, from, to);
  if (!plan)
    return infinite;
  return plan->micros() + (type.isWeight && plan->bytes() > 0 ? weightMicros : 0);
}

double Chooser::operandMicros(const Choice &choice, size_t operand) {
  std::optional<Sharding> to = needed(choice, operand);
  return to ? reshardMicros(request.operandTypes[operand], request.operands[operand], *to)
            : infinite;
}

double Chooser::resultMicros(const Choice &choice, size_t result) {
  std::optional<Sharding> from = produced(choice, result);
  if (!from)
    return infinite;
  Sharding wanted;
  if (request.results[result]) {
    wanted = *request.results[result];
  } else {
    wanted = *from;
    wanted.partial.clear();
  }
  return reshardMicros(request.resultTypes[result], *from, wanted);
}

double Chooser::computeMicros(const Choice &choice) const {
  double points = 1;
  for (size_t f = 0; f < choice.axes.size(); ++f)
    points *= static_cast<double>(ceilDiv(rule.factors[f].size, axesSize(choice.axes[f])));
  return points * request.nanosPerPoint * 1e-3;
}

double Chooser::totalMicros(const Choice &choice) {
  if (!isConsistent(choice))
    return infinite;
  double sum = computeMicros(choice);
  for (size_t i = 0; i < rule.operands.size(); ++i)
    sum += operandMicros(choice, i);
  for (size_t i = 0; i < rule.results.size(); ++i)
    sum += resultMicros(choice, i);
  return sum;
}

//===----------------------------------------------------------------------===//
// Search
//===----------------------------------------------------------------------===//

/// Of the operands whose last factor is `factor`.
double Chooser::decidedMicros(const Choice &choice, size_t factor) {
  double sum = 0;
  for (size_t i = 0; i < lastFactor.size(); ++i)
    if (lastFactor[i] == static_cast<int>(factor))
      sum += operandMicros(choice, i);
  return sum;
}

void Chooser::search(Choice &choice, size_t factor, double soFar) {
  if (factor == rule.factors.size()) {
    ++leaves;
    double total = totalMicros(choice);
    if (total < bestMicros) {
      bestMicros = total;
      best = choice;
    }
    return;
  }
  for (const AxisList &axes : candidates[factor]) {
    choice.axes[factor] = axes;
    if (leaves < maxLeaves && isConsistent(choice)) {
      double cost = soFar + decidedMicros(choice, factor);
      if (cost < bestMicros)
        search(choice, factor + 1, cost);
    }
  }
  choice.axes[factor].clear();
}

Result<FactorAssignment> Chooser::run() {
  if (Error error = verifyRequest())
    return Result<FactorAssignment>::failure(*error);
  collectCandidates();
  for (const AxisList &pending : pendingCandidates) {
    Choice choice{std::vector<AxisList>(rule.factors.size()), pending};
    search(choice, 0, 0);
  }
  if (bestMicros == infinite)
    return Result<FactorAssignment>::failure("no sharding of rule " + rule.str() +
                                             " leads to the wanted results");
  FactorAssignment assignment;
  assignment.axes = best.axes;
  assignment.passedPending = best.pending;
  for (size_t i = 0; i < rule.operands.size(); ++i)
    assignment.operands.push_back(*needed(best, i));
  for (size_t i = 0; i < rule.results.size(); ++i)
    assignment.results.push_back(*produced(best, i));
  assignment.micros = bestMicros;
  assignment.reshardMicros = bestMicros - computeMicros(best);
  assignment.reason = explain();
  return assignment;
}

//===----------------------------------------------------------------------===//
// Reasons
//===----------------------------------------------------------------------===//

std::string Chooser::explainReshard(const std::string &name, const TensorInfo &type,
                                    const Sharding &from, const Sharding &to) {
  if (sameLayout(from, to))
    return "";
  return "  " + name + " " + str(mesh, from) + " -> " + str(mesh, to) + ": " +
         micros(reshardMicros(type, from, to)) + "\n";
}

/// Each other candidate in the place of the chosen one, other factors giving up what overlaps with
/// it.
std::string Chooser::explainRejected(size_t factor) {
  std::string text;
  for (const AxisList &axes : candidates[factor]) {
    if (axes == best.axes[factor])
      continue;
    Choice other = best;
    for (AxisList &list : other.axes)
      if (overlaps(list, axes))
        list.clear();
    if (overlaps(other.pending, axes))
      other.pending.clear();
    other.axes[factor] = axes;
    double cost = totalMicros(other);
    text += (text.empty() ? "; lost: " : ", ") + str(mesh, axes) + " " +
            (cost == infinite ? "(impossible)" : "(" + micros(cost) + ")");
  }
  return text;
}

std::string Chooser::explain() {
  std::string text = rule.str() + ": " + micros(bestMicros) + ", of which computation " +
                     micros(computeMicros(best)) + "\n";
  for (size_t f = 0; f < rule.factors.size(); ++f)
    if (candidates[f].size() > 1)
      text += "  factor " + std::to_string(f) + " (size " + std::to_string(rule.factors[f].size) +
              "): " + str(mesh, best.axes[f]) + explainRejected(f) + "\n";
  for (size_t i = 0; i < rule.operands.size(); ++i)
    text += explainReshard("operand " + std::to_string(i), request.operandTypes[i],
                           request.operands[i], *needed(best, i));
  for (size_t i = 0; i < rule.results.size(); ++i)
    if (request.results[i])
      text += explainReshard("result " + std::to_string(i), request.resultTypes[i],
                             *produced(best, i), *request.results[i]);
  return text;
}

} // namespace

Result<FactorAssignment> shardc::chooseFactorAxes(const ShardingRule &rule, ReshardPlanner &planner,
                                                  const FactorRequest &request) {
  return Chooser(rule, planner, request).run();
}
