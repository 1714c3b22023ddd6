//===- Masks.h - Which keys a mask shows to a query -----------------------===//

#ifndef SHARDC_LIB_RAISE_MASKS_H
#define SHARDC_LIB_RAISE_MASKS_H

#include "lib/Raise/ConstantFacts.h"

#include "mlir/IR/Value.h"

namespace shardc::raise {

/// The band of a mask [.., queries, keys], float (0 or hidden) or bool, if it is one, is the same
/// in all other dimensions and shows every query at least one key. Constants are read; comparisons
/// of positions are solved.
std::optional<Band> analyzeMask(mlir::Value mask, ConstantFacts &facts);

/// What attention's attributes say of a band.
struct KeyRange {
  bool causal = false;
  int64_t offset = 0, window = 0;
};
std::optional<KeyRange> keyRangeOf(Band band, int64_t queries, int64_t keys);

} // namespace shardc::raise

#endif // SHARDC_LIB_RAISE_MASKS_H
