//===- View.h - Where the elements of a value come from -------------------===//
//
// Exporters wrap operands in chains of reshapes, transposes and broadcasts. A view is such a chain
// in normal form: the dimensions of a base value cut into atoms, and for each dimension of the
// viewed value the atoms that make it up, major to minor. Atoms that come from no dimension of the
// base repeat it. Two chains that move elements alike have the same view, whatever their ops; sizes
// of one are left out.
//
//   %0 = reshape %k : 2x4x16x8 -> 2x4x1x16x8       dims (2)(4)()(16)(8)
//   %1 = broadcast %0 : -> 2x4x3x16x8              dims (2)(4)(r3)(16)(8)
//   %2 = reshape %1 : -> 2x12x16x8                 dims (2)(4 r3)(16)(8)
//
// Every key head serves three query heads.
//
//===----------------------------------------------------------------------===//

#ifndef SHARDC_LIB_RAISE_VIEW_H
#define SHARDC_LIB_RAISE_VIEW_H

#include "lib/Raise/Match.h"

namespace shardc::raise {

struct Atom {
  int64_t size;
  int64_t baseDim; ///< dimension of the base, or -1 for a repetition
  int64_t stride;  ///< elements of baseDim between neighbours of this atom

  bool isRepetition() const { return baseDim < 0; }
  static Atom repetition(int64_t size) { return {size, -1, 0}; }
};

/// Atoms of one dimension, major to minor; empty for a dimension of size one.
using AtomGroup = llvm::SmallVector<Atom, 2>;

int64_t groupSize(const AtomGroup &group);
bool isRepetition(const AtomGroup &group);
/// Cuts a group into a major part of `outerSize` elements and the rest, or fails if that splits an
/// atom unevenly.
std::optional<std::pair<AtomGroup, AtomGroup>> splitGroup(const AtomGroup &group,
                                                          int64_t outerSize);
AtomGroup concatGroups(llvm::ArrayRef<AtomGroup> groups);

class View {
public:
  mlir::Value base;
  llvm::SmallVector<AtomGroup> dims; ///< one group for each dimension of the viewed value

  /// The value itself: one atom a dimension.
  static View identity(mlir::Value value);
  /// Follows movement ops up from `value`, as far as the normal form can say it. With `scale`, also
  /// multiplications by one number, whose product it becomes.
  static View of(mlir::Value value, double *scale = nullptr);

  mlir::LogicalResult reshape(llvm::ArrayRef<int64_t> shape);
  void transpose(llvm::ArrayRef<int64_t> permutation);
  void broadcast(llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<int64_t> inputDims);

  llvm::SmallVector<int64_t> shape() const;
  /// Whether dimensions [from, to) hold base atoms only, in the base's order.
  bool isOrdered(int64_t from, int64_t to) const;
  /// Whether the value is constant along the last `count` dimensions and otherwise the base in
  /// order: a row statistic.
  bool isRowwise(int64_t count) const;
  /// Whether the value is constant along all but the last `count` dimensions, which are the base in
  /// order: a weight.
  bool isTrailing(int64_t count) const;

  /// Emits the chain that makes a value of this view, as short as possible.
  mlir::Value materialize(OpMaker &maker) const;
};

} // namespace shardc::raise

#endif // SHARDC_LIB_RAISE_VIEW_H
