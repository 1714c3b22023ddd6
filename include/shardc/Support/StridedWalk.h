//===- StridedWalk.h - Visiting the elements of strided views -------------===//
//
// A view is an offset and one stride per dimension (zero repeats, negative reverses). Slicing,
// transposing, broadcasting and reducing are all walks over one shape with a view per tensor.
//
//===----------------------------------------------------------------------===//

#ifndef SHARDC_SUPPORT_STRIDEDWALK_H
#define SHARDC_SUPPORT_STRIDEDWALK_H

#include "shardc/Support/HostTensor.h"

namespace shardc {

struct StridedView {
  int64_t offset = 0;
  llvm::SmallVector<int64_t> strides;

  /// All elements of a row-major tensor.
  static StridedView whole(llvm::ArrayRef<int64_t> shape) { return {0, rowMajorStrides(shape)}; }
  /// The box that begins at `starts` inside a row-major tensor.
  static StridedView box(llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<int64_t> starts) {
    StridedView view = whole(shape);
    for (size_t d = 0; d < shape.size(); ++d)
      view.offset += starts[d] * view.strides[d];
    return view;
  }
};

/// Calls `fn(element of a, element of b)` for each index of `shape` in row-major order.
template <typename Fn>
void walkStrided(llvm::ArrayRef<int64_t> shape, const StridedView &a, const StridedView &b, Fn fn) {
  int64_t rank = static_cast<int64_t>(shape.size()), at = a.offset, bt = b.offset;
  if (llvm::is_contained(shape, 0))
    return;
  llvm::SmallVector<int64_t> index(rank, 0);
  while (true) {
    fn(at, bt);
    int64_t d = rank - 1;
    for (; d >= 0; --d) {
      at += a.strides[d];
      bt += b.strides[d];
      if (++index[d] < shape[d])
        break;
      at -= shape[d] * a.strides[d];
      bt -= shape[d] * b.strides[d];
      index[d] = 0;
    }
    if (d < 0)
      return;
  }
}

/// Copies the elements of `shape` from one view to another; both tensors have one element type.
inline void copyStrided(llvm::ArrayRef<int64_t> shape, HostTensor &to, const StridedView &toView,
                        const HostTensor &from, const StridedView &fromView) {
  if (to.isFloat())
    walkStrided(shape, toView, fromView, [&](int64_t t, int64_t s) { to.f[t] = from.f[s]; });
  else
    walkStrided(shape, toView, fromView, [&](int64_t t, int64_t s) { to.i[t] = from.i[s]; });
}

} // namespace shardc

#endif // SHARDC_SUPPORT_STRIDEDWALK_H
