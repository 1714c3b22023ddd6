// program.json to Program, with every index, size and range checked.
#pragma once

#include "runtime/core/JsonNode.h"
#include "runtime/core/Program.h"

namespace shardrt {

/// `file` is the name used in messages. `constantBytes` is the size of constants.bin.
Program readProgram(std::string_view text, const std::string &file, const Mesh &mesh,
                    int64_t constantBytes);

// Parts of it, in files of their own.
std::vector<SubAxes> readGroups(const JsonNode &node, const Mesh &mesh);
SubAxes readSubAxes(const JsonNode &node, const Mesh &mesh);
Sharding readSharding(const JsonNode &node, const Mesh &mesh, const Shape &shape);
std::vector<Command> readCommands(const JsonNode &node, const Program &program);
std::vector<Bucket> readBuckets(const JsonNode &node, const Mesh &mesh);
std::vector<State> readStates(const JsonNode &node, const Mesh &mesh, const Program &program);
Segment readSegment(const JsonNode &node, const Shape &shape); // null: the whole tensor
/// Throws unless no part of a mesh axis is used twice.
void checkDisjoint(const JsonNode &node, const SubAxes &axes, const Mesh &mesh);
std::vector<Entry> readEntries(const JsonNode &node, const Program &program, const Mesh &mesh);
/// A buffer that has at least `bytes` bytes for `what`; no bytes stand for an overflow.
int readBufferIndex(const JsonNode &node, const Program &program, const char *what,
                    std::optional<int64_t> bytes);

/// What programs for GPUs have besides (CudaReader.cpp). Absent: cpu.
Target readTarget(const JsonNode &root);
CudaArea readHostArea(const JsonNode &areas, const Program &program);
/// Whose scratch area is known (CudaKernelReader.cpp).
CudaKernel readCudaKernel(const JsonNode &node, const CudaProgram &cuda);
CudaProgram readCudaProgram(const JsonNode &root, const Program &program);
void checkCudaLaunch(const JsonNode &node, const Program &program, const Command &command);
void checkCudaCollective(const JsonNode &node, const Program &program, const Command &command);

/// Bytes of a parameter in its layout, for this local shape; empty on overflow.
std::optional<int64_t> layoutBytes(const Layout &layout, const Shape &local, DType dtype);

} // namespace shardrt
