//===- Halves.h - Tensors whose two halves are equal ----------------------===//

#ifndef SHARDC_LIB_RAISE_HALVES_H
#define SHARDC_LIB_RAISE_HALVES_H

#include "lib/Raise/ConstantFacts.h"
#include "lib/Raise/Match.h"

namespace shardc::raise {

/// Whether value[.., i, ..] = value[.., i + n/2, ..] along `dim` of size n: constants are read,
/// computations followed up to a concatenation of one value with itself.
bool hasEqualHalves(mlir::Value value, int64_t dim, ConstantFacts &facts);

/// The first half along `dim` of a value with equal halves: its computation on half as many
/// elements.
mlir::Value firstHalf(mlir::Value value, int64_t dim, OpMaker &maker, ConstantFacts &facts);

} // namespace shardc::raise

#endif // SHARDC_LIB_RAISE_HALVES_H
