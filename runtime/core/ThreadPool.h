// The compute threads of one rank. The calling thread is thread 0.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace shardrt {

class ThreadPool {
public:
  /// firstCpu >= 0 binds thread t to the (firstCpu + t)-th processor that this process may use.
  ThreadPool(int threads, int firstCpu);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  int threads() const { return static_cast<int>(workers.size()) + 1; }
  /// Calls body(thread, begin, end) on contiguous ranges that cover [0, count), and returns when
  /// all are done.
  using Body = std::function<void(int thread, int64_t begin, int64_t end)>;
  void parallelFor(int64_t count, const Body &body);

private:
  void workerLoop(int thread, int cpu);
  void runShare(int thread) const;

  std::vector<std::thread> workers;
  const Body *body = nullptr;
  int64_t count = 0;
  int active = 0; // threads that take part in the current call
  std::atomic<uint64_t> generation{0};
  std::atomic<int> pending{0};
  std::atomic<bool> stopping{false};
  std::mutex mutex;
  std::condition_variable started;
  int spins;
};

/// Processors this process may run on.
int usableCpus();

} // namespace shardrt
