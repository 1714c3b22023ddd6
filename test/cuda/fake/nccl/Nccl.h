//===- Nccl.h - Communicators of the fake NCCL ----------------------------===//
//
// Ranks meet in a piece of memory that the creator of the unique id holds open and others map
// through /proc: threads and processes of one machine alike, and nothing is left behind if all die.
// A collective is polled by the device's thread, piece by piece, so that other streams go on; it
// never ends if a rank is missing.
//
//===----------------------------------------------------------------------===//
#pragma once
#include "driver/Extension.h"
#include "driver/Log.h"
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <set>

namespace fake::nccl {

enum Result : int {
  Success = 0,
  CudaFailed = 1,
  SystemError = 2,
  InternalError = 3,
  InvalidArgument = 4,
  InvalidUsage = 5,
  RemoteError = 6,
  InProgress = 7
};
enum class Kind : int { None, AllReduce, AllGather, ReduceScatter, Broadcast, Send, Receive };
const char *nameOf(Kind kind);
unsigned bytesOf(int dtype); // 0: no such type

constexpr uint64_t pieceBytes = 64 << 10;

/// What all ranks must agree on.
struct CallFacts {
  Kind kind;
  int dtype, reduce, root;
  uint64_t count, number; // elements; which call of the communicator it is
  bool operator==(const CallFacts &other) const;
  std::string text() const;
};

/// A rank's place in the shared memory.
struct Slot {
  std::atomic<uint32_t> present, device;
  std::atomic<uint64_t> posted, taken; // pieces, of all calls so far
  CallFacts facts;
  uint8_t piece[pieceBytes];
};

/// From one rank to another.
struct Mailbox {
  std::atomic<uint64_t> posted, taken;
  CallFacts facts;
  uint64_t total;
  uint8_t piece[pieceBytes];
};

struct Header {
  uint64_t nonce;
  std::atomic<uint32_t> ranks, arrived;
};

struct UniqueId {
  char magic[16];
  int32_t process, file;
  uint64_t nonce;
  char rest[128 - 32];
};
static_assert(sizeof(UniqueId) == 128);

/// The memory of one communicator.
class Segment {
public:
  static UniqueId create();
  /// Throws std::runtime_error.
  Segment(const UniqueId &id, unsigned ranks);
  ~Segment();
  Segment(const Segment &) = delete;
  Header &header() const { return *static_cast<Header *>(memory); }
  Slot &slot(unsigned rank) const;
  Mailbox &mailbox(unsigned from, unsigned to) const;

private:
  unsigned ranks;
  size_t bytes;
  void *memory;
};

struct Call {
  CallFacts facts;
  uint64_t source, target;
  int peer;
};

struct Communicator {
  std::unique_ptr<Segment> segment;
  unsigned rank, ranks;
  uint64_t id;
  bool blocking;
  int device;
  std::mutex mutex;
  /// Read by the device's thread.
  std::atomic<bool> aborted{false};
  std::atomic<int> error{Success};
  std::atomic<uint64_t> started{0},
      finished{0}; // operations: they run in the order of the host's calls
  bool joined = false, finalised = false, polled = true;
  uint64_t calls = 0;
  uint64_t buffers = 0;             // address of what it takes of the device's memory, if anything
  std::set<uint64_t> registrations; // handles
  uint64_t registrationCount = 0;

  void fail(int code, const std::string &message);
  void takeBuffers(uint64_t bytes);
  void releaseBuffers();
  /// InProgress until all ranks are here.
  int join();
};
using CommunicatorPtr = std::shared_ptr<Communicator>;

/// The last complaint, for ncclGetLastError.
std::string &lastError();
int refuse(int code, const std::string &message);

/// The operation of one group's calls on one communicator. Throws std::runtime_error for buffers
/// that are none.
Step makeStep(CommunicatorPtr communicator, std::vector<Call> calls);

/// target[i] = reduction over ranks of sources[r][i], in f32 for narrow floats.
void reduce(uint8_t *target, const std::vector<const uint8_t *> &sources, uint64_t count, int dtype,
            int reduction);

} // namespace fake::nccl
