//===- AttentionGradQueries.cpp - Statistics, and the queries' gradient ---===//
#include "AttentionGradient.h"
#include "TilePipeline.h"

using namespace mlir;

namespace shardc {
namespace {

/// A warp has 16 query rows; tiles of keys and values pass by, twice.
class GradQueries : AttentionGradKernel {
public:
  GradQueries(CudaLowering &lowering, const AttentionGradSpec &spec,
              const AttentionGradBuffers &buffers)
      : AttentionGradKernel(lowering, spec), buffers(buffers) {}
  CudaLaunch build();

private:
  /// Of a tile: scores as softmax sees them, their slopes, and dP.
  struct Tile {
    Values scores, slopes, cotangents;
  };
  Tile tile(WarpTile &warp, Value firstKey, const SharedTile &keys, const SharedTile &values,
            bool wantsSlopes);
  void statistics(WarpTile &warp);
  Values queryColumns(WarpTile &warp, int64_t firstColumn, int64_t columns);
  Values over(WarpTile &warp, ArrayRef<Value> carried,
              llvm::function_ref<Values(Value firstKey, ValueRange carried, const SharedTile &keys,
                                        const SharedTile &values)>
                  body);

  const AttentionGradBuffers &buffers;
  AttentionGrid::Query queries[2]; ///< of rows g and g + 8
  AttentionGrid::Range blockQueries;
  GlobalRows query, key, value, cotangent;
  SmallVector<Values> keptQuery, keptCotangent;
  SharedTile staging;
  std::optional<TilePipeline> tiles;
  Value mask;
  Value denominator[2], delta[2];
};

} // namespace

GradQueries::Tile GradQueries::tile(WarpTile &warp, Value firstKey, const SharedTile &keys,
                                    const SharedTile &values, bool wantsSlopes) {
  Tile tile;
  Values products = warp.zeroSums(tileRows);
  auto rowsOf = [&](const GlobalRows &rows, const AttentionOperand &operand) {
    return [&](Value inner) {
      return warp.rowsOf(rows, grid.place(operand, queries[0]), grid.place(operand, queries[1]),
                         inner);
    };
  };
  warp.addRowProducts(products, keptQuery, rowsOf(query, spec.q), keys, spec.dim);
  tile.cotangents = warp.zeroSums(tileRows);
  warp.addRowProducts(tile.cotangents, keptCotangent, rowsOf(cotangent, spec.out), values,
                      spec.valueDim);
  bool isRagged = spec.keys % tileRows != 0;
  for (auto [n, product] : llvm::enumerate(products)) {
    const AttentionGrid::Query &at = queries[WarpTile::isHigh(n)];
    Value number = e.add(firstKey, warp.columnOf(n)), inside = at.exists;
    if (isRagged && spec.mask)
      inside = grid.both(inside, e.less(number, e.index(spec.keys)));
    AttentionGrid::Score score = grid.score(warp, product, mask, at, number, inside, wantsSlopes);
    tile.scores.push_back(score.value);
    tile.slopes.push_back(score.slope);
  }
  AttentionGrid::Range range{firstKey, e.add(firstKey, tileRows - 1)};
  tile.scores = grid.hidePartly(tile.scores, blockQueries, range, isRagged, [&](int64_t n) {
    return std::pair(queries[WarpTile::isHigh(n)].number, e.add(firstKey, warp.columnOf(n)));
  });
  return tile;
}

Emitter::Values GradQueries::over(
    WarpTile &warp, ArrayRef<Value> carried,
    llvm::function_ref<Values(Value, ValueRange, const SharedTile &, const SharedTile &)> body) {
  AttentionGrid::Range range = grid.keysFor(blockQueries);
  Value begin = e.roundDown(range.first, tileRows);
  Value length = e.max(e.sub(range.last, begin), e.index(0));
  Value count = e.div(e.add(length, tileRows - 1), tileRows);
  auto keyOf = [&](Value number) { return e.add(begin, e.mul(number, tileRows)); };
  bool isInside = spec.keys % tileRows == 0;
  return tiles->run(
      count, carried,
      [&](Value number, const SharedTile &keys, const SharedTile &values) {
        auto place = [&](const AttentionOperand &operand) {
          return [&, operand](Value row) {
            return grid.keyPlace(operand, e.add(keyOf(number), row), isInside);
          };
        };
        warp.startCopy(keys, key, place(spec.k));
        warp.startCopy(values, value, place(spec.v));
      },
      [&](Value number, ValueRange carried, const SharedTile &keys, const SharedTile &values) {
        return body(keyOf(number), carried, keys, values);
      });
}

/// Greatest score, sum of powers and sum of powers times dP, as they come.
void GradQueries::statistics(WarpTile &warp) {
  Values start;
  for (int64_t high : {0, 1}) {
    Value greatest = grid.hidden(), sum = grid.f32(0);
    if (buffers.sinks) {
      greatest = grid.sink(warp, bufferOf(*buffers.sinks), queries[high]);
      sum = grid.select(e.equal(warp.member, e.index(0)), grid.f32(1), sum);
    }
    start.append({greatest, sum, grid.f32(0)});
  }
  Values last = over(
      warp, start,
      [&](Value firstKey, ValueRange carried, const SharedTile &keys, const SharedTile &values) {
        Tile here = tile(warp, firstKey, keys, values, false);
        Values state(carried);
        for (int64_t high : {0, 1}) {
          Value greatest = state[3 * high], &sum = state[3 * high + 1],
                &weighted = state[3 * high + 2];
          Value mine = grid.greatestOf(warp, here.scores, high);
          Value next = state[3 * high] = grid.greatest(greatest, mine);
          Value shift = grid.select(grid.isEqual(next, grid.hidden()), grid.f32(0), next);
          Value rescale = warp.exp2(grid.minus(greatest, shift));
          sum = grid.times(sum, rescale);
          weighted = grid.times(weighted, rescale);
          for (auto [n, score] : llvm::enumerate(here.scores)) {
            if (WarpTile::isHigh(n) != high)
              continue;
            Value power = warp.exp2(grid.minus(score, shift));
            sum = grid.plus(sum, power);
            weighted = grid.plus(weighted, grid.times(power, here.cotangents[n]));
          }
        }
        return state;
      });
  auto add = [&](Value x, Value y) { return grid.plus(x, y); };
  for (int64_t high : {0, 1}) {
    Value sum = warp.overRow(last[3 * high + 1], add),
          weighted = warp.overRow(last[3 * high + 2], add);
    Value sawNone = grid.isEqual(sum, grid.f32(0));
    Value log = grid.plus(last[3 * high], warp.log2(sum));
    denominator[high] =
        grid.select(sawNone, grid.f32(std::numeric_limits<double>::infinity()), log);
    delta[high] = grid.select(sawNone, grid.f32(0), grid.times(weighted, warp.reciprocal(sum)));
    Value isFirst = grid.both(queries[high].exists, e.equal(warp.member, e.index(0)));
    e.ifThen(isFirst, [&] {
      Value at = grid.statistic(queries[high]);
      e.storeScalar(denominator[high], bufferOf(buffers.denominator), at);
      e.storeScalar(delta[high], bufferOf(buffers.delta), at);
    });
  }
}

/// Some columns of dq.
Emitter::Values GradQueries::queryColumns(WarpTile &warp, int64_t firstColumn, int64_t columns) {
  return over(
      warp, warp.zeroSums(columns),
      [&](Value firstKey, ValueRange carried, const SharedTile &keys, const SharedTile &values) {
        Tile here = tile(warp, firstKey, keys, values, true);
        Values factors;
        for (auto [n, score] : llvm::enumerate(here.scores)) {
          int64_t high = WarpTile::isHigh(n);
          Value power = warp.exp2(grid.minus(score, denominator[high]));
          Value slope = grid.times(grid.minus(here.cotangents[n], delta[high]), here.slopes[n]);
          factors.push_back(grid.times(power, slope));
        }
        Values sums(carried);
        warp.addColumnProducts(sums, factors, keys, e.index(firstColumn), staging);
        return sums;
      });
}

CudaLaunch GradQueries::build() {
  std::vector<const CudaBuffer *> list{&buffers.query,     &buffers.key,    &buffers.value,
                                       &buffers.cotangent, &buffers.dquery, &buffers.denominator,
                                       &buffers.delta};
  if (buffers.mask)
    list.push_back(&*buffers.mask);
  if (buffers.sinks)
    list.push_back(&*buffers.sinks);
  begin("", list);
  Type element = spec.q.type;
  int64_t warps = std::clamp<int64_t>(llvm::divideCeil(grid.rows, 16), 1, 4);
  int64_t rowsPerBlock = 16 * warps, blocks = llvm::divideCeil(grid.rows, rowsPerBlock);
  lowering.setGrid(spec.batch * spec.keyHeads * blocks, warps * kWarp);
  WarpTile warp(lowering, e, element, warps * kWarp);
  Value block = grid.takeBlock(lowering.blockIndex(), blocks);
  if (spec.right) // the last queries see most keys: they go first
    block = e.sub(e.index(blocks - 1), block);
  Value firstRow = e.mul(block, rowsPerBlock);
  blockQueries =
      grid.queriesOf(firstRow, e.min(e.add(firstRow, rowsPerBlock - 1), e.index(grid.rows - 1)));
  Value row = e.add(e.add(firstRow, e.mul(warp.warp, 16)), warp.group);
  for (int64_t high : {0, 1})
    queries[high] = grid.queryAt(e.add(row, high * 8), grid.rows % rowsPerBlock == 0);

  mask = buffers.mask ? bufferOf(*buffers.mask) : Value();
  query = grid.source(bufferOf(buffers.query), spec.q, spec.dim);
  key = grid.source(bufferOf(buffers.key), spec.k, spec.dim);
  value = grid.source(bufferOf(buffers.value), spec.v, spec.valueDim);
  cotangent = grid.source(bufferOf(buffers.cotangent), spec.out, spec.valueDim);
  int64_t size = std::max(spec.dim, spec.valueDim);
  int64_t count = tensorCores && size <= 128 ? 32 : 16;
  if (!tensorCores)
    staging = warp.tile(rowsPerBlock, count);
  int64_t taken = staging.elements() * elementBytes(element);
  tiles.emplace(lowering, e, warp, TilePipeline::Shape{count, spec.dim},
                TilePipeline::Shape{count, spec.valueDim}, 2, taken);
  tileRows = count;
  if (tensorCores && size <= 128) {
    for (int64_t inner = 0; inner < spec.dim; inner += warp.step)
      keptQuery.push_back(warp.rowsOf(query, grid.place(spec.q, queries[0]),
                                      grid.place(spec.q, queries[1]), e.index(inner)));
    for (int64_t inner = 0; inner < spec.valueDim; inner += warp.step)
      keptCotangent.push_back(warp.rowsOf(cotangent, grid.place(spec.out, queries[0]),
                                          grid.place(spec.out, queries[1]), e.index(inner)));
  }
  statistics(warp);
  // More columns than this are done in two passes: registers hold no more.
  const AttentionOperand &target = gradient.dq;
  int64_t parts = spec.dim > 192 ? 2 : 1;
  int64_t width = llvm::alignTo(llvm::divideCeil(spec.dim, parts), 16);
  for (int64_t column = 0; column < spec.dim; column += width)
    warp.storeRows(
        queryColumns(
            warp, column,
            std::min<int64_t>(width, static_cast<int64_t>(llvm::alignTo(spec.dim, 16)) - column)),
        bufferOf(buffers.dquery), grid.place(target, queries[0]), grid.place(target, queries[1]),
        e.index(column), spec.dim, target.column, spec.dim % 16 == 0);
  return lowering.launch();
}

CudaLaunch lowerAttentionGradQueries(CudaLowering &lowering, const AttentionGradSpec &spec,
                                     const AttentionGradBuffers &buffers) {
  return GradQueries(lowering, spec, buffers).build();
}

} // namespace shardc
