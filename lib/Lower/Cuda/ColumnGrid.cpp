//===- ColumnGrid.cpp - Reductions that keep the last dimension ------------===//
//
// A block has 32 neighbouring columns; its warps take turns on the reduced elements, so that a warp
// reads neighbours. Their sums meet in shared memory and are added in the warps' order: the result
// does not depend on timing. Sums of four elements at a time are independent, which keeps as many
// loads in flight.
//
//===----------------------------------------------------------------------===//
#include "CudaLowering.h"
#include "lib/Lower/Kernels/Reductions.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {

static constexpr int64_t kChains = 4;

void lowerColumnGrid(CudaLowering &lowering, ReduceOp op) {
  using Values = Emitter::Values;
  BodyEmitter emitter(lowering.builder, lowering.loc());
  Emitter &e = emitter.e;
  KernelBody body = lowering.begin(0);
  lowering.bindArguments(emitter, body);

  ArrayRef<int64_t> shape = op.getInput().getType().getShape();
  int64_t last = lastDim(shape);
  SmallVector<int64_t> outer, reduced, outerSizes, reducedSizes;
  for (int64_t d = 0, rank = shape.size(); d < rank; ++d)
    if (llvm::is_contained(op.getDims(), d)) {
      reduced.push_back(d);
      reducedSizes.push_back(shape[d]);
    } else if (d < last) {
      outer.push_back(d);
      outerSizes.push_back(shape[d]);
    }
  int64_t depth = ShapedType::getNumElements(reducedSizes),
          blocks = llvm::divideCeil(shape[last], kWarp);
  int64_t warps = std::clamp<int64_t>(llvm::PowerOf2Ceil(llvm::divideCeil(depth, kChains)), 1, 32);
  lowering.setGrid(ShapedType::getNumElements(outerSizes) * blocks, warps * kWarp);

  auto type = op.getType();
  Type element = type.getElementType(), computed = computeType(element);
  bool isUnsigned = element.isUnsignedInteger();
  Value thread = lowering.threadIndex(), item = lowering.blockIndex();
  Value lane = e.rem(thread, kWarp), warp = e.div(thread, kWarp);
  Value column = e.add(e.mul(e.rem(item, blocks), kWarp), lane);
  bool isRagged = shape[last] % kWarp != 0;
  Value inside = e.compare(arith::CmpIPredicate::ult, column, e.index(shape[last]));
  Values at(shape.size(), e.index(0));
  for (auto [d, index] : llvm::zip(outer, emitter.delinearize(e.div(item, blocks), outerSizes)))
    at[d] = index;
  at[last] =
      isRagged ? Value(arith::SelectOp::create(e.b, e.loc, inside, column, e.index(0))) : column;

  Value neutral = neutralScalar(e, op.getKind(), computed, isUnsigned);
  Values chains =
      e.loop(warp, e.index(depth), warps * kChains, Values(kChains, neutral),
             [&](Value first, ValueRange sums) {
               Values next;
               for (int64_t chain = 0; chain < kChains; ++chain) {
                 Value n = e.add(first, chain * warps);
                 Value exists =
                     chain == 0 ? Value() : e.compare(arith::CmpIPredicate::ult, n, e.index(depth));
                 Value safe =
                     exists ? Value(arith::SelectOp::create(e.b, e.loc, exists, n, e.index(0))) : n;
                 for (auto [d, index] : llvm::zip(reduced, emitter.delinearize(safe, reducedSizes)))
                   at[d] = index;
                 Value x = emitter.element(op.getInput(), at);
                 if (exists)
                   x = arith::SelectOp::create(e.b, e.loc, exists, x, neutral);
                 next.push_back(reduceScalars(e, op.getKind(), sums[chain], x, isUnsigned));
               }
               return next;
             });
  Value mine = chains[0];
  for (Value chain : ArrayRef<Value>(chains).drop_front())
    mine = reduceScalars(e, op.getKind(), mine, chain, isUnsigned);

  auto store = [&](Value sum) {
    Values kept;
    for (auto [d, index] : llvm::enumerate(at))
      if (!llvm::is_contained(reduced, static_cast<int64_t>(d)))
        kept.push_back(index);
    auto write = [&] {
      emitter.store(emitter.round(type, sum), lowering.resultBuffer(body, 0), element,
                    emitter.offset(type.getShape(), kept));
    };
    isRagged ? e.ifThen(inside, write) : write();
  };
  if (warps == 1)
    return store(mine);
  Value places = lowering.sharedMemory(computed, warps * kWarp);
  e.storeScalar(mine, places, thread);
  lowering.barrier();
  e.ifThen(e.equal(warp, e.index(0)), [&] {
    Value sum = mine;
    for (int64_t other = 1; other < warps; ++other)
      sum = reduceScalars(e, op.getKind(), sum, e.loadScalar(places, e.add(lane, other * kWarp)),
                          isUnsigned);
    store(sum);
  });
}

} // namespace shardc
