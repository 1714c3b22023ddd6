//===- GroupedGrid.cpp - Products of rows by groups -----------------------===//
//
// Two kernels: rows sorted by group (GroupOrder.cpp), then the products, as a block multiplies a
// tile of rows of one group by a tile of its matrix:
//
//   product   result[rows, n] = input[rows, :] · weight[group, n, :]; how many tiles there are is
//             known on the device only: blocks beyond them end. Rows of no group are zero.
//   gradient  result[group, n, k] = sum over the group's rows of cotangent[row, n] · input[row, k]
//
// Four warps have a quarter of the result each, 32 rows of it; operands lie in shared memory, those
// of the next steps are under way.
//
//===----------------------------------------------------------------------===//
#include "GroupedGrid.h"
#include "TilePipeline.h"
#include "shardc/Lower/StridedView.h"

using namespace mlir;

namespace shardc {
namespace {

constexpr int64_t kThreads = 4 * kWarp, kStages = 3;

/// 64 rows by 128 columns (64 without tensor cores), on two by two warps.
class GroupedGrid {
public:
  using Value = Emitter::Value;
  using Values = Emitter::Values;

  GroupedGrid(CudaLowering &lowering, StringRef suffix, ArrayRef<CudaBuffer> buffers, Type type)
      : e{lowering.builder, lowering.loc()}, lowering(lowering), columns(columnsOf(type)),
        inner(WarpTile::usesTensorCores(type) ? 32 : 16) {
    std::string name = (lowering.function.getSymName() + suffix).str();
    body = lowering.beginKernel(name, buffers).buffers;
  }
  static int64_t columnsOf(Type type) { return WarpTile::usesTensorCores(type) ? 128 : 64; }

  void begin(Type type, int64_t blocks) {
    lowering.setGrid(blocks, kThreads);
    warp.emplace(lowering, e, type, kThreads);
    firstRow = e.mul(e.div(warp->warp, 2), 32);
    firstColumn = e.mul(e.rem(warp->warp, 2), columns / 2);
  }
  Value number(Value buffer, Value at) {
    return arith::IndexCastOp::create(e.b, e.loc, e.b.getIndexType(), e.loadScalar(buffer, at));
  }
  Values zeroSums() { return warp->zeroSums(columns); } // two times 16 rows
  /// One step's products, into the sums of 16 rows and then those of the next 16.
  Values multiply(ValueRange carried, llvm::function_ref<Values(Value row, Value at)> rows,
                  llvm::function_ref<Values(Value column, Value at)> columnsAt);
  /// `place` says where a row of the tile lies.
  void store(ArrayRef<Value> sums, Value buffer, llvm::function_ref<RowPlace(Value row)> place,
             Value column, int64_t size, int64_t columnStride);

  Emitter e;
  CudaLowering &lowering;
  const int64_t columns, inner; ///< of a block; of a step
  SmallVector<Value> body;
  std::optional<WarpTile> warp;
  Value firstRow, firstColumn; ///< of this warp
};

} // namespace

Emitter::Values GroupedGrid::multiply(ValueRange carried,
                                      llvm::function_ref<Values(Value, Value)> rows,
                                      llvm::function_ref<Values(Value, Value)> columnsAt) {
  Values sums(carried);
  int64_t half = sums.size() / 2;
  for (int64_t k = 0; k < inner; k += warp->step) {
    Values low = rows(firstRow, e.index(k)), high = rows(e.add(firstRow, 16), e.index(k));
    for (int64_t n = 0; n < columns / 2; n += 16) {
      Values right = columnsAt(e.add(firstColumn, n), e.index(k));
      warp->multiplyAdd(MutableArrayRef<Value>(sums).slice(n / 2, 8), low, right);
      warp->multiplyAdd(MutableArrayRef<Value>(sums).slice(half + n / 2, 8), high, right);
    }
  }
  return sums;
}

void GroupedGrid::store(ArrayRef<Value> sums, Value buffer,
                        llvm::function_ref<RowPlace(Value)> place, Value column, int64_t size,
                        int64_t columnStride) {
  Value row = e.add(firstRow, warp->group), at = e.add(column, firstColumn);
  for (int64_t half : {0, 1})
    warp->storeRows(sums.slice(half * sums.size() / 2, sums.size() / 2), buffer,
                    place(e.add(row, half * 16)), place(e.add(row, half * 16 + 8)), at, size,
                    columnStride, size % columns == 0);
}

namespace {

/// A matrix operand or result of the function.
struct Matrix {
  Value base;
  Strides strides;
};

} // namespace

static FailureOr<Matrix> readMatrix(Operation *op, Value operand) {
  StridedView view = viewOf(operand);
  if (!isa<BlockArgument>(view.base))
    return op->emitOpError() << "is not between transposes and reshapes of memory";
  return Matrix{view.base, view.strides};
}

static FailureOr<Matrix> writeMatrix(CudaLowering &lowering, Operation *op) {
  for (Value stored : lowering.results())
    if (std::optional<Strides> strides = stridesWhenStoredAs(op->getResult(0), stored))
      return Matrix{stored, *strides};
  return op->emitOpError() << "is not between transposes and reshapes of memory";
}

static LogicalResult checkGroups(Operation *op, Value groups, int64_t count) {
  if (count >= 1024)
    return op->emitOpError() << "has " << count << " groups, more than 1023";
  if (!isa<BlockArgument>(groups))
    return op->emitOpError() << "has groups that are not in memory";
  return success();
}

/// A result that is empty, or zero.
static CudaKernel withoutProducts(CudaLowering &lowering, const CudaBuffer &target) {
  CudaKernel kernel;
  kernel.name = lowering.function.getSymName().str();
  if (target.bytes() != 0)
    kernel.calls.push_back(CudaMemset{target.argument, target.bytes()});
  return kernel;
}

/// The kernel's first launch, which sorts the rows.
static CudaKernel orderGroups(CudaLowering &lowering, const GroupOrder &order, Value groups) {
  CudaKernel kernel;
  kernel.name = lowering.function.getSymName().str();
  kernel.scratchBytes = order.scratchBytes;
  kernel.calls.push_back(lowerGroupOrder(lowering, order, groups));
  return kernel;
}

/// Rows of a matrix by their numbers.
static GlobalRows rowsOf(Value buffer, Type type, ArrayRef<int64_t> strides, int64_t columns) {
  int64_t stride = columns == 1 ? 1 : strides.back();
  return {buffer, columns, stride, movableVector(type, columns, stride, strides.drop_back())};
}

FailureOr<CudaKernel> lowerGroupedGrid(CudaLowering &lowering, graph::GroupedMatmulOp op) {
  auto weightType = op.getWeight().getType();
  Type type = weightType.getElementType();
  int64_t rows = op.getInput().getType().getDimSize(0), groups = weightType.getDimSize(0),
          n = weightType.getDimSize(1), k = weightType.getDimSize(2);
  FailureOr<Matrix> input = readMatrix(op, op.getInput()), weight = readMatrix(op, op.getWeight()),
                    result = writeMatrix(lowering, op);
  if (failed(input) || failed(weight) || failed(result) ||
      failed(checkGroups(op, op.getGroups(), groups)))
    return failure();
  CudaBuffer target = lowering.bufferOf(result->base);
  if (target.bytes() == 0 || groups == 0 || k == 0)
    return withoutProducts(lowering, target);
  GroupOrder order(op.getContext(), rows, groups);
  CudaKernel kernel = orderGroups(lowering, order, op.getGroups());

  SmallVector<CudaBuffer> buffers{lowering.bufferOf(input->base),
                                  lowering.bufferOf(weight->base),
                                  order.order,
                                  order.starts,
                                  order.tileGroup,
                                  order.tileFirst,
                                  order.tileCount,
                                  target};
  GroupedGrid grid(lowering, "", buffers, type);
  Emitter &e = grid.e;
  using Value = Emitter::Value;
  int64_t columnBlocks = llvm::divideCeil(n, grid.columns);
  grid.begin(type, order.maxTiles * columnBlocks);
  // Blocks of neighbouring numbers share a part of the matrix.
  Value block = lowering.blockIndex(), tile = e.rem(block, order.maxTiles);
  Value column = e.mul(e.div(block, order.maxTiles), grid.columns);
  Value exists = e.less(tile, grid.number(grid.body[6], e.index(0)));
  e.ifThen(exists, [&] {
    Value group = grid.number(grid.body[4], tile), first = grid.number(grid.body[5], tile);
    Value end = grid.number(grid.body[3], e.add(group, 1));
    Value isGroup = e.less(group, e.index(groups));
    auto place = [&](ArrayRef<int64_t> strides) {
      return [&, strides](Value row) -> RowPlace {
        Value at = e.add(first, row), exists = e.less(at, end);
        Value safe = arith::SelectOp::create(e.b, e.loc, exists, at, first);
        return {e.mul(grid.number(grid.body[2], safe), strides[0]), exists};
      };
    };
    GlobalRows inputRows = rowsOf(grid.body[0], type, input->strides, k);
    // Its columns are neighbours in memory, or its rows.
    const Strides &w = weight->strides;
    bool isTransposed = w[1] == 1 && w[2] != 1;
    GlobalRows weightRows = isTransposed ? rowsOf(grid.body[1], type, {w[0], w[2], w[1]}, n)
                                         : rowsOf(grid.body[1], type, w, k);
    Value matrix = e.mul(group, w[0]);
    TilePipeline pipeline(lowering, e, *grid.warp, {GroupOrder::kRows, grid.inner},
                          isTransposed ? TilePipeline::Shape{grid.inner, grid.columns}
                                       : TilePipeline::Shape{grid.columns, grid.inner},
                          kStages);
    Value steps = arith::SelectOp::create(e.b, e.loc, isGroup,
                                          e.index(llvm::divideCeil(k, grid.inner)), e.index(0));
    Emitter::Values sums = pipeline.run(
        steps, grid.zeroSums(),
        [&](Value step, const SharedTile &left, const SharedTile &right) {
          Value at = e.mul(step, grid.inner);
          grid.warp->startCopy(left, inputRows, place(input->strides), at);
          if (isTransposed)
            grid.warp->startCopy(
                right, weightRows,
                [&](Value row) -> RowPlace {
                  Value inner = e.add(at, row);
                  Value exists = k % grid.inner ? e.less(inner, e.index(k)) : Value();
                  return {e.add(matrix, e.mul(inner, w[2])), exists};
                },
                column);
          else
            grid.warp->startCopy(
                right, weightRows,
                [&](Value row) -> RowPlace {
                  Value number = e.add(column, row);
                  Value exists = n % grid.columns ? e.less(number, e.index(n)) : Value();
                  return {e.add(matrix, e.mul(number, w[1])), exists};
                },
                at);
        },
        [&](Value, ValueRange carried, const SharedTile &left, const SharedTile &right) {
          return grid.multiply(
              carried, [&](Value row, Value at) { return grid.warp->rowsOf(left, row, at); },
              [&](Value column, Value at) {
                return isTransposed ? grid.warp->transposedColumnsOf(right, column, at)
                                    : grid.warp->columnsOf(right, column, at);
              });
        });
    grid.store(sums, grid.body[7], place(result->strides), column, n,
               n == 1 ? 1 : result->strides[1]);
  });
  kernel.calls.push_back(lowering.launch());
  return kernel;
}

FailureOr<CudaKernel> lowerGroupedGradGrid(CudaLowering &lowering, graph::GroupedMatmulGradOp op) {
  auto resultType = op.getType();
  Type type = resultType.getElementType();
  int64_t rows = op.getInput().getType().getDimSize(0), groups = resultType.getDimSize(0),
          n = resultType.getDimSize(1), k = resultType.getDimSize(2);
  FailureOr<Matrix> input = readMatrix(op, op.getInput()),
                    cotangent = readMatrix(op, op.getCotangent()),
                    result = writeMatrix(lowering, op);
  if (failed(input) || failed(cotangent) || failed(result) ||
      failed(checkGroups(op, op.getGroups(), groups)))
    return failure();
  CudaBuffer target = lowering.bufferOf(result->base);
  if (target.bytes() == 0 || rows == 0)
    return withoutProducts(lowering, target);
  GroupOrder order(op.getContext(), rows, groups);
  CudaKernel kernel = orderGroups(lowering, order, op.getGroups());

  SmallVector<CudaBuffer> buffers{lowering.bufferOf(input->base),
                                  lowering.bufferOf(cotangent->base), order.order, order.starts,
                                  target};
  GroupedGrid grid(lowering, "", buffers, type);
  Emitter &e = grid.e;
  using Value = Emitter::Value;
  int64_t rowBlocks = llvm::divideCeil(n, GroupOrder::kRows),
          columnBlocks = llvm::divideCeil(k, grid.columns);
  grid.begin(type, groups * rowBlocks * columnBlocks);
  Value block = lowering.blockIndex(), group = e.div(block, rowBlocks * columnBlocks);
  Value row = e.mul(e.rem(e.div(block, columnBlocks), rowBlocks), GroupOrder::kRows);
  Value column = e.mul(e.rem(block, columnBlocks), grid.columns);
  Value first = grid.number(grid.body[3], group), end = grid.number(grid.body[3], e.add(group, 1));
  GlobalRows inputRows = rowsOf(grid.body[0], type, input->strides, k),
             cotangentRows = rowsOf(grid.body[1], type, cotangent->strides, n);
  TilePipeline pipeline(lowering, e, *grid.warp, {grid.inner, GroupOrder::kRows},
                        {grid.inner, grid.columns}, kStages);
  Value steps = e.div(e.add(e.sub(end, first), grid.inner - 1), grid.inner);
  Emitter::Values sums = pipeline.run(
      steps, grid.zeroSums(),
      [&](Value step, const SharedTile &left, const SharedTile &right) {
        auto place = [&](ArrayRef<int64_t> strides) {
          return [&, strides](Value row) -> RowPlace {
            Value at = e.add(e.add(first, e.mul(step, grid.inner)), row);
            Value exists = e.less(at, end);
            Value safe = arith::SelectOp::create(e.b, e.loc, exists, at, first);
            return {e.mul(grid.number(grid.body[2], safe), strides[0]), exists};
          };
        };
        grid.warp->startCopy(left, cotangentRows, place(cotangent->strides), row);
        grid.warp->startCopy(right, inputRows, place(input->strides), column);
      },
      [&](Value, ValueRange carried, const SharedTile &left, const SharedTile &right) {
        return grid.multiply(
            carried,
            [&](Value row, Value at) { return grid.warp->transposedRowsOf(left, row, at); },
            [&](Value column, Value at) {
              return grid.warp->transposedColumnsOf(right, column, at);
            });
      });
  const Strides &strides = result->strides;
  grid.store(
      sums, grid.body[4],
      [&](Value number) -> RowPlace {
        Value at = e.add(row, number);
        Value exists = n % GroupOrder::kRows ? e.less(at, e.index(n)) : Value();
        return {e.add(e.mul(group, strides[0]), e.mul(at, strides[1])), exists};
      },
      column, k, k == 1 ? 1 : strides[2]);
  kernel.calls.push_back(lowering.launch());
  return kernel;
}

} // namespace shardc
