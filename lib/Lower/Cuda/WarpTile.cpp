//===- WarpTile.cpp - Tiles and fragments of warps ------------------------===//
#include "WarpTile.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

using namespace mlir;

namespace shardc {

int64_t movableVector(Type element, int64_t columns, int64_t columnStride,
                      ArrayRef<int64_t> strides) {
  int64_t vector = 16 / elementBytes(element);
  if (columnStride != 1)
    return 1;
  while (columns % vector != 0 || llvm::any_of(strides, [&](int64_t s) { return s % vector; }))
    vector /= 2;
  return vector;
}

WarpTile::WarpTile(CudaLowering &lowering, Emitter &e, Type element, int64_t threads)
    : element(element), sum(element.isF64() ? element : Type(e.b.getF32Type())),
      step(stepOf(element)), lowering(lowering), e(e), tensorCores(usesTensorCores(element)),
      bytes(elementBytes(element)), threads(threads) {
  // Two blocks a processor: up to 255 registers a thread.
  if (threads <= 128)
    lowering.kernel->setAttr(NVVM::NVVMDialect::getMinctasmAttrName(), e.b.getI32IntegerAttr(2));
  thread = lowering.threadIndex();
  warp = e.div(thread, kWarp);
  lane = e.rem(thread, kWarp);
  group = e.div(lane, 4);
  member = e.rem(lane, 4);
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

/// The address of an element. Conversion makes a memref the descriptor that is asked for here.
Value WarpTile::pointer(Value buffer, Value offset) {
  auto type = cast<MemRefType>(buffer.getType());
  MLIRContext *context = e.b.getContext();
  auto pointer = LLVM::LLVMPointerType::get(context, type.getMemorySpace() ? 3 : 0);
  Type i64 = e.b.getI64Type(), array = LLVM::LLVMArrayType::get(i64, 1);
  auto descriptor =
      LLVM::LLVMStructType::getLiteral(context, {pointer, pointer, i64, array, array});
  Value converted = UnrealizedConversionCastOp::create(e.b, e.loc, descriptor, buffer).getResult(0);
  Value base = LLVM::ExtractValueOp::create(e.b, e.loc, converted, 1);
  Value at = arith::IndexCastOp::create(e.b, e.loc, i64, offset);
  return LLVM::GEPOp::create(e.b, e.loc, pointer, type.getElementType(), base, LLVM::GEPArg(at));
}

/// `count` neighbours, whose alignment is their size, as one value.
Value WarpTile::loadVector(Value buffer, Value offset, int64_t count, Type type) {
  return LLVM::LoadOp::create(e.b, e.loc, type, pointer(buffer, offset), count * bytes);
}

Value WarpTile::load(Value buffer, Value offset) {
  return e.convert(e.loadScalar(buffer, offset), sum);
}

int64_t WarpTile::pitchOf(Type element, int64_t columns) {
  // Sixteen bytes more than the columns: rows of eight neighbours lie in different banks.
  return llvm::alignTo(columns, 16) + 16 / elementBytes(element);
}

SharedTile WarpTile::tile(int64_t rows, int64_t columns) {
  SharedTile made{
      {}, rows, static_cast<int64_t>(llvm::alignTo(columns, 16)), pitchOf(element, columns)};
  made.buffer = lowering.sharedMemory(element, rows * made.pitch);
  return made;
}

Value WarpTile::placeIn(const SharedTile &tile, Value row, Value column) {
  return e.add(e.mul(tile.firstRow ? e.add(tile.firstRow, row) : row, tile.pitch), column);
}

void WarpTile::startCopy(const SharedTile &tile, const GlobalRows &source,
                         llvm::function_ref<RowPlace(Value row)> place, Value firstColumn) {
  // Narrower neighbours than four bytes go through registers, four bytes at a time.
  bool isAsync = source.vector * bytes >= 4;
  int64_t vector = isAsync ? source.vector : 4 / bytes, size = vector * bytes;
  int64_t perRow = tile.columns / vector, count = tile.rows * perRow;
  auto move = [&](Value item) {
    Value row = e.div(item, perRow), first = e.mul(e.rem(item, perRow), vector);
    RowPlace from = place(row);
    // The column's place and whether it is there.
    auto at = [&](Value column) -> RowPlace {
      Value exists = from.exists;
      if (firstColumn)
        column = e.add(firstColumn, column);
      if (source.columns % tile.columns != 0) {
        Value inside = e.compare(arith::CmpIPredicate::ult, column, e.index(source.columns));
        exists = exists ? Value(arith::AndIOp::create(e.b, e.loc, exists, inside)) : inside;
      }
      Value offset = e.add(from.offset, e.mul(column, source.columnStride));
      return {select(exists, offset, e.index(0)), exists};
    };
    Value target = placeIn(tile, row, first);
    if (!isAsync) {
      Values parts;
      for (int64_t i = 0; i < vector; ++i) {
        auto [offset, exists] = at(e.add(first, i));
        parts.push_back(select(exists, e.loadScalar(source.buffer, offset), e.zero(element)));
      }
      LLVM::StoreOp::create(e.b, e.loc, pack(parts[0], parts[1]), pointer(tile.buffer, target), 4);
      return;
    }
    auto [safe, exists] = at(first);
    Value size32 =
        exists ? select(exists, e.scalar(e.b.getI32Type(), size), e.scalar(e.b.getI32Type(), 0))
               : Value();
    Value global = LLVM::AddrSpaceCastOp::create(
        e.b, e.loc, LLVM::LLVMPointerType::get(e.b.getContext(), 1), pointer(source.buffer, safe));
    NVVM::CpAsyncOp::create(
        e.b, e.loc, pointer(tile.buffer, target), global, size,
        size == 16 ? NVVM::LoadCacheModifierKind::CG : NVVM::LoadCacheModifierKind::CA, size32);
  };
  if (count > 8 * threads)
    return e.loop(thread, e.index(count), threads, move);
  for (int64_t first = 0; first < count; first += threads) {
    Value item = e.add(thread, first);
    if (first + threads <= count)
      move(item);
    else
      e.ifThen(e.compare(arith::CmpIPredicate::ult, item, e.index(count)), [&] { move(item); });
  }
}

void WarpTile::commitCopies() { NVVM::CpAsyncCommitGroupOp::create(e.b, e.loc); }
void WarpTile::waitForCopies(int64_t pending) {
  NVVM::CpAsyncWaitGroupOp::create(e.b, e.loc, pending);
}

//===----------------------------------------------------------------------===//
// Fragments
//===----------------------------------------------------------------------===//

/// Two 16-bit floats in 32 bits.
Value WarpTile::pack(Value low, Value high) {
  Type i16 = e.b.getI16Type(), i32 = e.b.getI32Type();
  auto bits = [&](Value x) {
    return arith::ExtUIOp::create(e.b, e.loc, i32, arith::BitcastOp::create(e.b, e.loc, i16, x));
  };
  Value shifted = arith::ShLIOp::create(e.b, e.loc, bits(high), e.scalar(i32, 16));
  return arith::OrIOp::create(e.b, e.loc, bits(low), shifted);
}

WarpTile::Values WarpTile::rowsOf(const GlobalRows &source, const RowPlace &low,
                                  const RowPlace &high, Value inner) {
  Values fragment;
  // `count` neighbours of one row.
  auto read = [&](const RowPlace &row, Value column, int64_t count) {
    Values parts;
    bool isWhole = source.vector >= count;
    for (int64_t i = 0; i < count; i += isWhole ? count : 1) {
      Value at = e.add(column, i), exists = row.exists;
      if (source.columns % step != 0) {
        Value inside = e.compare(arith::CmpIPredicate::ult, at, e.index(source.columns));
        exists = exists ? Value(arith::AndIOp::create(e.b, e.loc, exists, inside)) : inside;
      }
      Value offset = e.add(row.offset, e.mul(at, source.columnStride));
      offset = select(exists, offset, e.index(0));
      if (!isWhole) {
        parts.push_back(select(exists, e.loadScalar(source.buffer, offset), e.zero(element)));
      } else if (tensorCores) {
        Value pair = loadVector(source.buffer, offset, 2, e.b.getI32Type());
        parts.push_back(select(exists, pair, e.scalar(e.b.getI32Type(), 0)));
      } else {
        Value vector = loadVector(source.buffer, offset, count, e.vec(count, element));
        for (int64_t lane = 0; lane < count; ++lane) {
          Value x =
              LLVM::ExtractElementOp::create(e.b, e.loc, vector, e.scalar(e.b.getI32Type(), lane));
          parts.push_back(select(exists, x, e.zero(element)));
        }
      }
    }
    return parts;
  };
  if (tensorCores) {
    for (int64_t half : {0, 8})
      for (const RowPlace *row : {&low, &high}) {
        Values parts = read(*row, e.add(e.add(inner, half), e.mul(member, 2)), 2);
        fragment.push_back(parts.size() == 1 ? parts[0] : pack(parts[0], parts[1]));
      }
    return fragment;
  }
  int64_t count = std::min<int64_t>(step, source.vector);
  for (const RowPlace *row : {&low, &high})
    for (int64_t i = 0; i < step; i += count)
      llvm::append_range(fragment, read(*row, e.add(inner, i), count));
  return fragment; // step of the low row, step of the high row
}

/// Four 8x8 matrices; `row` and `column` are where this lane's row of eight starts.
WarpTile::Values WarpTile::loadMatrices(const SharedTile &tile, Value row, Value column,
                                        bool isTransposed) {
  MLIRContext *context = e.b.getContext();
  Type i32 = e.b.getI32Type();
  auto four = LLVM::LLVMStructType::getLiteral(context, {i32, i32, i32, i32});
  Value at = pointer(tile.buffer, placeIn(tile, row, column));
  Value loaded = NVVM::LdMatrixOp::create(
      e.b, e.loc, four, at, 4, isTransposed ? NVVM::MMALayout::col : NVVM::MMALayout::row,
      NVVM::LdStMatrixShapeAttr::get(context, 8, 8), NVVM::LdStMatrixEltType::B16);
  Values parts;
  for (int64_t i = 0; i < 4; ++i)
    parts.push_back(LLVM::ExtractValueOp::create(e.b, e.loc, loaded, i));
  return parts;
}

WarpTile::Values WarpTile::rowsOf(const SharedTile &tile, Value row, Value inner) {
  if (tensorCores)
    return loadMatrices(tile, e.add(row, e.rem(lane, 16)), e.add(inner, e.mul(e.div(lane, 16), 8)),
                        false);
  Values fragment;
  for (int64_t half : {0, 8}) {
    Value start = placeIn(tile, e.add(e.add(row, group), half), inner);
    for (int64_t i = 0; i < step; ++i)
      fragment.push_back(e.loadScalar(tile.buffer, e.add(start, i)));
  }
  return fragment;
}

WarpTile::Values WarpTile::transposedRowsOf(const SharedTile &tile, Value row, Value inner) {
  if (tensorCores) {
    Value k = e.add(e.mul(e.div(lane, 16), 8), e.rem(lane, 8));
    Value m = e.mul(e.rem(e.div(lane, 8), 2), 8);
    return loadMatrices(tile, e.add(inner, k), e.add(row, m), true);
  }
  Values fragment;
  for (int64_t half : {0, 8})
    for (int64_t i = 0; i < step; ++i)
      fragment.push_back(e.loadScalar(
          tile.buffer, placeIn(tile, e.add(inner, i), e.add(e.add(row, group), half))));
  return fragment;
}

/// Sums, rounded, whose columns are inner from `inner` on, are rows for tensor cores as they lie.
WarpTile::Values WarpTile::roundedRows(ArrayRef<Value> sums, int64_t inner) {
  Type i32 = e.b.getI32Type();
  auto pair = [&](int64_t n) {
    Value both = LLVM::UndefOp::create(e.b, e.loc, e.vec(2, sum));
    for (int64_t i : {0, 1})
      both = LLVM::InsertElementOp::create(e.b, e.loc, both, sums[n + i], e.scalar(i32, i));
    Value rounded = arith::TruncFOp::create(e.b, e.loc, e.vec(2, element), both);
    return LLVM::BitcastOp::create(e.b, e.loc, i32, rounded);
  };
  Values fragment;
  for (int64_t n : {0, 2, 4, 6})
    fragment.push_back(pair(inner / 2 + n));
  return fragment;
}

WarpTile::Values WarpTile::columnsOf(const SharedTile &tile, Value column, Value inner) {
  if (tensorCores) {
    Value n = e.add(e.mul(e.div(lane, 16), 8), e.rem(lane, 8));
    Value k = e.mul(e.rem(e.div(lane, 8), 2), 8);
    return loadMatrices(tile, e.add(column, n), e.add(inner, k), false);
  }
  // For each inner index the four columns of this lane.
  Values byColumn[4];
  for (int64_t n = 0; n < 4; ++n) {
    Value row = e.add(e.add(column, e.mul(member, 2)), n / 2 * 8 + n % 2);
    Value start = placeIn(tile, row, inner);
    int64_t vector = 16 / bytes;
    for (int64_t i = 0; i < step; i += vector) {
      Value loaded = loadVector(tile.buffer, e.add(start, i), vector, e.vec(vector, element));
      for (int64_t lane = 0; lane < vector; ++lane)
        byColumn[n].push_back(
            LLVM::ExtractElementOp::create(e.b, e.loc, loaded, e.scalar(e.b.getI32Type(), lane)));
    }
  }
  Values fragment;
  for (int64_t i = 0; i < step; ++i)
    for (int64_t n = 0; n < 4; ++n)
      fragment.push_back(byColumn[n][i]);
  return fragment;
}

WarpTile::Values WarpTile::transposedColumnsOf(const SharedTile &tile, Value column, Value inner) {
  if (tensorCores)
    return loadMatrices(tile, e.add(inner, e.rem(lane, 16)),
                        e.add(column, e.mul(e.div(lane, 16), 8)), true);
  Values fragment;
  for (int64_t i = 0; i < step; ++i) {
    Value start = placeIn(tile, e.add(inner, i), e.add(column, e.mul(member, 2)));
    for (int64_t half : {0, 8}) {
      Value pair = loadVector(tile.buffer, e.add(start, half), 2, e.vec(2, element));
      for (int64_t lane : {0, 1})
        fragment.push_back(
            LLVM::ExtractElementOp::create(e.b, e.loc, pair, e.scalar(e.b.getI32Type(), lane)));
    }
  }
  return fragment;
}

} // namespace shardc
