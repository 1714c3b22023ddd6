//===- WarpTile.h - Matrix products of warps --------------------*- C++ -*-===//
//
// A warp multiplies 16 rows by some columns. Sums lie in its registers as tensor cores want them:
// of every 8 columns, lane 4g + t has (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1). f16 and
// bf16 are multiplied by tensor cores (m16n8k16); f32 and f64 by every lane for itself, under the
// same layout, so that kernels are written once.
//
// A fragment is what a lane contributes to one step: the rows' operand (A) for `step` inner
// indices, the columns' operand (B) for those and 16 columns.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LIB_LOWER_CUDA_WARPTILE_H
#define SHARDC_LIB_LOWER_CUDA_WARPTILE_H

#include "CudaLowering.h"

namespace shardc {

/// Where a row starts (elements), and whether it is there; null: always.
struct RowPlace {
  mlir::Value offset, exists;
};

/// Rows in global memory.
struct GlobalRows {
  mlir::Value buffer;
  int64_t columns = 0, columnStride = 1;
  int64_t vector = 1; ///< neighbours that may be moved at once: rows and columns are multiples
};

/// A matrix in shared memory. What is beyond the columns of its source is zero.
struct SharedTile {
  mlir::Value buffer;
  int64_t rows = 0, columns = 0, pitch = 0; ///< columns: a multiple of 16
  mlir::Value firstRow{};                   ///< of a part; null: all

  int64_t elements() const { return rows * pitch; }

  /// One of several tiles of `count` rows that lie behind each other.
  SharedTile part(mlir::Value row, int64_t count) const {
    return {buffer, count, columns, pitch, row};
  }
};

/// How many neighbours can be moved at once, up to 16 bytes, when `columns` of them are a row and
/// rows start at multiples of all `strides`.
int64_t movableVector(mlir::Type element, int64_t columns, int64_t columnStride,
                      llvm::ArrayRef<int64_t> strides);

class WarpTile {
public:
  using Value = mlir::Value;
  using Values = Emitter::Values;

  WarpTile(CudaLowering &lowering, Emitter &e, mlir::Type element, int64_t threads);

  static bool usesTensorCores(mlir::Type element) { return element.getIntOrFloatBitWidth() == 16; }
  static int64_t stepOf(mlir::Type element) { return usesTensorCores(element) ? 16 : 4; }

  const mlir::Type element, sum;     ///< in memory; of sums: f32, or f64 for f64
  const int64_t step;                ///< inner indices of a fragment
  Value thread, warp, group, member; ///< group: g, member: t

  // Shared memory.
  SharedTile tile(int64_t rows, int64_t columns);
  /// Elements that a tile has in memory.
  static int64_t pitchOf(mlir::Type element, int64_t columns);
  /// All threads of the block begin to fill a tile with columns of `source` from `column` on (a
  /// multiple of its vector; null: 0). It may not be in use.
  void startCopy(const SharedTile &tile, const GlobalRows &source,
                 llvm::function_ref<RowPlace(Value row)> place, Value column = {});
  /// What was begun last is one group; waits until at most `pending` groups are under way. Other
  /// threads see a tile behind the next barrier.
  void commitCopies();
  void waitForCopies(int64_t pending);

  // Fragments.
  /// A: this lane's rows g and g + 8 of global memory.
  Values rowsOf(const GlobalRows &source, const RowPlace &low, const RowPlace &high, Value inner);
  /// A: rows `row`, … of a tile, columns are inner; or columns, if rows are inner.
  Values rowsOf(const SharedTile &tile, Value row, Value inner);
  Values transposedRowsOf(const SharedTile &tile, Value row, Value inner);
  /// B: 16 rows of a tile from `column`, whose columns are inner.
  Values columnsOf(const SharedTile &tile, Value column, Value inner);
  /// B: 16 columns of a tile from `column`, whose rows are inner.
  Values transposedColumnsOf(const SharedTile &tile, Value column, Value inner);

  // Products.
  Values zeroSums(int64_t columns);
  /// The eight sums of 16 columns.
  void multiplyAdd(llvm::MutableArrayRef<Value> sums, llvm::ArrayRef<Value> rows,
                   llvm::ArrayRef<Value> columns);
  /// sums += rows · tileᵀ over `size` inner indices: columns are rows of the tile. Fragments of the
  /// rows may be in registers; otherwise `load` is asked for each.
  void addRowProducts(Values &sums, llvm::ArrayRef<Values> rows,
                      llvm::function_ref<Values(Value inner)> load, const SharedTile &tile,
                      int64_t size);
  /// sums += factors · tile, for columns of the tile from `column`; `factors` are sums. Tensor
  /// cores take them from registers, others by way of `staging`: 16 rows a warp.
  void addColumnProducts(Values &sums, llvm::ArrayRef<Value> factors, const SharedTile &tile,
                         Value column, const SharedTile &staging);
  /// The same number, which the compiler does not know: loops that end there are not unrolled, and
  /// what depends on it is not done once for all. Registers are scarcer than loads from caches.
  Value opaque(Value index);
  /// What lanes have stored before is seen by the warp.
  void syncWarp();

  // Sums by place: number n is in row g (or g + 8), and in column 8·(n / 4) + 2t + n % 2.
  static bool isHigh(int64_t n) { return n % 4 >= 2; }
  Value columnOf(int64_t n) { return e.add(e.mul(member, 2), 8 * (n / 4) + n % 2); }
  /// Stores the sums of columns from `firstColumn` on, as far as they are below `columns`; as
  /// elements of type `stored`, if it is given.
  void storeRows(llvm::ArrayRef<Value> sums, Value buffer, const RowPlace &low,
                 const RowPlace &high, Value firstColumn, int64_t columns, int64_t columnStride,
                 bool isWhole, mlir::Type stored = {});
  /// Over the lanes that share a row; all of them have the result.
  Value overRow(Value mine, llvm::function_ref<Value(Value, Value)> combine);

  // Functions of f32 by the special function unit.
  Value exp2(Value x);
  Value log2(Value x);
  Value reciprocal(Value x);
  Value tanh(Value x);
  /// An element of memory as it is computed with.
  Value load(Value buffer, Value offset);

private:
  Value placeIn(const SharedTile &tile, Value row, Value column);
  Value pointer(Value buffer, Value offset);
  Value loadVector(Value buffer, Value offset, int64_t count, mlir::Type type);
  Values loadMatrices(const SharedTile &tile, Value row, Value column, bool isTransposed);
  Value pack(Value low, Value high);
  Values roundedRows(llvm::ArrayRef<Value> sums, int64_t inner);
  Value approximate(llvm::StringRef intrinsic, Value x);
  Value select(Value condition, Value x, Value y) {
    return condition ? Value(mlir::arith::SelectOp::create(e.b, e.loc, condition, x, y)) : x;
  }

  CudaLowering &lowering;
  Emitter &e;
  const bool tensorCores;
  const int64_t bytes, threads;
  Value lane;
};

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CUDA_WARPTILE_H
