//===- AttentionForward.cpp - Attention without the score matrix ----------===//
//
// Online softmax over tiles of keys (FlashAttention-2, arXiv:2307.08691). A warp has 16 query rows:
// their scores with a tile of keys, the running greatest score and sum, and the result so far are
// in its registers. Keys and values lie in shared memory, one tile of each; the next one is under
// way while the other is used:
//
//   keys of tile 0 begin
//   for each tile that some query of the block sees:
//     keys there; values begin
//     s = scale q kᵀ, soft cap, masks; greatest score m; p = 2^(s - m); result and sum rescaled
//     values there; keys of the next tile begin
//     result += p v
//   result / sum
//
// Tiles that all queries see whole skip the comparisons of positions.
//
// Where few blocks would have many keys (decoding with a long cache) the keys are split over
// several blocks; each leaves its result, greatest score and sum, and a second kernel merges them.
//
//===----------------------------------------------------------------------===//
#include "AttentionGrid.h"
#include "lib/Lower/Cpu/VectorMath.h"
#include "lib/Lower/Kernels/AttentionOperands.h"

using namespace mlir;

namespace shardc {
namespace {

/// Blocks that fill any GPU, and keys below which a block has too little to do.
constexpr int64_t kEnoughBlocks = 128, kFewestKeys = 256, kMostSplits = 64;

int64_t warpsFor(int64_t rows) { return std::clamp<int64_t>(llvm::divideCeil(rows, 16), 1, 4); }

/// What blocks that share their queries leave: results [split, batch, head, query, value], and
/// statistics [split, batch, head, query].
struct Partial {
  int64_t splits = 1, rows = 0;
  CudaBuffer result, greatest, sum;
};

class AttentionForward {
public:
  /// `buffers`: operands; then the result, or what a partial one has.
  AttentionForward(CudaLowering &lowering, const AttentionSpec &spec, ArrayRef<CudaBuffer> buffers,
                   int64_t splits)
      : lowering(lowering), spec(spec), e{lowering.builder, lowering.loc()}, grid(e, spec),
        splits(splits), buffers(lowering.beginKernel(spec.symbol, buffers).buffers) {}
  void build();

private:
  using Value = Emitter::Value;
  using Values = Emitter::Values;

  /// What the loop over tiles of keys carries.
  struct State {
    Values result;
    Value greatest[2], sum[2]; ///< of rows g and g + 8; sums are this lane's columns only
  };
  Values flat(const State &state);
  State unflat(ValueRange values);

  Values scores(WarpTile &warp, ArrayRef<Value> products, Value firstKey);
  Values step(WarpTile &warp, State &state, ArrayRef<Value> scores);
  void store(WarpTile &warp, State &state, Value out);
  void storePartial(WarpTile &warp, State &state, ArrayRef<Value> to);

  CudaLowering &lowering;
  const AttentionSpec &spec;
  Emitter e;
  AttentionGrid grid;
  int64_t splits;
  Value split; ///< of the keys: this block's number; null: it has all
  SmallVector<Value> buffers;
  Value mask;
  int64_t keysPerTile = 0;
  AttentionGrid::Query queries[2]; ///< of rows g and g + 8
  AttentionGrid::Range blockQueries;
};

} // namespace

Emitter::Values AttentionForward::flat(const State &state) {
  Values values(state.result);
  values.append({state.greatest[0], state.greatest[1], state.sum[0], state.sum[1]});
  return values;
}

AttentionForward::State AttentionForward::unflat(ValueRange values) {
  unsigned n = values.size() - 4;
  return {Values(values.take_front(n)), {values[n], values[n + 1]}, {values[n + 2], values[n + 3]}};
}

Emitter::Values AttentionForward::scores(WarpTile &warp, ArrayRef<Value> products, Value firstKey) {
  bool isRagged = spec.keys % keysPerTile != 0;
  Values scores;
  for (auto [n, product] : llvm::enumerate(products)) {
    const AttentionGrid::Query &query = queries[WarpTile::isHigh(n)];
    Value key = e.add(firstKey, warp.columnOf(n)), inside = query.exists;
    if (isRagged && spec.mask)
      inside = grid.both(inside, e.less(key, e.index(spec.keys)));
    scores.push_back(grid.score(warp, product, mask, query, key, inside, false).value);
  }
  AttentionGrid::Range keys{firstKey, e.add(firstKey, keysPerTile - 1)};
  return grid.hidePartly(scores, blockQueries, keys, isRagged, [&](int64_t n) {
    return std::pair(queries[WarpTile::isHigh(n)].number, e.add(firstKey, warp.columnOf(n)));
  });
}

/// Takes a tile's scores into the softmax; returns its powers.
Emitter::Values AttentionForward::step(WarpTile &warp, State &state, ArrayRef<Value> scores) {
  Value rescale[2], shift[2];
  for (int64_t high : {0, 1}) {
    Value greatest = state.greatest[high];
    state.greatest[high] = grid.greatest(greatest, grid.greatestOf(warp, scores, high));
    // A row that has seen no key yet: powers are zero.
    Value isHidden = grid.isEqual(state.greatest[high], grid.hidden());
    shift[high] = grid.select(isHidden, grid.f32(0), state.greatest[high]);
    rescale[high] = warp.exp2(grid.minus(greatest, shift[high]));
    state.sum[high] = grid.times(state.sum[high], rescale[high]);
  }
  for (auto [n, x] : llvm::enumerate(state.result))
    x = grid.times(x, rescale[WarpTile::isHigh(n)]);
  Values powers;
  for (auto [n, score] : llvm::enumerate(scores)) {
    int64_t high = WarpTile::isHigh(n);
    powers.push_back(warp.exp2(grid.minus(score, shift[high])));
    state.sum[high] = grid.plus(state.sum[high], powers.back());
  }
  return powers;
}

void AttentionForward::build() {
  Type element = spec.q.type;
  int64_t warps = warpsFor(grid.rows);
  int64_t rowsPerBlock = 16 * warps, tiles = llvm::divideCeil(grid.rows, rowsPerBlock);
  bool tensorCores = WarpTile::usesTensorCores(element);
  int64_t size = std::max(spec.dim, spec.valueDim);
  keysPerTile = tensorCores ? (size > 128 ? 32 : 64) : (size > 64 ? 16 : 32);
  keysPerTile = std::min<int64_t>(keysPerTile, llvm::alignTo(spec.keys, 16));
  lowering.setGrid(spec.batch * spec.keyHeads * tiles * splits, warps * kWarp);

  WarpTile warp(lowering, e, element, warps * kWarp);
  Value block = lowering.blockIndex();
  if (splits > 1) {
    split = e.rem(block, splits);
    block = e.div(block, splits);
  }
  Value tile = grid.takeBlock(block, tiles);
  if (spec.right) // the last queries see most keys: they go first
    tile = e.sub(e.index(tiles - 1), tile);
  Value firstRow = e.mul(tile, rowsPerBlock);
  Value lastRow = e.min(e.add(firstRow, rowsPerBlock - 1), e.index(grid.rows - 1));
  blockQueries = grid.queriesOf(firstRow, lastRow);
  bool isWhole = grid.rows % rowsPerBlock == 0;
  Value row = e.add(e.add(firstRow, e.mul(warp.warp, 16)), warp.group);
  for (int64_t high : {0, 1})
    queries[high] = grid.queryAt(e.add(row, high * 8), isWhole);
  unsigned next = 3;
  if (spec.mask)
    mask = buffers[next++];
  Value sinks = spec.sinks ? buffers[next++] : Value();
  ArrayRef<Value> out = ArrayRef<Value>(buffers).drop_front(next);

  // Operands.
  GlobalRows query = grid.source(buffers[0], spec.q, spec.dim),
             key = grid.source(buffers[1], spec.k, spec.dim),
             value = grid.source(buffers[2], spec.v, spec.valueDim);
  RowPlace low = grid.place(spec.q, queries[0]), high = grid.place(spec.q, queries[1]);
  auto loadQuery = [&](Value inner) { return warp.rowsOf(query, low, high, inner); };
  SharedTile keys = warp.tile(keysPerTile, spec.dim),
             values = warp.tile(keysPerTile, spec.valueDim);
  SharedTile staging = tensorCores ? SharedTile() : warp.tile(rowsPerBlock, keysPerTile);
  SmallVector<Values> kept;
  if (tensorCores && spec.dim <= 128)
    for (int64_t inner = 0; inner < spec.dim; inner += warp.step)
      kept.push_back(loadQuery(e.index(inner)));
  bool keysAreWhole = spec.keys % keysPerTile == 0;
  auto copy = [&](const SharedTile &to, const GlobalRows &from, const AttentionOperand &operand,
                  Value firstKey, bool isInside) {
    warp.startCopy(to, from,
                   [&](Value n) { return grid.keyPlace(operand, e.add(firstKey, n), isInside); });
    warp.commitCopies();
  };

  State state{warp.zeroSums(values.columns), {}, {}};
  for (int64_t n : {0, 1}) {
    state.greatest[n] = grid.hidden();
    state.sum[n] = grid.f32(0);
    if (!sinks)
      continue;
    // A logit without a value: it is the first to be seen, and counts once a row.
    Value isFirst = split ? e.equal(split, e.index(0)) : Value();
    Value sink = grid.sink(warp, sinks, queries[n]);
    state.greatest[n] = isFirst ? grid.select(isFirst, sink, grid.hidden()) : sink;
    state.sum[n] =
        grid.select(grid.both(isFirst, e.equal(warp.member, e.index(0))), grid.f32(1), grid.f32(0));
  }
  AttentionGrid::Range range = grid.keysFor(blockQueries);
  if (split) {
    int64_t count = llvm::alignTo(llvm::divideCeil(spec.keys, splits), keysPerTile);
    Value first = e.mul(split, count);
    range = {e.max(range.first, first), e.min(range.last, e.add(first, count))};
  }
  Value begin = e.roundDown(range.first, keysPerTile);
  copy(keys, key, spec.k, begin, false);
  Values last = e.loop(begin, warp.opaque(range.last), keysPerTile, flat(state),
                       [&](Value first, ValueRange carried) {
                         State state = unflat(carried);
                         warp.waitForCopies(0);
                         lowering.barrier();
                         copy(values, value, spec.v, first, keysAreWhole);
                         Values products = warp.zeroSums(keysPerTile);
                         warp.addRowProducts(products, kept, loadQuery, keys, spec.dim);
                         Values powers = step(warp, state, scores(warp, products, first));
                         warp.waitForCopies(0);
                         lowering.barrier();
                         copy(keys, key, spec.k, e.add(first, keysPerTile), false);
                         warp.addColumnProducts(state.result, powers, values, e.index(0), staging);
                         return flat(state);
                       });
  warp.waitForCopies(0);
  state = unflat(last);
  for (Value &sum : state.sum)
    sum = warp.overRow(sum, [&](Value x, Value y) { return grid.plus(x, y); });
  split ? storePartial(warp, state, out) : store(warp, state, out.front());
}

void AttentionForward::store(WarpTile &warp, State &state, Value out) {
  Value inverse[2];
  for (int64_t n : {0, 1}) {
    Value sum = state.sum[n];
    inverse[n] = grid.select(grid.isEqual(sum, grid.f32(0)), grid.f32(0), warp.reciprocal(sum));
  }
  for (auto [n, x] : llvm::enumerate(state.result))
    x = grid.times(x, inverse[WarpTile::isHigh(n)]);
  warp.storeRows(state.result, out, grid.place(spec.out, queries[0]),
                 grid.place(spec.out, queries[1]), e.index(0), spec.valueDim, spec.out.column,
                 spec.valueDim % 16 == 0);
}

/// `to`: a Partial's buffers.
void AttentionForward::storePartial(WarpTile &warp, State &state, ArrayRef<Value> to) {
  RowPlace places[2];
  for (int64_t n : {0, 1}) {
    Value row = e.add(e.mul(split, spec.batch * spec.queryHeads * spec.queries),
                      grid.statistic(queries[n]));
    places[n] = {e.mul(row, spec.valueDim), queries[n].exists};
    e.ifThen(grid.both(queries[n].exists, e.equal(warp.member, e.index(0))), [&] {
      e.storeScalar(state.greatest[n], to[1], row);
      e.storeScalar(state.sum[n], to[2], row);
    });
  }
  warp.storeRows(state.result, to[0], places[0], places[1], e.index(0), spec.valueDim, 1,
                 spec.valueDim % 16 == 0, e.b.getF32Type());
}

/// A thread has one element of the result, and goes through the splits in order.
static CudaLaunch mergeSplits(CudaLowering &lowering, const AttentionSpec &spec,
                              const Partial &partial, const CudaBuffer &out) {
  Emitter e{lowering.builder, lowering.loc()};
  AttentionGrid grid(e, spec);
  KernelBody body = lowering.beginKernel(spec.symbol + "_merge",
                                         {partial.result, partial.greatest, partial.sum, out});
  int64_t rows = partial.rows, columns = spec.valueDim;
  lowering.forEach(e, body, rows * columns, partial.splits, [&](Value item) {
    Value row = e.div(item, columns), column = e.rem(item, columns);
    auto eachSplit = [&](ValueRange start,
                         llvm::function_ref<Emitter::Values(Value, ValueRange)> visit) {
      return e.loop(row, e.index(rows * partial.splits), rows, start, visit);
    };
    Value greatest = eachSplit(grid.hidden(), [&](Value at, ValueRange so) {
      return Emitter::Values{grid.greatest(so[0], e.loadScalar(body.buffers[1], at))};
    })[0];
    // A row that sees no key at all.
    Value shift = grid.select(grid.isEqual(greatest, grid.hidden()), grid.f32(0), greatest);
    Emitter::Values sums = eachSplit({grid.f32(0), grid.f32(0)}, [&](Value at, ValueRange so) {
      Value weight = emitExp2NonPositive(e, grid.minus(e.loadScalar(body.buffers[1], at), shift));
      Value part = e.loadScalar(body.buffers[0], e.add(e.mul(at, columns), column));
      Value sum = e.loadScalar(body.buffers[2], at);
      return Emitter::Values{grid.plus(so[0], grid.times(weight, part)),
                             grid.plus(so[1], grid.times(weight, sum))};
    });
    Value quotient = arith::DivFOp::create(e.b, e.loc, sums[0], sums[1]);
    Value result = grid.select(grid.isEqual(sums[1], grid.f32(0)), grid.f32(0), quotient);
    Value query = e.rem(row, spec.queries), heads = e.div(row, spec.queries);
    Value at = e.add(e.mul(e.div(heads, spec.queryHeads), spec.out.batch),
                     e.mul(e.rem(heads, spec.queryHeads), spec.out.head));
    at = e.add(e.add(at, e.mul(query, spec.out.row)), e.mul(column, spec.out.column));
    e.storeScalar(e.convert(result, spec.out.type), body.buffers[3], at);
  });
  return lowering.launch();
}

/// Over how many blocks the keys of one query are split.
static int64_t splitsFor(const AttentionSpec &spec) {
  int64_t rows = spec.queryHeads / spec.keyHeads * spec.queries;
  int64_t blocks = spec.batch * spec.keyHeads * llvm::divideCeil(rows, 16 * warpsFor(rows));
  if (blocks >= kEnoughBlocks)
    return 1;
  return std::clamp<int64_t>(std::min(2 * kEnoughBlocks / blocks, spec.keys / kFewestKeys), 1,
                             kMostSplits);
}

FailureOr<CudaKernel> lowerAttentionGrid(CudaLowering &lowering, graph::AttentionOp op) {
  AttentionOperands<graph::AttentionOp> operands(lowering, op);
  operands.spec.out = operands.write(op.getResult());
  if (failed(operands.check()))
    return failure();
  std::string reason = AttentionGrid::reasonAgainst(operands.spec);
  if (!reason.empty())
    return op.emitOpError() << reason;
  SmallVector<CudaBuffer> buffers;
  for (Value buffer : operands.buffers)
    buffers.push_back(lowering.bufferOf(buffer));
  CudaKernel kernel;
  kernel.name = operands.spec.symbol;
  if (op.getType().getNumElements() == 0)
    return kernel;
  if (operands.spec.keys == 0) {
    kernel.calls.push_back(CudaMemset{buffers.back().argument, buffers.back().bytes()});
    return kernel;
  }
  const AttentionSpec &spec = operands.spec;
  Partial partial{splitsFor(spec), spec.batch * spec.queryHeads * spec.queries, {}, {}, {}};
  CudaBuffer out = buffers.back();
  if (partial.splits > 1) {
    auto take = [&](int64_t count) {
      auto type = MemRefType::get({count}, Float32Type::get(op.getContext()));
      CudaBuffer buffer{CudaArgument::ofScratch(kernel.scratchBytes), type, true};
      kernel.scratchBytes += llvm::alignTo(buffer.bytes(), kCudaAlignment);
      return buffer;
    };
    int64_t count = partial.splits * partial.rows;
    partial.result = take(count * spec.valueDim);
    partial.greatest = take(count);
    partial.sum = take(count);
    buffers.pop_back();
    buffers.append({partial.result, partial.greatest, partial.sum});
  }
  AttentionForward(lowering, spec, buffers, partial.splits).build();
  kernel.calls.push_back(lowering.launch());
  if (partial.splits > 1) {
    for (CudaBuffer *buffer : {&partial.result, &partial.greatest, &partial.sum})
      buffer->isWritten = false;
    kernel.calls.push_back(mergeSplits(lowering, spec, partial, out));
  }
  return kernel;
}

} // namespace shardc
