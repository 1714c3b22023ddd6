//===- GemmPacking.cpp - Operands through scratch -------------------------===//
//
// Copies that convert to the accumulator's type or to pairs of bf16. Each follows the contiguous
// direction of its source; B with contiguous k is transposed in registers.
//
//===----------------------------------------------------------------------===//
#include "GemmPacking.h"
#include "MatrixTiles.h"

using namespace mlir;

namespace shardc {
/// Rows of k are pages apart, where the hardware does not look ahead.
static constexpr int64_t kPrefetchRows = 16;

namespace {

struct Packer {
  Emitter &e;
  const GemmSpec &spec;
  const GemmPlan &plan;
  const GemmLevel &level;

  int64_t lanes() const { return level.lanes; }
  Type unitType() const { return level.dot ? Type(e.b.getI32Type()) : plan.accType; }
  /// Elements of k in one unit of the inner loop.
  int64_t perUnit() const { return level.dot ? 2 : 1; }
  Value units(Value k) { return level.dot ? e.div(e.add(k, 1), 2) : k; }

  /// Vector of units from contiguous elements: converted, or 2·lanes bf16 seen as pairs.
  Value toUnits(Value loaded) {
    return level.dot ? e.bitcast(loaded, lanes(), e.b.getI32Type())
                     : e.convert(loaded, plan.accType);
  }

  using Load = llvm::function_ref<Value(Value, Value)>;

  /// Calls body(first element, loader) for each vector of `width` elements along a contiguous run
  /// of `count`; what it loads goes through `convert`. The last may be masked.
  void alongVectors(Value count, int64_t width, llvm::function_ref<Value(Value)> convert,
                    llvm::function_ref<void(Value, Load)> body) {
    Value full = e.roundDown(count, width);
    e.loop(e.index(0), full, width, [&](Value i) {
      body(i, [&](Value source, Value at) { return convert(e.load(source, at, width)); });
    });
    e.ifThen(e.less(full, count), [&] {
      Value mask = e.mask(width, e.sub(count, full));
      body(full,
           [&](Value source, Value at) { return convert(e.loadMasked(source, at, width, mask)); });
    });
  }
  /// … of vectors of units.
  void alongRun(Value count, llvm::function_ref<void(Value, Load)> body) {
    alongVectors(count, lanes() * perUnit(), [&](Value v) { return toUnits(v); }, body);
  }
  /// … of 16-bit elements seen as pairs.
  void alongPairs(Value count, llvm::function_ref<void(Value, Load)> body) {
    alongVectors(
        count, 2 * lanes(), [&](Value v) { return e.bitcast(v, lanes(), e.b.getI32Type()); }, body);
  }

  /// One scalar unit from element (x, k) at `at`, the next of k `kStride` away.
  Value scalarUnit(Value source, Value at, int64_t kStride, Value k, Value kEnd) {
    if (!level.dot)
      return e.convert(e.loadScalar(source, at), plan.accType);
    auto bits = [&](Value v) {
      return arith::ExtUIOp::create(e.b, e.loc, e.b.getI32Type(),
                                    arith::BitcastOp::create(e.b, e.loc, e.b.getI16Type(), v));
    };
    Value even = e.loadScalar(source, at);
    // An odd k has no partner in the last pair; reading the even one again stays in bounds.
    Value inside = e.less(e.add(k, 1), kEnd);
    Value next = arith::SelectOp::create(e.b, e.loc, inside, e.add(at, kStride), at);
    Value odd = arith::SelectOp::create(e.b, e.loc, inside, e.loadScalar(source, next),
                                        e.zero(even.getType()));
    Value high = arith::ShLIOp::create(e.b, e.loc, bits(odd), e.scalar(e.b.getI32Type(), 16));
    return arith::OrIOp::create(e.b, e.loc, bits(even), high);
  }

  //===--------------------------------------------------------------------===//
  // Rows of k, each a contiguous run across the other dimension (A stored [k][m], B stored [k][n])
  //===--------------------------------------------------------------------===//

  /// dst[dstBase + unit·dstStride + x] for x < count (vectors round up) from source[base +
  /// k·kStride + x].
  void copyAcross(Value source, Value base, int64_t kStride, Value k, Value count, Value dst,
                  Value dstBase, int64_t dstStride, int64_t aheadOrZero) {
    Value full = e.roundDown(count, lanes());
    Value mask = e.mask(lanes(), e.sub(count, full));
    e.loop(e.index(0), units(k), 1, [&](Value unit) {
      Value first = e.mul(unit, perUnit());
      Value row = e.add(base, e.mul(first, kStride));
      Value ahead = e.add(row, kPrefetchRows * perUnit() * kStride);
      auto vector = [&](Value x, llvm::function_ref<Value(Value)> load) {
        e.prefetch(source, e.add(ahead, x));
        for (int64_t i = 0; aheadOrZero != 0 && i < perUnit(); ++i)
          e.prefetch(source, e.add(e.add(row, x), aheadOrZero + i * kStride));
        e.store(unitVector(load, e.add(row, x), kStride, first, k), dst,
                e.add(e.add(dstBase, e.mul(unit, dstStride)), x));
      };
      e.loop(e.index(0), full, lanes(),
             [&](Value x) { vector(x, [&](Value at) { return e.load(source, at, lanes()); }); });
      e.ifThen(e.less(full, count), [&] {
        vector(full, [&](Value at) { return e.loadMasked(source, at, lanes(), mask); });
      });
    });
  }

  /// The same in register tiles: x = t + r, with r < width, goes to dst[dstBase + t·tileStride +
  /// unit·width + r]. A tile ends in room for one vector.
  void copyTiles(Value source, Value base, int64_t kStride, Value k, Value count, int64_t width,
                 Value dst, Value dstBase, int64_t tileStride) {
    Value full = e.roundDown(count, width);
    auto masksOf = [&](Value rows) {
      Emitter::Values masks;
      for (int64_t part = 0; part < width; part += lanes())
        masks.push_back(e.mask(lanes(), e.sub(rows, e.index(part))));
      return masks;
    };
    Emitter::Values wholeMasks = masksOf(e.index(width)), restMasks = masksOf(e.sub(count, full));
    e.loop(e.index(0), units(k), 1, [&](Value unit) {
      Value first = e.mul(unit, perUnit());
      Value row = e.add(base, e.mul(first, kStride)), to = e.add(dstBase, e.mul(unit, width));
      auto tile = [&](Value x, ArrayRef<Value> masks) {
        for (auto [i, mask] : llvm::enumerate(masks)) {
          int64_t part = i * lanes();
          auto load = [&, mask = mask](Value at) {
            return e.loadMasked(source, at, lanes(), mask);
          };
          e.store(unitVector(load, e.add(e.add(row, x), part), kStride, first, k), dst,
                  e.add(e.add(to, e.mul(x, tileStride)), part));
        }
      };
      e.loop(e.index(0), full, width, [&](Value x) { tile(x, wholeMasks); });
      e.ifThen(e.less(full, count), [&] { tile(full, restMasks); });
    });
  }

  /// The same as rows of pairs, dst[dstBase + x·dstStride + unit]: square blocks are transposed in
  /// registers. k is padded with zeros to whole matrix tiles.
  void transposePairs(Value source, Value base, int64_t kStride, Value k, Value count, Value dst,
                      Value dstBase, int64_t dstStride) {
    auto block = [&](Value first, bool isWhole) {
      e.loop(e.index(0), count, lanes(), [&](Value x) {
        Value mask = e.mask(lanes(), e.sub(count, x));
        auto row = [&](Value at) {
          Value inside = e.less(at, k), zero = e.zero(e.vec(lanes(), spec.a.type));
          Value from = isWhole ? at : e.min(at, e.sub(k, e.index(1)));
          if (isWhole) // more rows than the hardware follows
            e.prefetch(source, e.add(e.add(base, e.mul(e.add(at, kTileK), kStride)), x));
          Value loaded =
              e.loadMasked(source, e.add(e.add(base, e.mul(from, kStride)), x), lanes(), mask);
          return isWhole ? loaded : arith::SelectOp::create(e.b, e.loc, inside, loaded, zero);
        };
        SmallVector<Value> pairs;
        for (int64_t i = 0; i < lanes(); ++i)
          pairs.push_back(makePairs(e, row(e.add(first, 2 * i)), row(e.add(first, 2 * i + 1))));
        Value to = e.add(e.add(dstBase, e.mul(x, dstStride)), e.div(first, 2));
        for (auto [i, column] : llvm::enumerate(e.transpose(pairs)))
          e.store(column, dst, e.add(to, i * dstStride));
      });
    };
    Value full = spec.k % kTileK == 0 ? k : e.roundDown(k, kTileK);
    e.loop(e.index(0), full, kTileK, [&](Value first) { block(first, true); });
    if (spec.k % kTileK != 0)
      e.ifThen(e.less(full, k), [&] { block(full, false); });
  }

  /// Zeros for the units that `k` leaves of a matrix tile, each `vectors` vectors wide.
  void padUnits(Value k, int64_t stride, int64_t vectors, Value dst, Value dstBase) {
    if (!level.tiles || spec.k % kTileK == 0)
      return;
    Value end = e.mul(e.div(e.add(k, kTileK - 1), kTileK), kTileK / 2);
    Value none = vectors == 0 ? e.zero(unitType()) : e.zero(e.vec(lanes(), unitType()));
    e.loop(units(k), end, 1, [&](Value unit) {
      Value at = e.add(dstBase, e.mul(unit, stride));
      if (vectors == 0)
        e.storeScalar(none, dst, at);
      for (int64_t i = 0; i < vectors; ++i)
        e.store(none, dst, e.add(at, i * lanes()));
    });
  }

  /// Converted elements at `at`, or pairs with those of the next k.
  Value unitVector(llvm::function_ref<Value(Value)> load, Value at, int64_t kStride, Value k,
                   Value kEnd) {
    if (!level.dot)
      return e.convert(load(at), plan.accType);
    Value inside = e.less(e.add(k, 1), kEnd);
    Value next = arith::SelectOp::create(e.b, e.loc, inside, e.add(at, kStride), at);
    Value even = load(at);
    Value odd = arith::SelectOp::create(e.b, e.loc, inside, load(next), e.zero(even.getType()));
    return makePairs(e, even, odd);
  }
};

} // namespace

static bool acrossK(const GemmSpec &spec) {
  return spec.a.columnStride != 1 && spec.a.rowStride == 1;
}

PlacedA placeA(Emitter &e, const GemmSpec &spec, const GemmPlan &plan, const GemmLevel &level,
               Value scratch, Value kIndex) {
  Packer p{e, spec, plan, level};
  int64_t units = llvm::divideCeil(plan.kBlock, p.perUnit());
  int64_t block = blockElementsOfA(plan) / p.perUnit();
  Value buffer = e.view(scratch, plan.aOffset, p.unitType(),
                        (plan.bOffset - plan.aOffset) / elementBytes(p.unitType()));
  Value base = plan.keepA ? e.mul(kIndex, block) : e.index(0);
  if (!acrossK(spec) || level.tiles) {
    int64_t lines = llvm::divideCeil(units, 16);
    // Rows of matrix tiles an odd number of lines apart do not share sets of L1 (GemmPlan.cpp).
    int64_t rowStride = (level.tiles ? lines | 1 : lines + 1) * 16;
    return {buffer, base, rowStride, rowStride, 1};
  }
  // Register tiles one after the other, each [k][row]; one more k for the partner of an odd one.
  int64_t tileStride = units + 1 + llvm::divideCeil(p.lanes(), level.tileRows);
  return {buffer, base, tileStride, 1, level.tileRows};
}

void copyA(Emitter &e, const GemmSpec &spec, const GemmPlan &plan, const GemmLevel &level,
           Value source, Value base, Value rows, Value k, const PlacedA &a) {
  Packer p{e, spec, plan, level};
  bool needsPartner = level.step == StepKind::ConvertPair && spec.k % 2 != 0;
  if (acrossK(spec) && level.tiles)
    return p.transposePairs(source, base, spec.a.columnStride, k, rows, a.buffer, a.base,
                            a.rowStride);
  if (acrossK(spec)) {
    p.copyTiles(source, base, spec.a.columnStride, k, rows, level.tileRows, a.buffer, a.base,
                a.tileStride);
    if (needsPartner)
      e.loop(e.index(0), rows, level.tileRows, [&](Value row) {
        for (int64_t r = 0; r < level.tileRows; ++r)
          e.storeScalar(
              e.zero(plan.accType), a.buffer,
              e.add(e.add(e.add(a.base, e.mul(row, a.tileStride)), e.mul(k, level.tileRows)), r));
      });
    return;
  }
  e.loop(e.index(0), rows, 1, [&](Value r) {
    Value from = e.add(base, e.mul(r, spec.a.rowStride)), to = e.add(a.base, e.mul(r, a.rowStride));
    if (spec.a.columnStride == 1)
      p.alongRun(k, [&](Value i, auto load) {
        e.store(load(source, e.add(from, i)), a.buffer, e.add(to, e.div(i, p.perUnit())));
      });
    else
      e.loop(e.index(0), p.units(k), 1, [&](Value unit) {
        Value first = e.mul(unit, p.perUnit());
        Value at = e.add(from, e.mul(first, spec.a.columnStride));
        e.storeScalar(p.scalarUnit(source, at, spec.a.columnStride, first, k), a.buffer,
                      e.add(to, unit));
      });
    if (spec.a.columnStride != 1)
      p.padUnits(k, 1, 0, a.buffer, to);
    if (needsPartner)
      e.storeScalar(e.zero(plan.accType), a.buffer, e.add(to, k));
  });
}

/// A packed panel in another type: only a conversion.
static void convertPanel(Packer &p, Value source, Value base, Value k, Value panel,
                         Value panelBase) {
  Emitter &e = p.e;
  int64_t nTile = p.spec.nTile;
  bool pairs = isPaired(p.spec.b.type);
  e.loop(e.index(0), pairs ? e.div(e.add(k, 1), 2) : k, 1, [&](Value i) {
    for (int64_t x = 0; x < nTile; x += p.lanes()) {
      Value loaded = e.load(source, e.add(e.add(base, e.mul(i, nTile)), x), p.lanes());
      Value to = e.add(e.add(panelBase, e.mul(i, pairs ? 2 * nTile : nTile)), x);
      if (!pairs) {
        e.store(e.convert(loaded, p.plan.accType), panel, to);
        continue;
      }
      auto [even, odd] = convertPair(e, loaded, p.spec.b.type);
      e.store(e.convert(even, p.plan.accType), panel, to);
      e.store(e.convert(odd, p.plan.accType), panel, e.add(to, nTile));
    }
  });
}

/// k is contiguous: square blocks are transposed in registers, of 16-bit elements as pairs. Columns
/// beyond N repeat the last one; they are never stored in C.
static void transposePanel(Packer &p, Value source, Value base, Value n0, Value k, Value panel,
                           Value panelBase, int64_t ahead) {
  Emitter &e = p.e;
  int64_t nTile = p.spec.nTile, lanes = p.lanes();
  bool convertsPairs = !p.level.dot && isPaired(p.spec.b.type) && p.plan.accType.isF32();
  Value last = e.index(p.spec.n - 1);
  e.loop(e.index(0), e.index(nTile), lanes, [&](Value x) {
    SmallVector<Value> rows;
    for (int64_t i = 0; i < lanes; ++i)
      rows.push_back(
          e.add(base, e.mul(e.min(e.add(e.add(n0, x), i), last), p.spec.b.columnStride)));
    auto transposed = [&](Value first, llvm::function_ref<Value(Value, Value)> load) {
      SmallVector<Value> block;
      for (Value row : rows) {
        if (ahead != 0)
          e.prefetch(source, e.add(e.add(row, first), ahead));
        block.push_back(load(source, e.add(row, first)));
      }
      return e.transpose(block);
    };
    if (convertsPairs)
      return p.alongPairs(k, [&](Value first, auto load) {
        Value to = e.add(e.add(panelBase, e.mul(first, nTile)), x);
        for (auto [i, pairs] : llvm::enumerate(transposed(first, load))) {
          auto [even, odd] = convertPair(e, pairs, p.spec.b.type);
          e.store(even, panel, e.add(to, 2 * i * nTile));
          e.store(odd, panel, e.add(to, (2 * i + 1) * nTile));
        }
      });
    p.alongRun(k, [&](Value first, auto load) {
      Value to = e.add(e.add(panelBase, e.mul(e.div(first, p.perUnit()), nTile)), x);
      for (auto [i, column] : llvm::enumerate(transposed(first, load)))
        e.store(column, panel, e.add(to, i * nTile));
    });
  });
}

/// Columns of the panel at n0 that exist: none for a panel that lies wholly behind the last column.
static Value panelWidth(Emitter &e, const GemmSpec &spec, Value n0) {
  Value n = e.index(spec.n);
  return e.min(e.index(spec.nTile), e.sub(n, e.min(n0, n)));
}

static void gatherPanel(Packer &p, Value source, Value base, Value n0, Value k, Value panel,
                        Value panelBase) {
  Emitter &e = p.e;
  int64_t kStride = p.spec.b.rowStride;
  Value width = panelWidth(e, p.spec, n0);
  e.loop(e.index(0), p.units(k), 1, [&](Value unit) {
    Value first = e.mul(unit, p.perUnit());
    e.loop(e.index(0), width, 1, [&](Value x) {
      Value at =
          e.add(e.add(base, e.mul(first, kStride)), e.mul(e.add(n0, x), p.spec.b.columnStride));
      e.storeScalar(p.scalarUnit(source, at, kStride, first, k), panel,
                    e.add(e.add(panelBase, e.mul(unit, p.spec.nTile)), x));
    });
  });
}

void prepareB(Emitter &e, const GemmSpec &spec, const GemmPlan &plan, const GemmLevel &level,
              Value source, Value base, Value n0, Value k, Value panel, Value panelBase,
              int64_t ahead) {
  Packer p{e, spec, plan, level};
  if (spec.packedB)
    return convertPanel(p, source, base, k, panel, panelBase);
  p.padUnits(k, spec.nTile, spec.nTile / level.lanes, panel, panelBase);
  if (spec.b.columnStride == 1) {
    Value width = panelWidth(e, spec, n0);
    return p.copyAcross(source, e.add(base, n0), spec.b.rowStride, k, width, panel, panelBase,
                        spec.nTile, ahead);
  }
  bool square = llvm::isPowerOf2_64(p.lanes()) && p.lanes() <= 16;
  if (spec.b.rowStride == 1 && square)
    return transposePanel(p, source, base, n0, k, panel, panelBase, ahead);
  gatherPanel(p, source, base, n0, k, panel, panelBase);
}

} // namespace shardc
