//===- GroupOrder.cpp - Rows sorted by group ------------------------------===//
//
// A counting sort by one block, without atomics: each thread counts the rows of one group in one
// part of the rows, sums over groups and parts before give it its place, and it goes through its
// part again. Equal rows keep their order, so that sums over them have one.
//
//===----------------------------------------------------------------------===//
#include "GroupedGrid.h"

using namespace mlir;

namespace shardc {

static constexpr int64_t kThreads = 1024;

GroupOrder::GroupOrder(MLIRContext *context, int64_t rows, int64_t groups)
    : rows(rows), groups(groups), maxTiles(rows / kRows + std::min(groups + 1, rows)) {
  auto place = [&](int64_t count) {
    CudaBuffer buffer{CudaArgument::ofScratch(scratchBytes),
                      MemRefType::get({count}, IntegerType::get(context, 32))};
    scratchBytes += llvm::alignTo(buffer.bytes(), kCudaAlignment);
    return buffer;
  };
  order = place(rows);
  starts = place(groups + 2);
  tileGroup = place(maxTiles);
  tileFirst = place(maxTiles);
  tileCount = place(1);
}

CudaLaunch lowerGroupOrder(CudaLowering &lowering, const GroupOrder &order, Value groups) {
  using Values = Emitter::Values;
  SmallVector<CudaBuffer> buffers{lowering.bufferOf(groups), order.order,     order.starts,
                                  order.tileGroup,           order.tileFirst, order.tileCount};
  for (CudaBuffer &buffer : llvm::drop_begin(buffers))
    buffer.isWritten = true;
  std::string name = (lowering.function.getSymName() + "_order").str();
  KernelBody body = lowering.beginKernel(name, buffers);
  Emitter e{lowering.builder, lowering.loc()};
  int64_t buckets = order.groups + 1;
  int64_t parts = std::clamp<int64_t>(kThreads / buckets, 1, llvm::divideCeil(order.rows, 8));
  int64_t perPart = llvm::divideCeil(order.rows, parts);
  lowering.setGrid(1, llvm::alignTo(parts * buckets, kWarp));
  Type i32 = e.b.getI32Type();
  Value counts = lowering.sharedMemory(i32, parts * buckets),
        totals = lowering.sharedMemory(i32, buckets);
  auto number = [&](Value x) { return arith::IndexCastOp::create(e.b, e.loc, i32, x); };
  auto load = [&](Value buffer, Value at) -> Value {
    return arith::IndexCastOp::create(e.b, e.loc, e.b.getIndexType(), e.loadScalar(buffer, at));
  };
  auto store = [&](Value x, Value buffer, Value at) { e.storeScalar(number(x), buffer, at); };

  Value thread = lowering.threadIndex();
  Value part = e.div(thread, buckets), bucket = e.rem(thread, buckets);
  Value isActive = e.less(thread, e.index(parts * buckets));
  Value begin = e.min(e.mul(part, perPart), e.index(order.rows));
  Value end = e.min(e.add(begin, perPart), e.index(order.rows));
  bool isUnsigned = tensorType(groups).getElementType().isUnsignedInteger();
  auto isMine = [&](Value row) {
    Value group = e.loadScalar(body.buffers[0], row);
    Type index = e.b.getIndexType();
    group = isUnsigned ? Value(arith::IndexCastUIOp::create(e.b, e.loc, index, group))
                       : Value(arith::IndexCastOp::create(e.b, e.loc, index, group));
    Value exists = e.compare(arith::CmpIPredicate::ult, group, e.index(order.groups));
    group = arith::SelectOp::create(e.b, e.loc, exists, group, e.index(order.groups));
    return e.equal(group, bucket);
  };
  e.ifThen(isActive, [&] {
    Value count = e.loop(begin, end, 1, e.index(0), [&](Value row, ValueRange count) {
      Value next = e.add(count[0], 1);
      return Values{arith::SelectOp::create(e.b, e.loc, isMine(row), next, count[0])};
    })[0];
    store(count, counts, thread);
  });
  lowering.barrier();
  Value isFirst = e.less(thread, e.index(buckets));
  e.ifThen(isFirst, [&] {
    Value total = e.loop(e.index(0), e.index(parts), 1, e.index(0), [&](Value n, ValueRange sum) {
      return Values{e.add(sum[0], load(counts, e.add(e.mul(n, buckets), bucket)))};
    })[0];
    store(total, totals, bucket);
  });
  lowering.barrier();
  e.ifThen(isActive, [&] {
    auto tilesOf = [&](Value total) {
      return e.div(e.add(total, GroupOrder::kRows - 1), GroupOrder::kRows);
    };
    Values before =
        e.loop(e.index(0), bucket, 1, {e.index(0), e.index(0)}, [&](Value other, ValueRange sums) {
          Value total = load(totals, other);
          return Values{e.add(sums[0], total), e.add(sums[1], tilesOf(total))};
        });
    e.ifThen(isFirst, [&] {
      Value total = load(totals, bucket), tiles = tilesOf(total);
      store(before[0], body.buffers[2], bucket);
      e.loop(e.index(0), tiles, 1, [&](Value n) {
        Value tile = e.add(before[1], n);
        store(bucket, body.buffers[3], tile);
        store(e.add(before[0], e.mul(n, GroupOrder::kRows)), body.buffers[4], tile);
      });
      e.ifThen(e.equal(bucket, e.index(order.groups)), [&] {
        store(e.index(order.rows), body.buffers[2], e.index(order.groups + 1));
        store(e.add(before[1], tiles), body.buffers[5], e.index(0));
      });
    });
    Value place = e.loop(e.index(0), part, 1, before[0], [&](Value n, ValueRange sum) {
      return Values{e.add(sum[0], load(counts, e.add(e.mul(n, buckets), bucket)))};
    })[0];
    e.loop(begin, end, 1, place, [&](Value row, ValueRange place) {
      Value mine = isMine(row);
      e.ifThen(mine, [&] { store(row, body.buffers[1], place[0]); });
      Value next = e.add(place[0], 1);
      return Values{arith::SelectOp::create(e.b, e.loc, mine, next, place[0])};
    });
  });
  return lowering.launch();
}

} // namespace shardc
