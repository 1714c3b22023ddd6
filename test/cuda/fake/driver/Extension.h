//===- Extension.h - What the other fake libraries ask of the driver ------===//
//
// libcublasLt.so.13 and libnccl.so.2 put their work into the driver's streams through this; it is
// no part of CUDA.
//
//===----------------------------------------------------------------------===//
#pragma once
#include "ptx/AccessRecorder.h"
#include <functional>
#include <string>
#include <vector>

struct CUstream_st;

#define FAKE_SHARED __attribute__((visibility("default")))
#define FAKE_API extern "C" FAKE_SHARED

namespace fake {

/// What an operation reads and writes, for the check of races.
struct Accesses {
  std::vector<Range> reads, writes;
};

/// Called until it returns true: an operation that waits for other ranks returns false and lets
/// other streams go on. Throws std::runtime_error: the device has failed.
using Step = std::function<bool(Accesses &)>;

struct Operation {
  std::string kind, name;
  /// Called in the order of the host's calls; for a captured operation, at each launch of the
  /// graph.
  std::function<Step()> start;
};

/// An operation behind everything in the stream, or a node of the graph that is being captured.
/// Returns a CUresult.
FAKE_SHARED int submit(CUstream_st *stream, Operation operation);

/// Host address of `bytes` of device memory; throws std::runtime_error naming `what` if they are not
/// all in one allocation, or are pinned memory of the machine: NCCL and cuBLASLt are not given that.
FAKE_SHARED uint8_t *deviceBytes(uint64_t address, uint64_t bytes, const std::string &what);

FAKE_SHARED uint64_t allocate(uint64_t bytes);
/// Waits for the device; `idle`: it is wrong if there is something to wait for.
FAKE_SHARED bool release(uint64_t address, bool idle = false);
/// Of the calling thread's context; -1: there is none.
FAKE_SHARED int currentDevice();
/// The context's error; 0: none.
FAKE_SHARED int currentError();

} // namespace fake
