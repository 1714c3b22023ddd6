// Between the floating-point types.
#pragma once

#include "runtime/core/DType.h"
#include <cstddef>

namespace shardrt {

bool isFloat(DType dtype); // f64, f32, f16, bf16

/// Rounds to nearest, ties to even. Equal types of any kind are copied bit by bit; otherwise both
/// are floating point.
void convert(DType from, const std::byte *src, DType to, std::byte *dst, int64_t count);

/// The first element in [0, count) that is not finite, or -1. Of floating point only.
int64_t findNonFinite(DType dtype, const std::byte *data, int64_t count);

} // namespace shardrt
