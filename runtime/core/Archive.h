// A bundle as one file: a zip of stored (uncompressed) members, aligned so that they can be used
// where they lie. Depends on nothing, because the compiler's tools read it too.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shardrt {

/// What records of a zip file begin with, and the extra field of 64-bit sizes.
constexpr uint32_t localSignature = 0x04034b50, centralSignature = 0x02014b50,
                   endSignature = 0x06054b50, end64Signature = 0x06064b50,
                   locatorSignature = 0x07064b50;
constexpr uint16_t zip64Extra = 1;

struct ArchiveMember {
  std::string name;
  uint64_t offset, size; // of the data, in the file
};

/// Data begins at a multiple of this.
constexpr uint64_t archiveAlignment = 64;
/// The same for what is mapped: code and weights.
constexpr uint64_t archivePageBytes = 4096;

/// Whether a bundle may have a file of this name: manifest.json, program.json, constants.bin,
/// kernels-*.so, .cubin and .ptx, and weights/*.safetensors.
bool isBundleFileName(std::string_view name);

/// The members by name, from the bytes of the whole file, of which only headers are looked at.
/// Returns what is wrong with them, or an empty text. 64-bit sizes (ZIP64) are understood; several
/// disks, comments, encryption, compression and other names are not.
std::string readArchive(std::string_view bytes, std::vector<ArchiveMember> &members);

} // namespace shardrt
