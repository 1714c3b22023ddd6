// Slow and obvious versions of everything that the channel tests compare with.
#pragma once

#include "runtime/core/DType.h"
#include <cstddef>

namespace shardrt_test {

using shardrt::DType;
using Bytes = std::vector<unsigned char>;

/// Rounds to the element type; integers wrap, bool is value != 0.
Bytes encode(DType dtype, double value);
double decode(DType dtype, const unsigned char *at);
/// Reduces single elements in order, f16 and bf16 in f32 with one rounding.
Bytes reduceElements(DType dtype, shardrt_reduce reduce, const std::vector<Bytes> &elements);

} // namespace shardrt_test
