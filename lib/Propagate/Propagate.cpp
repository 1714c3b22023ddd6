//===- Propagate.cpp - From the shardings of some values, those of all others -===//
//
// Input:  a global module with one mesh and some shardings. Output: a sharding on every value.
//
//   1. Functions and constants that would tie unrelated values together are separated (Prepare.h).
//   2. Shardings spread over the module as one graph (PropagationGraph.h).
//
// What disagrees is left as it is: Partition settles it by cost, op by op.
//
//===----------------------------------------------------------------------===//

#include "shardc/Propagate/Passes.h"

#include "Prepare.h"
#include "PropagationGraph.h"

using namespace mlir;
using namespace shardc;

namespace shardc {
#define GEN_PASS_DEF_SHARDPROPAGATE
#include "lib/Propagate/Passes.h.inc"
} // namespace shardc

namespace {
struct ShardPropagate : shardc::impl::ShardPropagateBase<ShardPropagate> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    shard::MeshOp mesh = shard::requireOnlyMesh(module);
    if (!mesh)
      return signalPassFailure();
    for (auto function : module.getOps<func::FuncOp>())
      splitConstants(function);
    specialiseCallees(module);
    PropagationGraph graph(mesh);
    if (failed(graph.build(module)))
      return signalPassFailure();
    graph.run();
    graph.write(module);
  }
};
} // namespace
