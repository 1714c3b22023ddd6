// SHA-256 (FIPS 180-4), for the file hashes in a manifest.
#pragma once

#include <cstddef>
#include <string>

namespace shardrt {

/// 64 lower-case hexadecimal digits.
std::string sha256Hex(const void *data, size_t bytes);

} // namespace shardrt
