//===- Choice.cpp - How many pieces, and where they pay -------------------===//
//
// A number of pieces cuts `outer` first: whole sequences lie in one block, and so does what is
// computed of them. Where there are not enough, each rank's part of a sequence is cut too.
//
// Where costs were measured, the number is the one with the shortest estimate, and a collective is
// cut if that is shorter than leaving it whole:
//
//     gather:          | c |  c  | c |            c: one piece's collective, p: its products
//                          |  p  |  p  |  p  |    (a reduce-scatter the other way round)
//
// Otherwise pieces must be large enough for a link's bandwidth to matter more than its latency.
//
//===----------------------------------------------------------------------===//
#include "Sites.h"

#include "shardc/Schedule/Program.h"
#include "shardc/Sharding/Sharding.h"
#include "shardc/Support/ElementBytes.h"

using namespace mlir;

namespace shardc {
namespace {

/// A piece of less is mostly latency: 64 KiB take 5 us at 12.5 GB/s.
constexpr int64_t kSmallestPiece = 64 << 10;
/// The first or last piece stays exposed: a quarter. More of them make small products.
constexpr int64_t kUsualPieces = 4;
/// Products of fewer rows sum in another order, or without matrix tiles: other bits.
constexpr int64_t kFewestRows = 8;
/// Estimates are no better than that.
constexpr double kGain = 0.98;

} // namespace

/// Why the tokens cannot be cut into so many pieces; empty: they can, and are to be.
static std::string tryCut(Tokens &tokens, int64_t pieces, Target target) {
  int64_t outer = tokens.outer;
  if (target == Target::Cuda && outer > pieces && outer <= 64)
    pieces = outer; // NCCL gathers only what is one block on each rank: a sequence
  auto number = [](int64_t n) { return std::to_string(n); };
  if (outer % pieces == 0) {
    tokens.cut = {pieces, 1};
  } else if (pieces % outer == 0) {
    tokens.cut = {outer, pieces / outer};
  } else {
    return number(outer) + " sequences are no multiple of " + number(pieces) +
           " pieces, nor the other way round";
  }
  if (target == Target::Cuda && tokens.cut.first < outer)
    return "a piece of " + number(outer / tokens.cut.first) +
           " sequences goes through the staging area, which completes where it stands";
  if (tokens.cut.second > 1 && tokens.whole != tokens.part * tokens.ranks)
    return "a sequence of " + number(tokens.whole) + " is no multiple of " + number(tokens.ranks) +
           " ranks";
  if (tokens.part % tokens.cut.second != 0)
    return "a rank's " + number(tokens.part) + " tokens of a sequence are no multiple of " +
           number(tokens.cut.second) + " pieces";
  if (int64_t rows = outer * tokens.whole / tokens.pieces(); rows < kFewestRows)
    return "a piece has " + number(rows) + " tokens, less than " + number(kFewestRows);
  return "";
}

static double collectiveMicros(const Site &site, int64_t pieces, const CostTable &costs) {
  Mesh mesh =
      shard::lookupMesh(site.op, site.op->getAttrOfType<FlatSymbolRefAttr>("mesh")).getMesh();
  AxisList axes = *shard::resolveAxes(mesh, cast<ArrayAttr>(site.tokens.axes));
  std::string text;
  for (const AxisRef &axis : axes)
    text += (text.empty() ? "" : ",") + str(mesh, axis);
  double bytes = static_cast<double>(tensorBytes(site.wholeType())) / pieces;
  return costs.collectiveMicros(site.isGather() ? "all_gather" : "reduce_scatter", text,
                                site.tokens.ranks, bytes);
}

static double productMicros(const Site &site, int64_t pieces, const CostTable &costs) {
  double micros = 0;
  for (Operation *op : site.products) {
    auto product = cast<graph::EinsumOp>(op);
    KernelWork work = workOf(product);
    unsigned own = *tokenOperand(op, site.tokens);
    (own == 0 ? work.m : work.n) /= pieces;
    work.productFlops /= pieces;
    auto other = cast<RankedTensorType>(op->getOperand(1 - own).getType());
    work.bytes = (work.bytes - tensorBytes(other)) / pieces + tensorBytes(other);
    micros += costs.kernelMicros(work);
  }
  return micros;
}

/// From the start of the first to the end of the last.
static double micros(const Site &site, int64_t pieces, const CostTable &costs) {
  double collective = collectiveMicros(site, pieces, costs),
         products = productMicros(site, pieces, costs);
  return collective + products + (pieces - 1) * std::max(collective, products);
}

/// Why a site that can be cut is not worth it; empty: it is.
static std::string weigh(const Site &site, const ChoiceOptions &options) {
  int64_t pieces = site.tokens.pieces();
  if (options.pieces > 0)
    return "";
  if (!options.costs.isMeasured()) {
    int64_t bytes = tensorBytes(site.wholeType()) / pieces;
    return bytes >= kSmallestPiece
               ? ""
               : llvm::formatv("a piece is {0} bytes, less than {1}", bytes, kSmallestPiece).str();
  }
  double whole = micros(site, 1, options.costs), cut = micros(site, pieces, options.costs);
  return cut < kGain * whole
             ? ""
             : llvm::formatv("{0} pieces take {1:F1} us, the whole {2:F1} us", pieces, cut, whole)
                   .str();
}

/// Time of all sites; a whole one is counted with its products.
static double total(ArrayRef<Site *> sites, const ChoiceOptions &options) {
  double sum = 0;
  for (Site *site : sites)
    sum += micros(*site, weigh(*site, options).empty() ? site->tokens.pieces() : 1, options.costs);
  return sum;
}

/// Numbers of pieces to try; a batch that none of the usual ones divides is cut into its sequences.
static SmallVector<int64_t> candidatesFor(int64_t outer, const ChoiceOptions &options) {
  if (options.pieces > 0)
    return {options.pieces};
  SmallVector<int64_t> candidates = options.costs.isMeasured()
                                        ? SmallVector<int64_t>{2, 4, 8}
                                        : SmallVector<int64_t>{kUsualPieces, 2};
  if (outer > 2 && outer < 8 && !llvm::is_contained(candidates, outer))
    candidates.push_back(outer);
  return candidates;
}

static void chooseFor(ArrayRef<Site *> sites, const ChoiceOptions &options) {
  SmallVector<int64_t> candidates = candidatesFor(sites.front()->tokens.outer, options);
  std::string refusal;
  std::optional<std::pair<int64_t, int64_t>> best;
  double least = 0;
  for (int64_t pieces : candidates) {
    Tokens tokens = sites.front()->tokens;
    std::string why = tryCut(tokens, pieces, options.target);
    if (refusal.empty())
      refusal = why;
    if (!why.empty())
      continue;
    for (Site *site : sites)
      site->tokens.cut = tokens.cut;
    if (!options.costs.isMeasured()) {
      best = tokens.cut;
      if (llvm::any_of(sites, [&](Site *site) { return weigh(*site, options).empty(); }))
        break;
      continue;
    }
    double time = total(sites, options);
    if (!best || time < least) {
      best = tokens.cut;
      least = time;
    }
  }
  for (Site *site : sites) {
    if (best)
      site->tokens.cut = *best;
    site->refusal = best ? weigh(*site, options) : refusal;
  }
}

void choosePieces(MutableArrayRef<Site> sites, const ChoiceOptions &options) {
  SmallVector<SmallVector<Site *>> groups;
  for (Site &site : sites) {
    if (!site.refusal.empty())
      continue;
    auto group = llvm::find_if(
        groups, [&](ArrayRef<Site *> group) { return group.front()->tokens == site.tokens; });
    if (group == groups.end())
      groups.push_back({&site});
    else
      group->push_back(&site);
  }
  for (ArrayRef<Site *> group : groups)
    chooseFor(group, options);
}

} // namespace shardc
