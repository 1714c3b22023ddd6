//===- ScanGrid.cpp - Running sums, top-k and arg-reductions by warps -------===//
//
// A row is a warp's; its lanes have neighbouring elements.
//
//   * Running sums: 32 elements at a time, added up in five steps by shuffles; the sum so far goes on.
//   * Top-k, arg-reductions: each lane finds the best of every 32nd element, then the lanes compare
//     theirs. Of equal elements the index decides, so that who looks at which does not matter. k
//     passes: each finds what comes after the one before.
//
//===----------------------------------------------------------------------===//
#include "CudaLowering.h"
#include "dialects/Graph/ScalarEmit.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {
namespace {

/// Below this a thread a row is as good.
constexpr int64_t kShort = 16;
constexpr int64_t kRowsPerBlock = 4;

/// An element and where it is, i32; -1: there is none yet.
struct Found {
  Value value, index;
};

class ScanGrid {
public:
  explicit ScanGrid(CudaLowering &lowering)
      : lowering(lowering), emitter(lowering.builder, lowering.loc()), e(emitter.e),
        body(lowering.begin(0)) {
    lowering.bindArguments(emitter, body);
  }
  void cumsum(CumsumOp op);
  void topk(TopKOp op);
  void arg(ArgReduceOp op);

private:
  using Values = Emitter::Values;
  using Order = llvm::function_ref<Value(Value, Value)>;

  void eachRow(RankedTensorType type, llvm::function_ref<void(ArrayRef<Value> row)> emit);
  Value fromLane(Value x, Value source);
  Found bestOfLanes(Found mine, Order isBefore, bool last);
  Value select(Value condition, Value x, Value y) {
    return arith::SelectOp::create(e.b, e.loc, condition, x, y);
  }
  Value both(Value x, Value y) { return arith::AndIOp::create(e.b, e.loc, x, y); }
  Value either(Value x, Value y) { return arith::OrIOp::create(e.b, e.loc, x, y); }
  Value isNot(Value x) { return scalar::bitNot(e.b, e.loc, x); }
  Value integer(int64_t v) { return e.scalar(e.b.getI32Type(), v); }
  Value is(arith::CmpIPredicate predicate, Value x, Value y) {
    return arith::CmpIOp::create(e.b, e.loc, predicate, x, y);
  }
  Value isGreater(Value x, Value y, Type element);
  Value element(Value tensor, ArrayRef<Value> row, Value i) {
    Values at(row);
    at.insert(at.begin() + dim, i);
    return emitter.element(tensor, at);
  }
  void store(unsigned result, Value scalar, ArrayRef<Value> indices) {
    auto type = tensorType(lowering.results()[result]);
    emitter.store(scalar, lowering.resultBuffer(body, result), type.getElementType(),
                  emitter.offset(type.getShape(), indices));
  }
  Value toInteger(Value index) {
    return arith::IndexCastOp::create(e.b, e.loc, e.b.getI32Type(), index);
  }
  Value indexAs(Value index, RankedTensorType type) {
    Value wide = arith::IndexCastOp::create(e.b, e.loc, e.b.getIndexType(), index);
    return arith::IndexCastOp::create(e.b, e.loc, computeType(type.getElementType()), wide);
  }

  CudaLowering &lowering;
  BodyEmitter emitter;
  Emitter &e;
  KernelBody body;
  int64_t dim = 0, size = 0;
  Value lane;
};

} // namespace

Value ScanGrid::isGreater(Value x, Value y, Type element) {
  if (isa<FloatType>(element))
    return arith::CmpFOp::create(e.b, e.loc, arith::CmpFPredicate::OGT, x, y);
  bool isUnsigned = element.isUnsignedInteger() || element.isInteger(1);
  return is(isUnsigned ? arith::CmpIPredicate::ugt : arith::CmpIPredicate::sgt, x, y);
}

void ScanGrid::eachRow(RankedTensorType type, llvm::function_ref<void(ArrayRef<Value> row)> emit) {
  SmallVector<int64_t> rows(type.getShape());
  size = rows[dim];
  rows.erase(rows.begin() + dim);
  int64_t count = ShapedType::getNumElements(rows);
  lowering.setGrid(std::max<int64_t>(llvm::divideCeil(count, kRowsPerBlock), 1),
                   kRowsPerBlock * kWarp);
  Value thread = lowering.threadIndex();
  lane = e.rem(thread, kWarp);
  Value row = e.add(e.mul(lowering.blockIndex(), kRowsPerBlock), e.div(thread, kWarp));
  // All lanes of a warp or none: they exchange values.
  e.ifThen(e.compare(arith::CmpIPredicate::ult, row, e.index(count)),
           [&] { emit(emitter.delinearize(row, rows)); });
}

Value ScanGrid::fromLane(Value x, Value source) {
  Type type = x.getType();
  bool isNarrow = isa<IntegerType>(type) && type.getIntOrFloatBitWidth() < 32;
  if (isNarrow)
    x = arith::ExtUIOp::create(e.b, e.loc, e.b.getI32Type(), x);
  x = gpu::ShuffleOp::create(e.b, e.loc, x, source, integer(kWarp), gpu::ShuffleMode::IDX)
          .getShuffleResult();
  return isNarrow ? Value(arith::TruncIOp::create(e.b, e.loc, type, x)) : x;
}

void ScanGrid::cumsum(CumsumOp op) {
  dim = op.getDim();
  Value zero = e.scalar(computeType(op.getType().getElementType()), 0);
  eachRow(op.getType(), [&](ArrayRef<Value> row) {
    Value mine = toInteger(lane), end = e.index(llvm::alignTo(size, kWarp));
    auto isBehind = [&](int64_t distance) {
      return is(arith::CmpIPredicate::sge, mine, integer(distance));
    };
    auto before = [&](Value x, int64_t distance) { // the lowest lanes have none: their own
      Value source = arith::SubIOp::create(e.b, e.loc, mine, integer(distance));
      return fromLane(x, select(isBehind(distance), source, mine));
    };
    e.loop(e.index(0), end, kWarp, zero, [&](Value first, ValueRange carried) {
      Value step = e.add(first, lane);
      Value inside = e.compare(arith::CmpIPredicate::ult, step, e.index(size));
      Value safe = select(inside, step, e.index(0));
      Value i = op.getReverse() ? e.sub(e.index(size - 1), safe) : safe;
      Value sum = select(inside, element(op.getInput(), row, i), zero);
      for (int64_t distance = 1; distance < kWarp; distance *= 2) {
        Value more = scalar::add(e.b, e.loc, before(sum, distance), sum);
        sum = select(isBehind(distance), more, sum);
      }
      Value own = op.getExclusive() ? select(isBehind(1), before(sum, 1), zero) : sum;
      Value result = scalar::add(e.b, e.loc, carried[0], own);
      e.ifThen(inside, [&] {
        Values at(row);
        at.insert(at.begin() + dim, i);
        store(0, emitter.round(op.getType(), result), at);
      });
      return Values{scalar::add(e.b, e.loc, carried[0], fromLane(sum, integer(kWarp - 1)))};
    });
  });
}

/// Every lane has the best of all.
Found ScanGrid::bestOfLanes(Found mine, Order isBefore, bool last) {
  Value own = toInteger(lane), none = integer(0);
  for (int64_t distance = kWarp / 2; distance > 0; distance /= 2) {
    Value source = arith::XOrIOp::create(e.b, e.loc, own, integer(distance));
    Found other = {fromLane(mine.value, source), fromLane(mine.index, source)};
    Value isEqual =
        isNot(either(isBefore(other.value, mine.value), isBefore(mine.value, other.value)));
    Value isFirst =
        is(last ? arith::CmpIPredicate::sgt : arith::CmpIPredicate::slt, other.index, mine.index);
    Value better = either(isBefore(other.value, mine.value), both(isEqual, isFirst));
    better = either(is(arith::CmpIPredicate::slt, mine.index, none), better);
    better = both(is(arith::CmpIPredicate::sge, other.index, none), better);
    mine = {select(better, other.value, mine.value), select(better, other.index, mine.index)};
  }
  return mine;
}

void ScanGrid::topk(TopKOp op) {
  dim = op.getDim();
  Type type = op.getInput().getType().getElementType();
  int64_t k = op.getValues().getType().getDimSize(dim);
  auto isBefore = [&](Value x, Value y) {
    return op.getLargest() ? isGreater(x, y, type) : isGreater(y, x, type);
  };
  eachRow(op.getInput().getType(), [&](ArrayRef<Value> row) {
    Value first = element(op.getInput(), row, e.index(0)), none = integer(-1);
    e.loop(e.index(0), e.index(k), 1, {first, none}, [&](Value rank, ValueRange taken) {
      Value isFirstPass = e.equal(rank, e.index(0));
      Values held =
          e.loop(lane, e.index(size), kWarp, {first, none}, [&](Value i, ValueRange best) {
            Value x = element(op.getInput(), row, i), index = toInteger(i);
            // A candidate is worse than the last one taken, or equal and further on.
            Value isEqual = isNot(either(isBefore(x, taken[0]), isBefore(taken[0], x)));
            Value later = both(isEqual, is(arith::CmpIPredicate::sgt, index, taken[1]));
            Value left = either(isFirstPass, either(isBefore(taken[0], x), later));
            Value isBest =
                either(is(arith::CmpIPredicate::slt, best[1], integer(0)), isBefore(x, best[0]));
            Value take = both(left, isBest);
            return Values{select(take, x, best[0]), select(take, index, best[1])};
          });
      Found best = bestOfLanes({held[0], held[1]}, isBefore, /*last=*/false);
      e.ifThen(e.equal(lane, e.index(0)), [&] {
        Values at(row);
        at.insert(at.begin() + dim, rank);
        store(0, best.value, at);
        store(1, indexAs(best.index, op.getIndices().getType()), at);
      });
      return Values{best.value, best.index};
    });
  });
}

void ScanGrid::arg(ArgReduceOp op) {
  dim = op.getDim();
  Type type = op.getInput().getType().getElementType();
  auto isNan = [&](Value x) -> Value {
    return arith::CmpFOp::create(e.b, e.loc, arith::CmpFPredicate::UNO, x, x);
  };
  // NaN wins in both directions, as a NaN maximum or minimum would.
  auto isBefore = [&](Value x, Value y) -> Value {
    Value better = op.getLargest() ? isGreater(x, y, type) : isGreater(y, x, type);
    return isa<FloatType>(type) ? both(isNot(isNan(y)), either(isNan(x), better)) : better;
  };
  eachRow(op.getInput().getType(), [&](ArrayRef<Value> row) {
    Value first = element(op.getInput(), row, e.index(0));
    Values held =
        e.loop(lane, e.index(size), kWarp, {first, integer(-1)}, [&](Value i, ValueRange best) {
          Value x = element(op.getInput(), row, i);
          Value better = isBefore(x, best[0]);
          if (op.getLast())
            better = either(better, isNot(isBefore(best[0], x)));
          better = either(is(arith::CmpIPredicate::slt, best[1], integer(0)), better);
          return Values{select(better, x, best[0]), select(better, toInteger(i), best[1])};
        });
    Found best = bestOfLanes({held[0], held[1]}, isBefore, op.getLast());
    e.ifThen(e.equal(lane, e.index(0)), [&] { store(0, indexAs(best.index, op.getType()), row); });
  });
}

bool lowerScanGrid(CudaLowering &lowering, Operation *op) {
  // Along another dimension than the last one it is the rows that are neighbours in memory.
  auto fits = [](RankedTensorType type, int64_t dim) {
    return dim == lastDim(type.getShape()) && type.getDimSize(dim) >= kShort;
  };
  if (auto cumsum = dyn_cast<CumsumOp>(op)) {
    if (!fits(cumsum.getType(), cumsum.getDim()))
      return false;
    ScanGrid(lowering).cumsum(cumsum);
  } else if (auto topk = dyn_cast<TopKOp>(op)) {
    if (!fits(topk.getInput().getType(), topk.getDim()))
      return false;
    ScanGrid(lowering).topk(topk);
  } else if (auto arg = dyn_cast<ArgReduceOp>(op)) {
    if (!fits(arg.getInput().getType(), arg.getDim()))
      return false;
    ScanGrid(lowering).arg(arg);
  } else {
    return false;
  }
  return true;
}

} // namespace shardc
