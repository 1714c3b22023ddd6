#include "runtime/cuda/Watch.h"

#include <algorithm>
#include <thread>

using namespace shardrt;
using namespace shardrt::cuda;

static const int64_t spinNs = 200'000;        // without giving the processor away
static const int64_t lookNs = 20'000'000;     // between looks at ranks and communicators
static const int64_t drainNs = 5'000'000'000; // for work to end after an error
static const int64_t markNs = 1'000'000'000;  // between looks at what is done

Marks::Marks(int communicators) : count(communicators) {
  if (!count)
    return;
  void *memory = nullptr;
  driver().cuMemHostAlloc(&memory, count * sizeof(unsigned),
                          CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
  words = static_cast<unsigned *>(memory);
}

Marks::~Marks() {
  if (words)
    driver().cuMemFreeHost.status(words);
}

/// With unified addresses the device knows the memory by the same one.
void Marks::write(int number, unsigned value, CUstream stream) const {
  driver().cuStreamWriteValue32(stream, reinterpret_cast<CUdeviceptr>(words + number), value, 0);
}

void Marks::reset(CUstream stream) const {
  for (int i = 0; i < count; ++i)
    write(i, 0, stream);
}

void Marks::set(const Communicator &communicator, unsigned done, CUstream stream) const {
  write(communicator.number, done, stream);
}

std::vector<unsigned> Marks::read() const {
  std::vector<unsigned> values(count);
  for (int i = 0; i < count; ++i)
    values[i] = __atomic_load_n(words + i, __ATOMIC_RELAXED);
  return values;
}

const WatchedCall *Watch::firstUnfinished(const std::vector<WatchedCall> &calls) const {
  std::vector<unsigned> done = marks.read();
  auto found = std::find_if(calls.begin(), calls.end(), [&](const WatchedCall &call) {
    return done[call.communicator->number] < call.number;
  });
  return found == calls.end() ? nullptr : &*found;
}

std::string Watch::placeOf(const char *entry, const std::vector<WatchedCall> &calls) const {
  if (const WatchedCall *call = firstUnfinished(calls))
    return cat("entry ", entry, ", command ", call->index, " (", call->command->name, " over ",
               call->communicator->name, ")");
  return cat("entry ", entry);
}

/// Behind the last collective this rank computes, and waits for nobody.
void Watch::checkRanks(int64_t since, const std::vector<WatchedCall> &calls) {
  communicators.checkErrors();
  Channel &channel = progress.channel();
  channel.checkRanks();
  double seconds = (nowNs() - since) * 1e-9;
  if (channel.timeout > 0 && seconds > channel.timeout && firstUnfinished(calls))
    throw Error(SHARDRT_TIMEOUT,
                cat("rank ", channel.rank, " has waited ", static_cast<int64_t>(seconds),
                    " s for other ranks, the limit is ", channel.timeout, " s"));
}

void Watch::wait(const char *entry, const std::vector<WatchedCall> &calls, CUevent event) {
  int64_t begin = nowNs(), since = begin, looked = begin, marked = begin;
  std::vector<unsigned> done;
  for (;;) {
    int status =
        event ? driver().cuEventQuery.status(event) : driver().cuStreamQuery.status(compute);
    if (status == 0)
      return;
    try {
      if (status != CUDA_ERROR_NOT_READY)
        event ? driver().cuEventQuery.fail(status) : driver().cuStreamQuery.fail(status);
      int64_t now = nowNs();
      if (now - looked > lookNs) {
        looked = now;
        if (now - marked > markNs) { // the limit is for one collective
          marked = now;
          if (std::vector<unsigned> read = marks.read(); read != done) {
            done = read;
            since = now;
          }
        }
        checkRanks(since, calls);
      }
      if (now - begin > spinNs)
        std::this_thread::yield();
    } catch (const AbortedError &error) { // says where the other rank was
      giveUp(error.what());
      throw;
    } catch (const Error &error) {
      // A device that has failed does not tell.
      std::string place =
          status == CUDA_ERROR_NOT_READY ? placeOf(entry, calls) : cat("entry ", entry);
      giveUp(error.what());
      throw Error(error.status(), cat(place, ": ", error.what()));
    }
  }
}

void Watch::giveUp(const std::string &reason) noexcept {
  if (!broken.empty())
    return;
  broken = reason;
  for (CUgraphExec graph : graphs) // those that run are only gone when they are done
    driver().cuGraphExecDestroy.status(graph);
  graphs.clear();
  stuck = !communicators.abort();
  drain(); // it comes to its end now
}

void Watch::release(CUgraphExec graph) noexcept {
  if (graphs.erase(graph))
    driver().cuGraphExecDestroy.status(graph);
}

void Watch::drain() noexcept {
  if (stuck)
    return DeviceMemory::leaveBlocks();
  int64_t until = nowNs() + drainNs;
  auto waitFor = [&](CUstream stream) {
    while (driver().cuStreamQuery.status(stream) == CUDA_ERROR_NOT_READY && nowNs() < until)
      std::this_thread::yield();
    stuck |= driver().cuStreamQuery.status(stream) == CUDA_ERROR_NOT_READY;
  };
  communicators.forEachStream(waitFor);
  waitFor(compute);
  if (stuck)
    DeviceMemory::leaveBlocks();
}

void Watch::checkAlive() const {
  if (!broken.empty())
    throw Error(SHARDRT_DEVICE_FAILED, cat("this session ended with an error: ", broken));
}
