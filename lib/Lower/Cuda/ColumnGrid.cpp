//===- ColumnGrid.cpp - Reductions that keep the last dimension -----------===//
//
// A block has 32 neighbouring columns; its warps take turns on the reduced elements, so that a warp
// reads neighbours. Their sums meet in shared memory and are added in the warps' order: the result
// does not depend on timing. Sums of four elements at a time are independent, which keeps as many
// loads in flight. Several reductions over matrices of one size go down their rows together. What
// is behind them is elementwise.
//
//===----------------------------------------------------------------------===//
#include "CudaLowering.h"
#include "lib/Lower/Kernels/Reductions.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {
namespace {

constexpr int64_t kChains = 4;

using Values = Emitter::Values;

/// One reduction: which of its input's dimensions go and which stay.
struct Columns {
  ReduceOp op;
  ArrayRef<int64_t> shape;
  int64_t last;
  SmallVector<int64_t> outer, reduced, outerSizes, reducedSizes;
  Value neutral;

  explicit Columns(ReduceOp op)
      : op(op), shape(op.getInput().getType().getShape()), last(lastDim(shape)) {
    for (int64_t d = 0, rank = shape.size(); d < rank; ++d)
      if (llvm::is_contained(op.getDims(), d)) {
        reduced.push_back(d);
        reducedSizes.push_back(shape[d]);
      } else if (d < last) {
        outer.push_back(d);
        outerSizes.push_back(shape[d]);
      }
  }
  int64_t depth() const { return ShapedType::getNumElements(reducedSizes); }
  int64_t blocks() const { return llvm::divideCeil(shape[last], kWarp); }
  Type computed() { return computeType(op.getType().getElementType()); }
  Value combine(Emitter &e, Value a, Value b) {
    return reduceScalars(e, op.getKind(), a, b, op.getType().getElementType().isUnsignedInteger());
  }
};

class ColumnGrid {
public:
  explicit ColumnGrid(CudaLowering &lowering)
      : lowering(lowering), emitter(lowering.builder, lowering.loc()), e(emitter.e) {
    for (auto op : lowering.function.getOps<ReduceOp>())
      reductions.emplace_back(op);
  }
  void build();

private:
  Values reduceRows();
  Value term(Columns &own, Value n);
  void store(ArrayRef<Value> sums);

  CudaLowering &lowering;
  BodyEmitter emitter;
  Emitter &e;
  KernelBody body;
  SmallVector<Columns, 1> reductions;
  int64_t warps = 1;
  Value item, lane, warp, column, inside; ///< inside: null if all columns are
};

} // namespace

/// Element n of the thread's column.
Value ColumnGrid::term(Columns &own, Value n) {
  Values at(own.shape.size(), e.index(0));
  Value outer = e.div(item, own.blocks());
  for (auto [d, index] : llvm::zip(own.outer, emitter.delinearize(outer, own.outerSizes)))
    at[d] = index;
  for (auto [d, index] : llvm::zip(own.reduced, emitter.delinearize(n, own.reducedSizes)))
    at[d] = index;
  at[own.last] =
      inside ? Value(arith::SelectOp::create(e.b, e.loc, inside, column, e.index(0))) : column;
  return emitter.element(own.op.getInput(), at);
}

/// The thread's part of each sum.
Values ColumnGrid::reduceRows() {
  Value depth = e.index(reductions.front().depth());
  Values start;
  for (Columns &own : reductions)
    start.append(kChains, own.neutral);
  Values chains = e.loop(warp, depth, warps * kChains, start, [&](Value first, ValueRange sums) {
    Values next(sums);
    for (int64_t chain = 0; chain < kChains; ++chain) {
      Value n = e.add(first, chain * warps);
      Value exists = chain == 0 ? Value() : e.compare(arith::CmpIPredicate::ult, n, depth);
      if (exists)
        n = arith::SelectOp::create(e.b, e.loc, exists, n, e.index(0));
      for (auto [i, own] : llvm::enumerate(reductions)) {
        Value x = term(own, n);
        if (exists)
          x = arith::SelectOp::create(e.b, e.loc, exists, x, own.neutral);
        Value &sum = next[i * kChains + chain];
        sum = own.combine(e, sum, x);
      }
    }
    return next;
  });
  Values mine;
  for (auto [i, own] : llvm::enumerate(reductions)) {
    mine.push_back(chains[i * kChains]);
    for (int64_t chain = 1; chain < kChains; ++chain)
      mine.back() = own.combine(e, mine.back(), chains[i * kChains + chain]);
  }
  return mine;
}

/// All results are computed before one is stored: it may be in place of what another one reads.
void ColumnGrid::store(ArrayRef<Value> sums) {
  for (auto [own, sum] : llvm::zip(reductions, sums)) {
    Value rounded = emitter.round(own.op.getType(), sum);
    emitter.bind(own.op.getResult(), [=](ArrayRef<Value>) { return rounded; });
  }
  auto write = [&] {
    Values elements, places;
    for (Value result : lowering.results()) {
      ArrayRef<int64_t> shape = tensorType(result).getShape();
      Value place = e.add(e.mul(e.div(item, reductions.front().blocks()),
                                reductions.front().shape[reductions.front().last]),
                          column);
      places.push_back(place);
      elements.push_back(emitter.element(result, emitter.delinearize(place, shape)));
    }
    for (auto [n, result] : llvm::enumerate(lowering.results()))
      emitter.store(elements[n], lowering.resultBuffer(body, n),
                    tensorType(result).getElementType(), places[n]);
  };
  inside ? e.ifThen(inside, write) : write();
}

void ColumnGrid::build() {
  body = lowering.begin(0);
  lowering.bindArguments(emitter, body);
  Columns &first = reductions.front();
  int64_t columns = first.shape[first.last];
  warps = std::clamp<int64_t>(llvm::PowerOf2Ceil(llvm::divideCeil(first.depth(), kChains)), 1, 32);
  lowering.setGrid(ShapedType::getNumElements(first.outerSizes) * first.blocks(), warps * kWarp);
  Value thread = lowering.threadIndex();
  item = lowering.blockIndex();
  lane = e.rem(thread, kWarp);
  warp = e.div(thread, kWarp);
  column = e.add(e.mul(e.rem(item, first.blocks()), kWarp), lane);
  if (columns % kWarp != 0)
    inside = e.compare(arith::CmpIPredicate::ult, column, e.index(columns));
  for (Columns &own : reductions)
    own.neutral = neutralScalar(e, own.op.getKind(), own.computed(),
                                own.op.getType().getElementType().isUnsignedInteger());
  Values mine = reduceRows();
  if (warps == 1)
    return store(mine);
  SmallVector<Value> places;
  for (auto [own, part] : llvm::zip(reductions, mine)) {
    places.push_back(lowering.sharedMemory(own.computed(), warps * kWarp));
    e.storeScalar(part, places.back(), thread);
  }
  lowering.barrier();
  e.ifThen(e.equal(warp, e.index(0)), [&] {
    Values sums(mine);
    for (auto [i, own] : llvm::enumerate(reductions))
      for (int64_t other = 1; other < warps; ++other)
        sums[i] = own.combine(e, sums[i], e.loadScalar(places[i], e.add(lane, other * kWarp)));
    store(sums);
  });
}

void lowerColumnGrid(CudaLowering &lowering) { ColumnGrid(lowering).build(); }

} // namespace shardc
