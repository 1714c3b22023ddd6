// numpy .npy files, version 1 to 3, C order, little-endian. bf16 is written as raw two-byte items
// ('|V2') and read from these or from uint16.
#pragma once

#include "runtime/core/DType.h"
#include "runtime/core/MappedFile.h"

namespace shardrt {

struct NpyHeader {
  std::string descr; // as numpy spells it
  Shape shape;
  size_t dataOffset;
};

/// Throws SHARDRT_BAD_INPUT when the text is not a .npy file that can be read as it is.
NpyHeader readNpyHeader(std::string_view text, const std::string &file);
/// Whether an array with this descr holds elements of `dtype`.
bool npyHolds(const std::string &descr, DType dtype);
/// What to call a descr in messages: "f32" for "<f4".
std::string npyTypeName(const std::string &descr);
std::string npyHeaderFor(DType dtype, const Shape &shape);
/// Written to a temporary sibling and renamed, so that nobody reads half a file.
void writeNpy(const std::string &path, DType dtype, const Shape &shape, const void *data,
              size_t bytes);

} // namespace shardrt
