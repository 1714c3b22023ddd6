#include "runtime/cuda/Watch.h"

#include <algorithm>
#include <thread>

using namespace shardrt;
using namespace shardrt::cuda;

static const int64_t spinNs = 200'000;       // without giving the processor away
static const int64_t lookNs = 20'000'000;    // between looks at ranks and communicators
static const int64_t markNs = 1'000'000'000; // between looks at what is done

Marks::Marks(int communicators) : count(communicators), stream(StreamPriorities().greatest) {
  if (count)
    driver().cuMemAlloc(&device, count * sizeof(unsigned));
}

Marks::~Marks() {
  if (count)
    driver().cuMemFree.status(device);
}

void Marks::reset(CUstream target) const {
  if (count)
    driver().cuMemsetD32Async(device, 0, count, target);
}

void Marks::set(const Communicator &communicator, unsigned done, CUstream target) const {
  driver().cuMemsetD32Async(device + communicator.number * sizeof(unsigned), done, 1, target);
}

std::vector<unsigned> Marks::read() const {
  std::vector<unsigned> values(count);
  if (count) {
    driver().cuMemcpyDtoHAsync(values.data(), device, count * sizeof(unsigned), stream.get());
    driver().cuStreamSynchronize(stream.get());
  }
  return values;
}

std::string Watch::placeOf(const char *entry, const std::vector<WatchedCall> &calls) const {
  std::vector<unsigned> done = marks.read();
  for (const WatchedCall &call : calls)
    if (done[call.communicator->number] < call.number)
      return cat("entry ", entry, ", command ", call.index, " (", call.command->name, " over ",
                 call.communicator->name, ")");
  return cat("entry ", entry);
}

void Watch::checkRanks(int64_t since) {
  communicators.checkErrors();
  Channel &channel = progress.channel();
  channel.checkRanks();
  double seconds = (nowNs() - since) * 1e-9;
  if (communicators.count() && channel.timeout > 0 && seconds > channel.timeout)
    throw Error(SHARDRT_TIMEOUT,
                cat("rank ", channel.rank, " has waited ", static_cast<int64_t>(seconds),
                    " s for other ranks, the limit is ", channel.timeout, " s"));
}

void Watch::wait(CUstream stream, const char *entry, const std::vector<WatchedCall> &calls) {
  int64_t begin = nowNs(), since = begin, looked = begin, marked = begin;
  std::vector<unsigned> done;
  for (;;) {
    int status = driver().cuStreamQuery.status(stream);
    if (status == 0)
      return;
    try {
      if (status != CUDA_ERROR_NOT_READY)
        driver().cuStreamQuery.fail(status);
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
        checkRanks(since);
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
  broken = reason;
  communicators.abort();
}

void Watch::checkAlive() const {
  if (!broken.empty())
    throw Error(SHARDRT_DEVICE_FAILED, cat("this session ended with an error: ", broken));
}
