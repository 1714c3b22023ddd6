//===- ReshardCost.cpp - What a step costs, and how it reads --------------===//
#include "shardc/Sharding/Reshard.h"

#include <algorithm>
#include <cstdio>

using namespace shardc;

MeshCosts MeshCosts::uniform(const Mesh &mesh, AxisCost cost) {
  MeshCosts costs;
  costs.axes.assign(mesh.axes.size(), cost);
  return costs;
}

/// Bytes that each device of a group of `group` sends (ring volumes; a direct exchange for
/// all-to-all).
static int64_t bytesSent(StepKind kind, int64_t group, int64_t sourceBytes, int64_t resultBytes) {
  switch (kind) {
  case StepKind::AllGather:
    return sourceBytes * (group - 1);
  case StepKind::ReduceScatter:
    return resultBytes * (group - 1);
  case StepKind::AllReduce:
    return 2 * ceilDiv(sourceBytes, group) * (group - 1);
  case StepKind::AllToAll:
    return ceilDiv(sourceBytes, group) * (group - 1);
  case StepKind::Permute:
    return sourceBytes;
  case StepKind::Slice:
    break;
  }
  return 0;
}

static bool isLocal(const ReshardStep &step) {
  if (step.kind != StepKind::Permute)
    return step.kind == StepKind::Slice;
  return std::all_of(step.pairs.begin(), step.pairs.end(),
                     [](const auto &pair) { return pair.first == pair.second; });
}

void shardc::estimateStep(const MeshCosts &costs, int64_t sourceBytes, int64_t resultBytes,
                          ReshardStep &step) {
  step.bytes = 0;
  step.micros = costs.stepMicros;
  if (isLocal(step)) {
    step.micros += resultBytes / (costs.localGigabytesPerSecond * 1e3);
    return;
  }
  double bandwidth = 0, latency = 0;
  for (const AxisRef &ref : step.axes) {
    const AxisCost &axis = costs.axes[ref.axis];
    bandwidth = bandwidth ? std::min(bandwidth, axis.gigabytesPerSecond) : axis.gigabytesPerSecond;
    latency = std::max(latency, axis.latencyMicros);
  }
  int64_t group = axesSize(step.axes);
  int messages = 0;
  while ((int64_t(1) << messages) < group)
    ++messages;
  if (step.kind == StepKind::Permute)
    messages = 1;
  else if (step.kind == StepKind::AllReduce)
    messages *= 2;
  // An all-to-all packs and unpacks: at equal bytes a gather or a scatter of sums is better.
  if (step.kind == StepKind::AllToAll)
    step.micros += costs.stepMicros * 0.01;
  step.bytes = bytesSent(step.kind, group, sourceBytes, resultBytes);
  step.micros += latency * messages + step.bytes / (bandwidth * 1e3);
}

int64_t ReshardPlan::bytes() const {
  int64_t sum = 0;
  for (const ReshardStep &step : steps)
    sum += step.bytes;
  return sum;
}

double ReshardPlan::micros() const {
  double sum = 0;
  for (const ReshardStep &step : steps)
    sum += step.micros;
  return sum;
}

const char *shardc::str(StepKind kind) {
  static const char *const names[] = {"all-gather", "all-reduce", "reduce-scatter",
                                      "all-to-all", "slice",      "permute"};
  return names[static_cast<int>(kind)];
}

std::string shardc::str(const Mesh &mesh, const ReshardStep &step) {
  std::string text = str(step.kind);
  if (step.kind == StepKind::AllReduce || step.kind == StepKind::ReduceScatter)
    text += std::string(" ") + str(step.reduce);
  if (step.concatDim >= 0)
    text += " dim " + std::to_string(step.concatDim);
  if (step.splitDim >= 0)
    text += (step.concatDim >= 0 ? " to dim " : " dim ") + std::to_string(step.splitDim);
  text += " over " + str(mesh, step.axes);
  char cost[64];
  std::snprintf(cost, sizeof(cost), ": %lld bytes, %.1f us -> ", static_cast<long long>(step.bytes),
                step.micros);
  return text + cost + str(mesh, step.result);
}

std::string shardc::str(const Mesh &mesh, const ReshardPlan &plan) {
  std::string text;
  for (const ReshardStep &step : plan.steps)
    text += str(mesh, step) + "\n";
  return text;
}
