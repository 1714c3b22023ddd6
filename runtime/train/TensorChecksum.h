// A checksum of a tensor that ranks can make together: each adds what it has of the elements, in
// any order. It finds damage, not malice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace shardrt {

/// The share of `count` elements of `size` bytes, the first of which is element `index` of the
/// tensor: the sum, modulo 2^64, of each element's bits times an odd number that depends on its
/// index.
uint64_t checksumShare(const std::byte *data, int64_t size, int64_t count, int64_t index);

/// How a checkpoint's metadata holds it.
std::string checksumKey(const std::string &tensor);
std::string checksumText(uint64_t checksum);

} // namespace shardrt
