//===- Random.h - Seeded inputs and weights for runs without data ---------===//
//
// An element depends on the seed, the tensor's name and its place in the whole tensor only: every
// stage and every partition of a model sees the same numbers.
//
//===----------------------------------------------------------------------===//

#ifndef SHARDC_INTERPRET_RANDOM_H
#define SHARDC_INTERPRET_RANDOM_H

#include "shardc/Interpret/Interpreter.h"

namespace shardc {

/// Floats uniform in [-scale, scale), integers in [0, bound), bool true three times out of four.
HostTensor randomTensor(mlir::RankedTensorType type, uint64_t seed, double scale = 1,
                        int64_t bound = 8);

/// Weights of a scale that keeps activations near one: matrices by their last dimension, vectors
/// about one.
ParameterSource randomParameters(uint64_t seed);

/// Inputs of the entry function; integers stay inside what the ops that index with them can take.
llvm::SmallVector<HostTensor> randomInputs(const EntryInterface &entry, uint64_t seed);

} // namespace shardc

#endif // SHARDC_INTERPRET_RANDOM_H
