//===- Raise.cpp - Transformer blocks out of primitive ops ----------------===//
//
// Input: what an importer writes, norms and attention spelled out. Output: the same function with
// graph.rms_norm, graph.attention, … in their place, so that plans, derivatives and kernels meet
// whole blocks.
//
// 1. Equal subexpressions merge: patterns compare values by identity. Again at the end, since every
//    use of a rope table emits it anew.
// 2. All patterns run to a fixed point; each file of this folder holds those of one subject.
// 3. On request, a remark counts the blocks of each function.
//
// What no pattern knows stays as it was.
//
//===----------------------------------------------------------------------===//

#include "lib/Raise/Patterns.h"
#include "shardc/Raise/Passes.h"

#include "dialects/Graph/Graph.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Dominance.h"
#include "mlir/Transforms/CSE.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

#include <map>

namespace shardc {
#define GEN_PASS_DEF_RAISEPASS
#include "lib/Raise/Passes.h.inc"
} // namespace shardc

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

/// A remark such as "2 attention, 5 rms_norm, 4 rope, 2 silu".
static void reportBlocks(func::FuncOp func) {
  std::map<StringRef, int64_t> counts;
  func.walk([&](Operation *op) {
    if (isa<AttentionOp, RmsNormOp, LayerNormOp, RopeOp, SiluOp, GeluOp, GeluTanhOp, SoftplusOp,
            SoftmaxOp, GroupedMatmulOp>(op))
      ++counts[op->getName().stripDialect()];
  });
  InFlightDiagnostic remark = func.emitRemark() << "@" << func.getName() << ": ";
  if (counts.empty())
    remark << "no blocks";
  llvm::interleaveComma(counts, remark,
                        [&](auto &entry) { remark << entry.second << " " << entry.first; });
}

namespace {

struct RaisePass : public shardc::impl::RaisePassBase<RaisePass> {
  using RaisePassBase::RaisePassBase;

  void runOnOperation() override {
    mergeEqualExpressions();
    raise::ConstantFacts facts;
    RewritePatternSet patterns(&getContext());
    for (OperationName name : getContext().getRegisteredOperationsByDialect("graph"))
      name.getCanonicalizationPatterns(patterns, &getContext());
    raise::populateMovementPatterns(patterns);
    raise::populateNormPatterns(patterns);
    raise::populateActivationPatterns(patterns);
    raise::populateRopePatterns(patterns, facts);
    raise::populateExpertPatterns(patterns);
    raise::populateAttentionPatterns(patterns);
    raise::populateAttentionOperandPatterns(patterns, facts);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns)))) {
      getOperation().emitError("raising patterns do not come to an end");
      return signalPassFailure();
    }
    mergeEqualExpressions();
    if (report)
      for (auto func : getOperation().getOps<func::FuncOp>())
        reportBlocks(func);
  }

private:
  void mergeEqualExpressions() {
    IRRewriter rewriter(&getContext());
    DominanceInfo dominance(getOperation());
    eliminateCommonSubExpressions(rewriter, dominance, getOperation());
  }
};

} // namespace
