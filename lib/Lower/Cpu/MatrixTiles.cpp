//===- MatrixTiles.cpp - Register tiles of AMX ----------------------------===//
//
// The intrinsics that name their tiles by number: LLVM then allocates nothing and needs no
// configuration of its own.
//
//===----------------------------------------------------------------------===//
#include "MatrixTiles.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "shardc/Support/ElementBytes.h"

using namespace mlir;

namespace shardc {
namespace {

constexpr int64_t kSums = 0, kTilesOfA = 4, kTilesOfB = 6; ///< first numbers

struct TileEmitter {
  Emitter &e;

  void call(StringRef name, ValueRange operands) {
    LLVM::CallIntrinsicOp::create(e.b, e.loc, e.b.getStringAttr("llvm.x86." + name), operands);
  }
  Value number(int64_t tile) { return e.scalar(e.b.getI8Type(), tile); }
  Value address(Value buffer, Value at) {
    Value base = memref::ExtractAlignedPointerAsIndexOp::create(e.b, e.loc, buffer);
    int64_t bytes = elementBytes(cast<MemRefType>(buffer.getType()).getElementType());
    Value integer =
        arith::IndexCastOp::create(e.b, e.loc, e.b.getI64Type(), e.add(base, e.mul(at, bytes)));
    return LLVM::IntToPtrOp::create(e.b, e.loc, LLVM::LLVMPointerType::get(e.b.getContext()),
                                    integer);
  }
  /// Tile `tile` from or to rows of units of four bytes, `stride` units apart.
  void move(StringRef intrinsic, int64_t tile, Value buffer, Value at, int64_t stride) {
    Value bytes = arith::ConstantIntOp::create(e.b, e.loc, stride * 4, 64);
    call(intrinsic, {number(tile), address(buffer, at), bytes});
  }
};

} // namespace

void configureTiles(Emitter &e, int64_t rows) {
  // Palette 1; bytes of each tile's rows as u16 from byte 16 on, rows as u8 from byte 48 on.
  uint8_t bytes[64] = {1};
  for (int64_t tile = 0; tile < 8; ++tile) {
    bytes[16 + 2 * tile] = kTileSide * 4;
    bytes[48 + tile] = tile < kTilesOfB ? rows : kTileSide;
  }
  Type i64 = e.b.getI64Type();
  Value block =
      memref::AllocaOp::create(e.b, e.loc, MemRefType::get({8}, i64), e.b.getI64IntegerAttr(64));
  for (int64_t i = 0; i < 8; ++i) {
    uint64_t word = 0;
    for (int64_t j = 0; j < 8; ++j)
      word |= uint64_t(bytes[8 * i + j]) << (8 * j);
    Value value = arith::ConstantOp::create(e.b, e.loc, e.b.getI64IntegerAttr(int64_t(word)));
    e.storeScalar(value, block, e.index(i));
  }
  TileEmitter tiles{e};
  tiles.call("ldtilecfg", {tiles.address(block, e.index(0))});
}

void releaseTiles(Emitter &e) { TileEmitter{e}.call("tilerelease", {}); }

namespace {

/// The tiles of `sums`, and where each begins.
struct SumTiles {
  Emitter &e;
  const TileSums &sums;
  int64_t wide() const { return sums.columns / kTileSide; }
  int64_t tile(int64_t r, int64_t v) const { return kSums + r * wide() + v; }
  Value at(Value base, int64_t r, int64_t v) const {
    return e.add(base, (r * sums.columns + v) * kTileSide);
  }
  void store(int64_t r, int64_t v, Value base) const {
    TileEmitter{e}.move("tilestored64", tile(r, v), sums.acc, at(base, r, v), sums.columns);
  }
  /// The tiles from the r-th row of them on.
  void storeFrom(int64_t r, Value base) const {
    for (; r < llvm::divideCeil(sums.rows, kTileSide); ++r)
      for (int64_t v = 0; v < wide(); ++v)
        store(r, v, base);
  }
};

} // namespace

void emitTileLoop(Emitter &e, const TileSums &sums, int64_t rows, const MicroOperands &o,
                  Value steps, Value before, Value from, Value isFirst,
                  llvm::function_ref<void(Value)> beside) {
  TileEmitter tiles{e};
  SumTiles places{e, sums};
  int64_t high = llvm::divideCeil(rows, kTileSide);
  auto step = [&](Value i, llvm::function_ref<void(int64_t, int64_t)> begin,
                  llvm::function_ref<void()> between) {
    Value row = e.add(o.bBase, e.mul(i, kTileK / 2 * o.bStep));
    Value k = e.add(o.aBase, e.mul(i, kTileK / 2 * o.aK));
    for (int64_t v = 0; v < places.wide(); ++v)
      tiles.move("tileloadd64", kTilesOfB + v, o.b, e.add(row, v * kTileSide), o.bStep);
    for (int64_t r = 0; r < high; ++r) {
      // The hint keeps A's rows from taking the place of B's panel in L1.
      tiles.move("tileloaddt164", kTilesOfA + r, o.a, e.add(k, r * kTileSide * o.aRow), o.aRow);
      for (int64_t v = 0; v < places.wide(); ++v) {
        begin(r, v);
        tiles.call("tdpbf16ps", {tiles.number(places.tile(r, v)), tiles.number(kTilesOfA + r),
                                 tiles.number(kTilesOfB + v)});
      }
      if (r == 0)
        between();
    }
  };
  step(
      e.index(0),
      [&](int64_t r, int64_t v) {
        places.store(r, v, before);
        auto zero = [&] { tiles.call("tilezero", {tiles.number(places.tile(r, v))}); };
        if (!from)
          return zero();
        e.ifThenElse(isFirst, zero, [&] {
          tiles.move("tileloadd64", places.tile(r, v), sums.acc, places.at(from, r, v),
                     sums.columns);
        });
      },
      [] {});
  places.storeFrom(high, before);
  e.loop(e.index(1), steps, 1,
         [&](Value i) { step(i, [](int64_t, int64_t) {}, [&] { beside(i); }); });
}

void storeSums(Emitter &e, const TileSums &sums, Value base) {
  SumTiles{e, sums}.storeFrom(0, base);
}

} // namespace shardc
