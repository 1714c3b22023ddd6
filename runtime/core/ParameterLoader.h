// Weights into the arena: this rank's part of a segment of a tensor, in the layout that the kernels
// read.
#pragma once

#include "runtime/core/Bundle.h"
#include "runtime/core/Memory.h"
#include "runtime/core/Safetensors.h"
#include "runtime/core/ThreadPool.h"

namespace shardrt {

/// Loads all parameters. Throws SHARDRT_BAD_WEIGHTS that lists every tensor that is missing or does
/// not fit.
void loadParameters(const Program &program, const Mesh &mesh, int rank, WeightFiles &weights,
                    ThreadPool &pool, Memory &memory);

/// Fills the states of role parameter, which are zero before. Throws as loadParameters does.
void loadStates(const Program &program, const Mesh &mesh, int rank, WeightFiles &weights,
                Memory &memory);

/// Packs a local block of a row-major tensor (element offsets `begin`·`strides` on) into panels.
/// `dst` holds layoutBytes() bytes.
void packPanels(const Layout &layout, const Slices &slices, const Shape &strides,
                int64_t elementSize, bool pairs, const std::byte *src, std::byte *dst,
                ThreadPool &pool);

} // namespace shardrt
