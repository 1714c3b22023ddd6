//===- MicroKernel.cpp - A tile of accumulators in registers --------------===//
#include "MicroKernel.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;

namespace shardc {

static constexpr int64_t kPrefetchSteps = 64; ///< 8 KiB of a panel of 32 floats

int64_t maxTileRows(const CpuTarget &target, int64_t vecs) {
  // vecs vectors of B and one broadcast beside the accumulators: 14·2+3 of 32 registers, 6·2+3
  // of 16.
  if (vecs == 4)
    return target.avx512 ? 6 : 2;
  int64_t rows = target.avx512 ? 14 : 6;
  return vecs == 1 ? rows + (target.avx512 ? 10 : 6) : rows;
}

std::pair<Value, Value> convertPair(Emitter &e, Value pairs, Type type) {
  auto pairsType = cast<VectorType>(pairs.getType());
  int64_t lanes = pairsType.getDimSize(0);
  Type f32 = e.b.getF32Type();
  Value sixteen = e.splat(lanes, e.b.getI32Type(), 16);
  if (type.isBF16()) { // f32 with the low half zero
    Value even = arith::ShLIOp::create(e.b, e.loc, pairs, sixteen);
    Value odd = arith::AndIOp::create(e.b, e.loc, pairs, e.splat(lanes, e.b.getI32Type(), -65536));
    return {arith::BitcastOp::create(e.b, e.loc, e.vec(lanes, f32), even),
            arith::BitcastOp::create(e.b, e.loc, e.vec(lanes, f32), odd)};
  }
  auto half = [&](Value bits) {
    Value low = arith::TruncIOp::create(e.b, e.loc, e.vec(lanes, e.b.getI16Type()), bits);
    return e.convert(arith::BitcastOp::create(e.b, e.loc, e.vec(lanes, type), low), f32);
  };
  Value odd = arith::ShRUIOp::create(e.b, e.loc, pairs, sixteen);
  return {half(pairs), half(odd)};
}

Value makePairs(Emitter &e, Value even, Value odd) {
  int64_t lanes = cast<VectorType>(even.getType()).getDimSize(0);
  auto bits = [&](Value v) {
    return arith::BitcastOp::create(e.b, e.loc, e.vec(lanes, e.b.getI16Type()), v);
  };
  SmallVector<int64_t> order;
  for (int64_t i = 0; i < lanes; ++i)
    order.append({i, lanes + i});
  return e.bitcast(e.shuffle(bits(even), bits(odd), order), lanes, e.b.getI32Type());
}

static Value dotBF16(Emitter &e, Value acc, Value a, Value b) {
  int64_t lanes = cast<VectorType>(acc.getType()).getDimSize(0);
  Type bf16 = e.b.getBF16Type();
  Value operands[] = {acc, e.bitcast(a, 2 * lanes, bf16), e.bitcast(b, 2 * lanes, bf16)};
  auto name = e.b.getStringAttr("llvm.x86.avx512bf16.dpbf16ps." + std::to_string(lanes * 32));
  return LLVM::CallIntrinsicOp::create(e.b, e.loc, acc.getType(), name, operands).getResult(0);
}

namespace {
/// Emits single steps of one tile.
struct StepEmitter {
  Emitter &e;
  const MicroTile &tile;
  const MicroOperands &o;

  Value loadA(Value k, int64_t row) {
    Value value = e.loadScalar(o.a, e.add(e.add(o.aBase, e.mul(k, o.aK)), row * o.aRow));
    if (tile.step != StepKind::DotPair)
      value = e.convert(value, tile.accType);
    return e.broadcast(tile.lanes, value);
  }

  void element(Value k, ArrayRef<Value> b, MutableArrayRef<Value> acc) {
    for (int64_t r = 0; r < tile.rows; ++r) {
      Value a = loadA(k, r);
      for (int64_t v = 0; v < tile.vecs; ++v) {
        Value &sum = acc[r * tile.vecs + v];
        sum = tile.step == StepKind::DotPair ? dotBF16(e, sum, a, b[v]) : e.fma(a, b[v], sum);
      }
    }
  }

  void step(Value i, MutableArrayRef<Value> acc) {
    SmallVector<Value> even, odd;
    Value row = e.add(o.bBase, e.mul(i, o.bStep));
    for (int64_t v = 0; v < tile.vecs; ++v) {
      if (o.prefetchB)
        e.prefetch(o.b, e.add(row, v * tile.lanes + kPrefetchSteps * o.bStep));
      Value b = e.load(o.b, e.add(row, v * tile.lanes), tile.lanes);
      if (tile.step == StepKind::ConvertPair) {
        auto [first, second] = convertPair(e, b, tile.pairType);
        even.push_back(first);
        odd.push_back(second);
      } else {
        even.push_back(b);
      }
    }
    if (tile.step != StepKind::ConvertPair)
      return element(i, even, acc);
    Value k = e.mul(i, 2);
    element(k, even, acc);
    element(e.add(k, 1), odd, acc);
  }
};
} // namespace

Emitter::Values emitMicroLoop(Emitter &e, const MicroTile &tile, const MicroOperands &operands,
                              Value steps, ValueRange init) {
  StepEmitter emitter{e, tile, operands};
  int64_t size = tile.rows * tile.vecs;
  // A small tile alone cannot hide the latency of FMA (4 cycles, 2 a cycle): several sums over k in
  // turn, added at the end.
  int64_t phases = 1;
  while (!tile.inOrder && phases < 8 && phases * 2 * size <= 16)
    phases *= 2;

  Emitter::Values sums(init);
  for (int64_t i = size; i < size * phases; ++i)
    sums.push_back(e.zero(init[0].getType()));
  Value phasedEnd = phases == 1 ? steps : e.roundDown(steps, phases);
  sums = e.loop(e.index(0), phasedEnd, phases, sums, [&](Value i, ValueRange carried) {
    Emitter::Values acc(carried);
    for (int64_t p = 0; p < phases; ++p)
      emitter.step(e.add(i, p), MutableArrayRef<Value>(acc).slice(p * size, size));
    return acc;
  });
  for (int64_t p = phases / 2; p >= 1; p /= 2)
    for (int64_t i = 0; i < p * size; ++i) {
      Value &sum = sums[i];
      sum = isa<FloatType>(tile.accType)
                ? Value(arith::AddFOp::create(e.b, e.loc, sum, sums[i + p * size]))
                : Value(arith::AddIOp::create(e.b, e.loc, sum, sums[i + p * size]));
    }
  sums.truncate(size);
  if (phases == 1)
    return sums;
  return e.loop(phasedEnd, steps, 1, sums, [&](Value i, ValueRange carried) {
    Emitter::Values acc(carried);
    emitter.step(i, acc);
    return acc;
  });
}

} // namespace shardc
