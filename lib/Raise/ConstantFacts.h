//===- ConstantFacts.h - What has been read from constants ----------------===//
//
// All layers of a model read the same masks and rotary tables, of millions of elements: each is
// read once a pass.
//
//===----------------------------------------------------------------------===//

#ifndef SHARDC_LIB_RAISE_CONSTANTFACTS_H
#define SHARDC_LIB_RAISE_CONSTANTFACTS_H

#include "mlir/IR/BuiltinAttributes.h"

#include "llvm/ADT/DenseMap.h"

#include <optional>

namespace shardc::raise {

/// Query i sees keys j with low <= j - i <= high: every mask that attention's attributes can say is
/// such a band.
struct Band {
  static constexpr int64_t kNone = INT64_C(1) << 40; ///< beyond any sequence
  int64_t low = -kNone, high = kNone;
};

struct ConstantFacts {
  /// By constant, and the dimensions of queries and keys: the band that it is, if it is one.
  llvm::DenseMap<std::pair<mlir::Attribute, std::pair<int64_t, int64_t>>, std::optional<Band>>
      bands;
  /// By constant and dimension: its first half along it, or null if the halves differ.
  llvm::DenseMap<std::pair<mlir::Attribute, int64_t>, mlir::ElementsAttr> halves;
};

} // namespace shardc::raise

#endif // SHARDC_LIB_RAISE_CONSTANTFACTS_H
