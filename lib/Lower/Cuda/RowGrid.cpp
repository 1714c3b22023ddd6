//===- RowGrid.cpp - Rows on warps and blocks -----------------------------===//
//
// A short row is a warp's, a longer one a block's. A thread has some vectors of the row, always the
// same ones:
//
//   * While they are few, passes are straight-line code: what one pass has loaded or computed is
//     still in registers in the next, so that a row is read once.
//   * Otherwise a pass is a loop, and the next one reads the row again, from the second-level
//     cache.
//
// Columns beyond the row are read at column 0 instead and count as the neutral element. Partial
// results meet by shuffles, and between warps in shared memory: each reduction has its own place
// there, so that one barrier is enough.
//
//===----------------------------------------------------------------------===//
#include "CudaLowering.h"
#include "lib/Lower/Kernels/Reductions.h"
#include "lib/Lower/Kernels/RowEmitter.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {
namespace {

/// Elements of a row that a thread can keep.
constexpr int64_t kKept = 32;

class RowGrid : public RowEmitter {
public:
  explicit RowGrid(CudaLowering &lowering) : RowEmitter(lowering), cuda(lowering) {
    keepsRows = false;
  }
  void build();

private:
  using PassBody = llvm::function_ref<void(ArrayRef<Value> indices, Value column)>;

  Value reducePass(Value full, Reduction kind, Type type, bool isUnsigned,
                   llvm::function_ref<Value(ArrayRef<Value>, Value)> term) override;
  void eachPass(Value full, PassBody body) override;
  Value newScratchRow(Type) override { llvm_unreachable("rows are in registers"); }
  void once(llvm::function_ref<void()> body) override {
    e.ifThen(e.equal(worker, e.index(0)), body);
  }

  /// Vector number `slot` of this thread: does it exist (null: always), and its first column, which
  /// is 0 if not.
  std::pair<Value, Value> vectorAt(Value slot);
  void emit(Value row);
  void forLanes(const RowSpace &space, Value first, PassBody body);
  Value combine(Value mine, Reduction kind, bool isUnsigned);
  Value overLanes(Value mine, int64_t width, Reduction kind, bool isUnsigned);

  CudaLowering &cuda;
  int64_t lanes = 1, slots = 1, workers = kWarp; ///< workers: threads of a row
  bool isUnrolled = true;
  Value worker;
  SmallVector<std::pair<Value, Value>>
      vectors; ///< of straight-line passes: one name for what is one column in all of them
};

} // namespace

std::pair<Value, Value> RowGrid::vectorAt(Value slot) {
  Value number = e.add(e.mul(slot, workers), worker);
  if (slots * workers * lanes == columns)
    return {Value(), e.mul(number, lanes)};
  Value inside = e.compare(arith::CmpIPredicate::ult, number, e.index(columns / lanes));
  Value safe = arith::SelectOp::create(e.b, e.loc, inside, number, e.index(0));
  return {inside, e.mul(safe, lanes)};
}

void RowGrid::forLanes(const RowSpace &own, Value first, PassBody each) {
  for (int64_t lane = 0; lane < lanes; ++lane) {
    Value column = e.add(first, lane);
    each(indicesOf(own, emitter.delinearize(column, own.sizes(own.columnDims))), column);
  }
}

Value RowGrid::reducePass(Value full, Reduction kind, Type type, bool isUnsigned,
                          llvm::function_ref<Value(ArrayRef<Value>, Value)> term) {
  RowSpace own = spaceFor(full);
  Value neutral = neutralScalar(e, kind, type, isUnsigned);
  auto slot = [&](std::pair<Value, Value> vector, Value sum) {
    auto [inside, first] = vector;
    forLanes(own, first, [&, inside = inside](ArrayRef<Value> indices, Value column) {
      Value x = term(indices, column);
      if (inside)
        x = arith::SelectOp::create(e.b, e.loc, inside, x, neutral);
      sum = reduceScalars(e, kind, sum, x, isUnsigned);
    });
    return sum;
  };
  Value mine = neutral;
  if (isUnrolled)
    for (auto vector : vectors)
      mine = slot(vector, mine);
  else
    mine = e.loop(e.index(0), e.index(slots), 1, neutral, [&](Value n, ValueRange carried) {
      return Values{slot(vectorAt(n), carried[0])};
    })[0];
  return combine(mine, kind, isUnsigned);
}

void RowGrid::eachPass(Value full, PassBody each) {
  RowSpace own = spaceFor(full);
  auto slot = [&](std::pair<Value, Value> vector) {
    auto [inside, first] = vector;
    auto all = [&, first = first] { forLanes(own, first, each); };
    if (inside)
      e.ifThen(inside, all);
    else
      all();
  };
  if (!isUnrolled)
    return e.loop(e.index(0), e.index(slots), 1, [&](Value n) { slot(vectorAt(n)); });
  for (auto vector : vectors)
    slot(vector);
}

/// Butterfly: every lane has the result.
Value RowGrid::overLanes(Value mine, int64_t width, Reduction kind, bool isUnsigned) {
  Type type = mine.getType();
  unsigned bits = type.getIntOrFloatBitWidth();
  bool isNarrow = isa<IntegerType>(type) && bits < 32;
  for (int64_t distance = width / 2; distance > 0; distance /= 2) {
    Value sent =
        isNarrow ? Value(arith::ExtUIOp::create(e.b, e.loc, e.b.getI32Type(), mine)) : mine;
    Value theirs = gpu::ShuffleOp::create(e.b, e.loc, sent, static_cast<int32_t>(distance), kWarp,
                                          gpu::ShuffleMode::XOR)
                       .getShuffleResult();
    if (isNarrow)
      theirs = arith::TruncIOp::create(e.b, e.loc, type, theirs);
    mine = reduceScalars(e, kind, mine, theirs, isUnsigned);
  }
  return mine;
}

Value RowGrid::combine(Value mine, Reduction kind, bool isUnsigned) {
  mine = overLanes(mine, kWarp, kind, isUnsigned);
  int64_t warps = workers / kWarp;
  if (warps == 1)
    return mine;
  Type type = mine.getType(), stored = memoryType(type);
  Value places = cuda.sharedMemory(stored, warps);
  Value lane = e.rem(worker, kWarp), warp = e.div(worker, kWarp);
  e.ifThen(e.equal(lane, e.index(0)), [&] { emitter.store(mine, places, type, warp); });
  cuda.barrier();
  // Every warp adds up all of them by itself.
  int64_t width = llvm::PowerOf2Ceil(warps);
  Value slot = e.rem(lane, width), neutral = neutralScalar(e, kind, type, isUnsigned);
  Value inside = e.compare(arith::CmpIPredicate::ult, slot, e.index(warps));
  Value partial =
      emitter.load(places, type, arith::SelectOp::create(e.b, e.loc, inside, slot, e.index(0)));
  partial = arith::SelectOp::create(e.b, e.loc, inside, partial, neutral);
  return overLanes(partial, width, kind, isUnsigned);
}

void RowGrid::emit(Value mine) {
  if (isUnrolled)
    for (int64_t n = 0; n < slots; ++n)
      vectors.push_back(vectorAt(e.index(n)));
  emitRow(mine);
}

void RowGrid::build() {
  body = cuda.begin(0);
  cuda.bindArguments(emitter, body);
  lanes = columns == 0 ? 1 : cuda.vectorOf(columns);
  if (space->columnDims.empty() || space->columnDims.back() != lastDim(space->shape))
    lanes = 1; // columns that are not neighbours in memory
  int64_t count = columns / lanes;
  // A warp holds four vectors a thread, a block two, if it has threads enough.
  bool isWarp = count <= 4 * kWarp;
  workers =
      isWarp ? kWarp : std::min<int64_t>(1024, llvm::alignTo(llvm::divideCeil(count, 2), kWarp));
  slots = llvm::divideCeil(count, workers);
  isUnrolled = slots * lanes <= kKept;
  Value thread = cuda.threadIndex();
  if (!isWarp) {
    cuda.setGrid(std::max<int64_t>(rows, 1), workers);
    worker = thread;
    Value block = cuda.blockIndex();
    return emit(block);
  }
  int64_t perBlock = std::clamp<int64_t>(rows, 1, 4);
  cuda.setGrid(std::max<int64_t>(llvm::divideCeil(rows, perBlock), 1), perBlock * kWarp);
  worker = e.rem(thread, kWarp);
  Value mine = e.add(e.mul(cuda.blockIndex(), perBlock), e.div(thread, kWarp));
  if (rows % perBlock == 0 && rows > 0)
    return emit(mine);
  e.ifThen(e.compare(arith::CmpIPredicate::ult, mine, e.index(rows)), [&] { emit(mine); });
}

void lowerRowGrid(CudaLowering &lowering) { RowGrid(lowering).build(); }

} // namespace shardc
