//===- ExpertMesh.cpp - The ranks as experts see them ---------------------===//

#include "ExpertMesh.h"

namespace shardc {

static std::string number(int64_t value) { return std::to_string(value); }

Result<AxisList> expertAxes(const Mesh &mesh, int64_t ep) {
  std::optional<int> tpAxis = mesh.findAxis("tp"), shardAxis = mesh.findAxis("dp_shard");
  int64_t tp = tpAxis ? mesh.axes[*tpAxis].size : 1,
          shards = shardAxis ? mesh.axes[*shardAxis].size : 1;
  if (ep % tp)
    return Result<AxisList>::failure("ep = " + number(ep) +
                                     " is not a multiple of tp = " + number(tp));
  if (shards * tp % ep)
    return Result<AxisList>::failure("ep = " + number(ep) + " does not divide dp_shard x tp = " +
                                     number(shards) + " x " + number(tp));
  AxisList axes;
  if (int64_t data = ep / tp; data > 1)
    axes.push_back({*shardAxis, shards / data, data});
  if (tp > 1)
    axes.push_back(wholeAxis(mesh, *tpAxis));
  return axes;
}

} // namespace shardc
