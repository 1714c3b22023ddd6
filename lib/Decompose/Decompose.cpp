//===- Decompose.cpp - Async tensor parallelism ---------------------------===//
//
// Input: local functions with collectives along the sequence (sequence parallelism). Output: the
// same numbers, bit for bit, with those collectives and the products beside them in pieces.
//
//   1. Find gathers along the sequence and the products that read them, and reduce-scatters and the
//      products that make what they reduce (Sites.cpp).
//   2. Choose the number of pieces, and where they pay (Choice.cpp). What stays whole is reported.
//   3. Find what else is done piece by piece (CutOps.cpp), and do so (Pieces.cpp).
//   4. A gather that stays whole, for the gradient of a weight, moves in front of the last products
//      of pieces before it is read: they hide it, and pieces that are needed earlier go first.
//
// Behind FSDP: it looks for patterns of whole products. Before Fuse: a piece's kernels are fused as
// the whole's were. A ring of permutes would hide the first piece too, but changes the order of
// reduction (and what each rank does first). Papers: Wang et al., ASPLOS 2023 (XLA's collective
// matmul); torchtitan's async tensor parallelism.
//
//===----------------------------------------------------------------------===//
#include "Sites.h"

#include "shardc/Decompose/Passes.h"

using namespace mlir;

namespace shardc {
#define GEN_PASS_DEF_DECOMPOSEPASS
#include "lib/Decompose/Passes.h.inc"

namespace {

/// Says why a collective stays whole, here and in `shardc explain`.
void report(const Site &site) {
  Operation *op = site.op;
  op->emitRemark() << op->getName().stripDialect() << " is not cut into pieces: " << site.refusal;
  auto origin = op->getAttrOfType<DictionaryAttr>(shard::ShardDialect::kOriginAttr);
  if (!origin)
    return;
  NamedAttrList list(origin);
  list.set("whole", StringAttr::get(op->getContext(), site.refusal));
  op->setAttr(shard::ShardDialect::kOriginAttr, list.getDictionary(op->getContext()));
}

/// Starts a whole gather in front of the last of `starts` before its result is read.
void hideWhole(Operation *gather, ArrayRef<Operation *> starts) {
  Operation *place = nullptr;
  for (Operation *start : starts)
    if (gather->isBeforeInBlock(start) &&
        llvm::all_of(gather->getUsers(),
                     [&](Operation *user) { return start->isBeforeInBlock(user); }) &&
        (!place || place->isBeforeInBlock(start)))
      place = start;
  if (!place)
    return;
  gather->moveBefore(place);
  gather->setAttr(kPieceAttr, UnitAttr::get(gather->getContext()));
}

struct DecomposePass : impl::DecomposePassBase<DecomposePass> {
  using DecomposePassBase::DecomposePassBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (pieces < 0 || pieces == 1) {
      module.emitError() << "pieces is " << pieces.getValue()
                         << ", expected at least 2, or 0 for a number by costs or size";
      return signalPassFailure();
    }
    if (!module->hasAttr(shard::ShardDialect::kPartitionedAttr)) {
      module.emitError() << "is not partitioned: there are no collectives to cut into pieces";
      return signalPassFailure();
    }
    llvm::Expected<CostTable> table = costs.empty() ? CostTable() : CostTable::read(costs);
    if (!table) {
      module.emitError() << "costs: " << llvm::toString(table.takeError());
      return signalPassFailure();
    }
    ChoiceOptions options{pieces.getValue(), target, std::move(*table)};
    for (auto function : module.getOps<func::FuncOp>())
      if (!function.isExternal())
        decompose(function, options);
  }

  void decompose(func::FuncOp function, const ChoiceOptions &options) {
    SmallVector<Site> sites = findSites(function);
    choosePieces(sites, options);
    SmallVector<SmallVector<const Site *>> groups; // of the same tokens
    for (const Site &site : sites) {
      if (!site.refusal.empty()) {
        report(site);
        continue;
      }
      auto group = llvm::find_if(
          groups, [&](const auto &group) { return group.front()->tokens == site.tokens; });
      if (group == groups.end())
        groups.push_back({&site});
      else
        group->push_back(&site);
    }
    SmallVector<Operation *> starts;
    for (ArrayRef<const Site *> group : groups)
      llvm::append_range(starts, cutIntoPieces(function, group, CutOps(function, group)));
    for (const Site &site : sites) // those that were cut are gone
      if (!site.refusal.empty() && site.isGather())
        hideWhole(site.op, starts);
  }
};

} // namespace
} // namespace shardc
