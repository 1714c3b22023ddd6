//===- Driver.h - State of the fake driver --------------------------------===//
//
// A device is a thread that executes what lies in its streams, one operation at a time. A lane is a
// queue: a stream's, or that of a graph's nodes that came from one stream. The head of a lane may
// run when all that it depends on is done; among those that may, a seeded generator chooses, so
// that what the program does not order happens in many orders. Nothing runs before somebody waits,
// or the host is quiet for a while.
//
//===----------------------------------------------------------------------===//
#pragma once
#include "Extension.h"
#include "Log.h"
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>

namespace fake {

/// CUresult values of cuda.h.
enum Result : int {
  Success = 0,
  InvalidValue = 1,
  OutOfMemory = 2,
  NotInitialized = 3,
  Deinitialized = 4,
  NoDevice = 100,
  InvalidDevice = 101,
  InvalidContext = 201,
  NoBinaryForGpu = 209,
  InvalidPtx = 218,
  UnsupportedPtxVersion = 222,
  InvalidHandle = 400,
  NotFound = 500,
  NotReady = 600,
  IllegalAddress = 700,
  LaunchOutOfResources = 701,
  LaunchFailed = 719,
  CaptureUnsupported = 900,
  CaptureInvalidated = 901,
  CaptureMerge = 902,
  CaptureUnmatched = 903,
  CaptureUnjoined = 904,
  CaptureIsolation = 905,
  CapturedEvent = 907
};

/// By lane: how many of its operations have happened before.
using VectorClock = std::map<unsigned, uint64_t>;
void join(VectorClock &into, const VectorClock &from);

struct Device;
struct Lane;

struct Op {
  uint64_t id;
  std::string kind, name;
  Lane *lane;
  uint64_t number; // in its lane
  std::vector<std::shared_ptr<Op>> dependencies;
  VectorClock clock;
  Step step;
  Accesses accesses;
  bool done = false;
  std::chrono::steady_clock::time_point finished;
};
using OpPtr = std::shared_ptr<Op>;

struct Lane {
  Device *device;
  unsigned index;
  uint64_t count = 0;
  uint32_t priority = 0; // the scheduler's, drawn by chance
  VectorClock clock;
  std::deque<OpPtr> queue;
  OpPtr last;
};

struct Node {
  Operation operation;
  std::vector<size_t> dependencies;
  unsigned lane;
};

struct Graph {
  std::vector<Node> nodes;
  unsigned lanes = 0;
};

struct Capture {
  Graph graph;
  struct Stream *origin;
  std::vector<struct Stream *> streams;
  bool ended = false;
};

struct Stream {
  Lane lane;
  bool blocking; // with the null stream
  int priority;
  std::shared_ptr<Capture> capture;
  std::vector<size_t> tail; // the nodes that the next one depends on
  unsigned captureLane = 0;
};

struct Event {
  bool timing;
  OpPtr op;
  std::shared_ptr<Capture> capture;
  std::vector<size_t> tail;
};

struct GraphExec {
  Graph graph;
  std::deque<Lane> lanes;
};

struct Allocation {
  uint64_t begin = 0, bytes = 0;
  uint8_t *data = nullptr;  // device memory cannot be touched at its address
  Device *device = nullptr; // null: pinned memory of the machine
  bool mapped = false;      // of that: kernels may use it
  size_t reserved = 0;
};

struct Device {
  int number;
  int error = Success;
  int retained = 0;
  uint64_t total, used = 0;
  Stream nullStream;
  std::vector<Stream *> streams;
  std::vector<Lane *> lanes;
  VectorClock host; // what the host has seen to be done
  unsigned waiting = 0;
  bool running = false;
  std::chrono::steady_clock::time_point lastCall;
  std::mt19937_64 random;
  bool inOrder;
};

/// One for the process; never destroyed, since devices' threads outlive main.
struct DriverState {
  std::mutex mutex;
  std::condition_variable changed, work;
  bool initialised = false;
  int version, arch;
  std::deque<Device> devices;
  unsigned laneCount = 0;
  uint64_t opCount = 0;
  std::mutex memoryMutex;
  std::map<uint64_t, Allocation> memory;
  uint64_t pinned = 0, mostPinned = UINT64_MAX; // bytes of the machine's memory
};
DriverState &state();
using Lock = std::unique_lock<std::mutex>;

/// The calling thread's device; throws InvalidContext or the device's error.
Device &current(bool evenIfFailed = false);
void setCurrent(Device *device);
Stream &streamOf(struct CUstream_st *handle, Device &device);

void startDevice(Device &device);
Lane makeLane(Device &device);
/// With the lock held.
OpPtr enqueue(Lane &lane, const Operation &operation, std::vector<OpPtr> dependencies);
OpPtr enqueue(Stream &stream, const Operation &operation, std::vector<OpPtr> dependencies = {});
/// Until it is done, or the device has failed: the host has seen it then.
int waitFor(Lock &lock, Device &device, const OpPtr &op);
int query(Device &device, const OpPtr &op);
void launchGraph(GraphExec &exec, Stream &stream);

Allocation findAllocation(uint64_t address);
uint64_t allocateOn(Device &device, uint64_t bytes);
uint64_t allocatePinned(uint64_t bytes, bool mapped);
/// As deviceBytes, but also of mapped memory of the machine.
uint8_t *reachableBytes(uint64_t address, uint64_t bytes, const std::string &what);

/// Throws std::runtime_error naming both operations if one races with what was before.
void checkRaces(const Op &op);
void forgetAccesses(uint64_t begin, uint64_t end);

/// Turns what is thrown into a CUresult.
struct CudaError {
  int code;
};
template <class F> int guarded(F &&function) {
  try {
    return function();
  } catch (const CudaError &error) {
    return error.code;
  } catch (const std::bad_alloc &) {
    return OutOfMemory;
  } catch (const std::exception &error) {
    complain(error.what());
    return InvalidValue;
  }
}

} // namespace fake
