// A collective, or what is left of it on one rank, on a stream.
#pragma once

#include "runtime/cuda/Communicators.h"

namespace shardrt::cuda {

/// What copies and collectives of a program work with.
struct Transport {
  const Program &program;
  const Mesh &mesh;
  const DeviceMemory &arena;
  const Communicators &communicators;
  int rank;

  int64_t place(int index) const { return program.buffers[index].offset; }
  CUdeviceptr buffer(int index) const { return arena.address(place(index)); }
  CUdeviceptr staging() const { return arena.address(program.cuda.staging.offset); }
};

/// `communicator` is null for a group of one rank, which copies.
void enqueueCollective(const Transport &transport, const Command &command,
                       const Communicator *communicator, CUstream stream);
/// dst = this rank's part of src.
void enqueueSlice(const Transport &transport, const Command &command, CUstream stream);

} // namespace shardrt::cuda
