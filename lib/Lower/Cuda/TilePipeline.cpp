//===- TilePipeline.cpp - Tiles that arrive while others are used ---------===//
#include "TilePipeline.h"

using namespace mlir;

namespace shardc {

/// What a block may have without being asked for more.
static constexpr int64_t kSharedBytes = 48 * 1024;

TilePipeline::TilePipeline(CudaLowering &lowering, Emitter &e, WarpTile &warp, Shape first,
                           Shape second, int64_t wanted, int64_t taken)
    : lowering(lowering), e(e), warp(warp), firstShape(first), secondShape(second) {
  int64_t bytes =
      elementBytes(warp.element) * (first.rows * WarpTile::pitchOf(warp.element, first.columns) +
                                    second.rows * WarpTile::pitchOf(warp.element, second.columns));
  stages = std::clamp<int64_t>((kSharedBytes - taken) / bytes, 1, wanted);
  this->first = warp.tile(stages * first.rows, first.columns);
  this->second = warp.tile(stages * second.rows, second.columns);
}

Emitter::Values TilePipeline::run(
    Value count, ArrayRef<Value> carried,
    llvm::function_ref<void(Value, const SharedTile &, const SharedTile &)> copy,
    llvm::function_ref<Values(Value, ValueRange, const SharedTile &, const SharedTile &)> body) {
  auto tilesOf = [&](Value step) {
    Value stage = e.rem(step, stages);
    return std::pair(first.part(e.mul(stage, firstShape.rows), firstShape.rows),
                     second.part(e.mul(stage, secondShape.rows), secondShape.rows));
  };
  count = warp.opaque(count);
  // A group of copies a step, which may be empty: so many are behind the one that is waited for.
  auto start = [&](Value step) {
    e.ifThen(e.less(step, count), [&] {
      auto [first, second] = tilesOf(step);
      copy(step, first, second);
    });
    warp.commitCopies();
  };
  lowering.barrier(); // whoever used the tiles before
  for (int64_t step = 0; step < stages - 1; ++step)
    start(e.index(step));
  Values results = e.loop(e.index(0), count, 1, carried, [&](Value step, ValueRange carried) {
    if (stages == 1)
      start(step);
    warp.waitForCopies(std::max<int64_t>(stages - 2, 0));
    lowering.barrier();
    if (stages > 1)
      start(e.add(step, stages - 1));
    auto [first, second] = tilesOf(step);
    Values results = body(step, carried, first, second);
    if (stages == 1)
      lowering.barrier();
    return results;
  });
  warp.waitForCopies(0);
  return results;
}

} // namespace shardc
