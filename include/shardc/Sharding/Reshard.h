//===- Reshard.h - Cheapest sequence of collectives between shardings -----===//
//
// Input:  a mesh, the global shape of a tensor, the shardings it has and shall have, and what
// moving bytes
//         along each mesh axis costs.
// Output: the steps (collectives and local slices) of the cheapest route found.
//
// Algorithm: Dijkstra over sharding states. A state says which sub-axes cut each dimension, in
// which order, and which are pending; sub-axes are those of the common refinement of source and
// target. Every collective is an edge whose weight is its estimated time, so that all-reduce
// against reduce-scatter, gather against all-to-all, and the order of steps are decided by the
// mesh's bandwidths, never by pattern. (GSPMD, arXiv 2105.04663 §4.5, and Shardy's
// reshard_to_collectives apply fixed rules in a fixed order.)
//
// Correctness for uneven dimensions: a step may only join or cut blocks whose boundaries nest
// (blocksNest).
//
// Limits: axes that neither sharding uses are not used on the way; what is common to both shardings
// of an evenly divided dimension stays where it is; beyond 20,000 states only gathers, reductions
// and slices towards the target are considered (correct, perhaps not cheapest).
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_SHARDING_RESHARD_H
#define SHARDC_SHARDING_RESHARD_H

#include "shardc/Sharding/Sharding.h"

#include <memory>

namespace shardc {

/// Links between neighbours along one mesh axis.
struct AxisCost {
  double gigabytesPerSecond = 50; ///< Per device and direction, 10^9 bytes/s.
  double latencyMicros = 2;       ///< Of one message.
};

/// The alpha-beta model: a collective over g devices that sends `bytes` from each takes
///   stepMicros + latency · ceil(log2 g) + bytes / bandwidth      (all-reduce: twice the latency)
/// with the slowest of its axes. Bytes are those of bandwidth-optimal rings.
struct MeshCosts {
  std::vector<AxisCost> axes;           ///< One per mesh axis.
  double localGigabytesPerSecond = 100; ///< Copies within a device (slices).
  double stepMicros = 0.5;              ///< Overhead of any step; also makes fewer steps win ties.

  static MeshCosts uniform(const Mesh &mesh, AxisCost cost = AxisCost());
};

enum class StepKind { AllGather, AllReduce, ReduceScatter, AllToAll, Slice, Permute };
const char *str(StepKind kind);

/// One collective, executed by every group of devices along `axes`. Semantics and local shapes are
/// those of the command of the same name in docs/contracts.md §3.
struct ReshardStep {
  StepKind kind = StepKind::Slice;
  ReduceKind reduce = ReduceKind::Sum; ///< AllReduce, ReduceScatter.
  int splitDim = -1;  ///< Dimension that becomes smaller: ReduceScatter, AllToAll, Slice.
  int concatDim = -1; ///< Dimension that becomes larger: AllGather, AllToAll.
  /// The devices of a group, first major. They are the minor-most axes of concatDim before the step
  /// and of splitDim after it.
  AxisList axes;
  /// Permute: (from, to) indices within the group, the same in every group. A device that receives
  /// from itself is listed too; one that receives nothing holds zeros afterwards.
  std::vector<std::pair<int64_t, int64_t>> pairs;
  Sharding result;   ///< After the step; canonical.
  int64_t bytes = 0; ///< Sent by each device.
  double micros = 0; ///< Estimate.
};

struct ReshardPlan {
  std::vector<ReshardStep> steps; ///< Empty if source and target hold the same data everywhere.

  int64_t bytes() const;
  double micros() const;
};

/// `all-gather dim 0 over {tp}: 1024 bytes, 3.1 us -> [{}, {}]`
std::string str(const Mesh &mesh, const ReshardStep &step);
/// One step a line.
std::string str(const Mesh &mesh, const ReshardPlan &plan);

/// Fails if a sharding does not fit mesh and shape, or if the target pends a product that the
/// source does not (there are no ones to fill in; pending sums and extrema can be made from
/// complete values).
Result<ReshardPlan> planReshard(const Mesh &mesh, const Shape &shape, int64_t elementBytes,
                                const Sharding &from, const Sharding &to, const MeshCosts &costs);

/// Fills `bytes` and `micros` of `step`, given the local buffers' sizes before and after it.
void estimateStep(const MeshCosts &costs, int64_t sourceBytes, int64_t resultBytes,
                  ReshardStep &step);

/// Plans, remembering every answer. Thread-safe.
class ReshardPlanner {
public:
  ReshardPlanner(Mesh mesh, MeshCosts costs);
  ~ReshardPlanner();
  const Result<ReshardPlan> &plan(const Shape &shape, int64_t elementBytes, const Sharding &from,
                                  const Sharding &to);
  const Mesh &getMesh() const { return mesh; }
  const MeshCosts &getCosts() const { return costs; }

private:
  Mesh mesh;
  MeshCosts costs;
  struct Memo;
  std::unique_ptr<Memo> memo;
};

/// Local buffers (row-major, padded) of all devices by rank.
using DeviceBuffers = std::vector<std::vector<double>>;

/// Executes steps on buffers sharded as `from`; what a runtime does, in the simplest way. For tests
/// and for the interpreter.
Result<DeviceBuffers> executeSteps(const Mesh &mesh, const Shape &shape, const Sharding &from,
                                   const std::vector<ReshardStep> &steps, DeviceBuffers buffers);

} // namespace shardc

#endif // SHARDC_SHARDING_RESHARD_H
