//===- AttentionGradKeys.cpp - The keys' and values' gradients ------------===//
#include "AttentionGradient.h"
#include "TilePipeline.h"

using namespace mlir;

namespace shardc {
namespace {

/// A warp has 16 keys; tiles of queries and their cotangents pass by, of one head after the other.
/// Where a warp's registers cannot hold both gradients, several warps have the same keys and a part
/// of the columns each.
class GradKeys : AttentionGradKernel {
public:
  GradKeys(CudaLowering &lowering, const AttentionGradSpec &spec,
           const AttentionGradBuffers &buffers)
      : AttentionGradKernel(lowering, spec), buffers(buffers) {}
  CudaLaunch build();

private:
  Values step(WarpTile &warp, AttentionGrid::Query first, ValueRange carried,
              const SharedTile &queries, const SharedTile &cotangents);

  const AttentionGradBuffers &buffers;
  Value keys[2]; ///< rows g and g + 8
  AttentionGrid::Range blockKeys;
  RowPlace keyRows[2], valueRows[2];
  GlobalRows query, key, value, cotangent;
  SmallVector<Values> keptKey, keptValue;
  SharedTile staging;
  std::optional<TilePipeline> tiles;
  Value mask, firstKeyColumn, firstValueColumn;
  int64_t keyWidth = 0, valueWidth = 0; ///< columns of a warp
};

} // namespace

/// One tile of queries of a head, from `first` on.
Emitter::Values GradKeys::step(WarpTile &warp, AttentionGrid::Query first, ValueRange carried,
                               const SharedTile &queries, const SharedTile &cotangents) {
  Values products = warp.zeroSums(tileRows), slopes = warp.zeroSums(tileRows);
  warp.addRowProducts(
      products, keptKey,
      [&](Value inner) { return warp.rowsOf(key, keyRows[0], keyRows[1], inner); }, queries,
      spec.dim);
  warp.addRowProducts(
      slopes, keptValue,
      [&](Value inner) { return warp.rowsOf(value, valueRows[0], valueRows[1], inner); },
      cotangents, spec.valueDim);

  bool isRagged = spec.queries % tileRows != 0;
  auto queryOf = [&](int64_t n) { return e.add(first.number, warp.columnOf(n)); };
  Values scores, derivatives;
  for (auto [n, product] : llvm::enumerate(products)) {
    AttentionGrid::Query at{first.head, queryOf(n), {}};
    Value number = keys[WarpTile::isHigh(n)], inside;
    if (spec.mask) {
      if (isRagged)
        inside = e.less(at.number, e.index(spec.queries));
      inside = grid.both(inside, keyRows[WarpTile::isHigh(n)].exists);
    }
    AttentionGrid::Score score = grid.score(warp, product, mask, at, number, inside, true);
    scores.push_back(score.value);
    derivatives.push_back(score.slope);
  }
  AttentionGrid::Range range{first.number, e.add(first.number, tileRows - 1)};
  scores = grid.hidePartly(scores, range, blockKeys, false, [&](int64_t n) {
    return std::pair(queryOf(n), keys[WarpTile::isHigh(n)]);
  });
  // Statistics of this lane's queries. Beyond the last one: no power.
  Values powers, factors;
  llvm::SmallDenseMap<int64_t, std::pair<Value, Value>> statistics;
  for (auto [n, score] : llvm::enumerate(scores)) {
    auto &[denominator, delta] = statistics[n / 4 * 2 + n % 2];
    if (!denominator) {
      AttentionGrid::Query at{first.head, queryOf(n), {}};
      Value place = grid.statistic(at), exists;
      if (isRagged) {
        exists = e.less(at.number, e.index(spec.queries));
        place = grid.select(exists, place, e.index(0));
      }
      denominator = e.loadScalar(bufferOf(buffers.denominator), place);
      delta = e.loadScalar(bufferOf(buffers.delta), place);
      if (exists)
        denominator =
            grid.select(exists, denominator, grid.f32(std::numeric_limits<double>::infinity()));
    }
    powers.push_back(warp.exp2(grid.minus(score, denominator)));
    Value slope = grid.times(grid.minus(slopes[n], delta), derivatives[n]);
    factors.push_back(grid.times(powers.back(), slope));
  }
  Values dkey(carried.take_front(keyWidth / 2)), dvalue(carried.drop_front(keyWidth / 2));
  warp.addColumnProducts(dvalue, powers, cotangents, firstValueColumn, staging);
  warp.addColumnProducts(dkey, factors, queries, firstKeyColumn, staging);
  dkey.append(dvalue);
  return dkey;
}

CudaLaunch GradKeys::build() {
  std::vector<const CudaBuffer *> list{&buffers.query,     &buffers.key,         &buffers.value,
                                       &buffers.cotangent, &buffers.denominator, &buffers.delta,
                                       &buffers.dkey,      &buffers.dvalue};
  if (buffers.mask)
    list.push_back(&*buffers.mask);
  begin("_keys", list);
  Type element = spec.q.type;
  // A lane's registers hold the sums of half as many columns, and a fragment, which is larger
  // without tensor cores.
  int64_t columns = llvm::alignTo(spec.dim, 16) + llvm::alignTo(spec.valueDim, 16);
  int64_t parts = columns > (tensorCores ? 256 : 192) ? 2 : 1;
  keyWidth = llvm::alignTo(llvm::divideCeil(spec.dim, parts), 16);
  valueWidth = llvm::alignTo(llvm::divideCeil(spec.valueDim, parts), 16);
  int64_t groups = std::clamp<int64_t>(llvm::divideCeil(spec.keys, 16), 1, 4 / parts);
  int64_t keysPerBlock = 16 * groups, blocks = llvm::divideCeil(spec.keys, keysPerBlock);
  int64_t threads = groups * parts * kWarp;
  lowering.setGrid(spec.batch * spec.keyHeads * blocks, threads);
  WarpTile warp(lowering, e, element, threads);
  Value firstKey = e.mul(grid.takeBlock(lowering.blockIndex(), blocks), keysPerBlock);
  blockKeys = {firstKey, e.add(firstKey, keysPerBlock - 1)};
  Value row = e.add(e.add(firstKey, e.mul(e.div(warp.warp, parts), 16)), warp.group);
  Value part = e.rem(warp.warp, parts);
  firstKeyColumn = e.mul(part, keyWidth);
  firstValueColumn = e.mul(part, valueWidth);
  bool isWhole = spec.keys % keysPerBlock == 0;
  for (int64_t high : {0, 1}) {
    keys[high] = e.add(row, high * 8);
    keyRows[high] = grid.keyPlace(spec.k, keys[high], isWhole);
    valueRows[high] = grid.keyPlace(spec.v, keys[high], isWhole);
  }

  mask = buffers.mask ? bufferOf(*buffers.mask) : Value();
  query = grid.source(bufferOf(buffers.query), spec.q, spec.dim);
  key = grid.source(bufferOf(buffers.key), spec.k, spec.dim);
  value = grid.source(bufferOf(buffers.value), spec.v, spec.valueDim);
  cotangent = grid.source(bufferOf(buffers.cotangent), spec.out, spec.valueDim);
  int64_t count = tensorCores && columns <= 256 ? 32 : 16;
  if (!tensorCores)
    staging = warp.tile(16 * groups * parts, count);
  int64_t taken = staging.elements() * elementBytes(element);
  tiles.emplace(lowering, e, warp, TilePipeline::Shape{count, keyWidth * parts},
                TilePipeline::Shape{count, valueWidth * parts}, 2, taken);
  tileRows = count;
  if (tensorCores && columns <= 128) {
    for (int64_t inner = 0; inner < spec.dim; inner += warp.step)
      keptKey.push_back(warp.rowsOf(key, keyRows[0], keyRows[1], e.index(inner)));
    for (int64_t inner = 0; inner < spec.valueDim; inner += warp.step)
      keptValue.push_back(warp.rowsOf(value, valueRows[0], valueRows[1], e.index(inner)));
  }

  // Tiles of the first head's queries, then of the next one's.
  AttentionGrid::Range range = grid.queriesFor(blockKeys);
  Value begin = e.roundDown(range.first, count);
  Value length = e.max(e.sub(range.last, begin), e.index(0));
  Value perHead = e.div(e.add(length, count - 1), count);
  auto queryOf = [&](Value number) -> AttentionGrid::Query {
    Value head = e.b.createOrFold<arith::DivUIOp>(e.loc, number, perHead);
    Value tile = e.b.createOrFold<arith::RemUIOp>(e.loc, number, perHead);
    return {e.add(e.mul(grid.keyHead, grid.members), head), e.add(begin, e.mul(tile, count)), {}};
  };
  bool isInside = spec.queries % count == 0;
  Values sums = tiles->run(
      e.mul(perHead, grid.members), warp.zeroSums(keyWidth + valueWidth),
      [&](Value number, const SharedTile &queries, const SharedTile &cotangents) {
        AttentionGrid::Query first = queryOf(number);
        auto place = [&](const AttentionOperand &operand) {
          return [&, operand](Value row) {
            Value at = e.add(first.number, row);
            Value exists = isInside ? Value() : e.less(at, e.index(spec.queries));
            return grid.place(operand, {first.head, at, exists});
          };
        };
        warp.startCopy(queries, query, place(spec.q));
        warp.startCopy(cotangents, cotangent, place(spec.out));
      },
      [&](Value number, ValueRange carried, const SharedTile &queries,
          const SharedTile &cotangents) {
        return step(warp, queryOf(number), carried, queries, cotangents);
      });
  ArrayRef<Value> all(sums);
  auto store = [&](ArrayRef<Value> sums, const CudaBuffer &buffer, const AttentionOperand &target,
                   Value firstColumn, int64_t size, int64_t width) {
    warp.storeRows(sums, bufferOf(buffer), grid.keyPlace(target, keys[0], isWhole),
                   grid.keyPlace(target, keys[1], isWhole), firstColumn, size, target.column,
                   size == width * parts);
  };
  store(all.take_front(keyWidth / 2), buffers.dkey, gradient.dk, firstKeyColumn, spec.dim,
        keyWidth);
  store(all.drop_front(keyWidth / 2), buffers.dvalue, gradient.dv, firstValueColumn, spec.valueDim,
        valueWidth);
  return lowering.launch();
}

CudaLaunch lowerAttentionGradKeys(CudaLowering &lowering, const AttentionGradSpec &spec,
                                  const AttentionGradBuffers &buffers) {
  return GradKeys(lowering, spec, buffers).build();
}

} // namespace shardc
