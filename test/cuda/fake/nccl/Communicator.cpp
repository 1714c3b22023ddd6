//===- Communicator.cpp - Joining, registration, errors -------------------===//
#include "Nccl.h"
#include <unistd.h>

namespace fake::nccl {

std::string &lastError() {
  static auto *text = new std::string;
  return *text;
}

int refuse(int code, const std::string &message) {
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  lastError() = message;
  complain("nccl: " + message);
  return code;
}

void Communicator::fail(int code, const std::string &message) {
  int none = Success;
  if (error.compare_exchange_strong(none, code))
    refuse(code, "rank " + std::to_string(rank) + " of " + std::to_string(ranks) + ": " + message);
}

/// Where a real one takes them too: while it connects, so that who does not block hears of it
/// later.
void Communicator::takeBuffers(uint64_t bytes) {
  try {
    buffers = bytes ? allocate(bytes) : 0;
  } catch (...) {
    fail(CudaFailed, "Cuda failure 2 'out of memory'");
  }
}

void Communicator::releaseBuffers() {
  if (buffers)
    release(buffers);
  buffers = 0;
}

int Communicator::join() {
  if (joined || error)
    return error;
  for (unsigned other = 0; other < ranks; ++other)
    if (!segment->slot(other).present)
      return InProgress;
  for (unsigned other = 0; other < ranks; ++other)
    if (other != rank && segment->slot(other).device == uint32_t(device)) {
      fail(InvalidUsage, "Duplicate GPU detected : rank " + std::to_string(rank) + " and rank " +
                             std::to_string(other) + " both on CUDA device " +
                             std::to_string(device));
      return error;
    }
  joined = true;
  return Success;
}

} // namespace fake::nccl
