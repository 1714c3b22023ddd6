// Workers wait for the next generation number: they spin for a moment, because launches follow each
// other closely, and then sleep. On a machine with fewer processors than threads, spinning would
// take the processor from the work.
#include "runtime/core/ThreadPool.h"

#include <algorithm>
#include <pthread.h>
#include <sched.h>

using namespace shardrt;

static const int spinsBeforeSleep = 4000; // some ten microseconds

static std::vector<int> allowedCpus() {
  cpu_set_t set;
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) == 0)
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &set))
        cpus.push_back(cpu);
  return cpus;
}

int shardrt::usableCpus() { return std::max<int>(1, static_cast<int>(allowedCpus().size())); }

static void bindTo(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  pthread_setaffinity_np(pthread_self(), sizeof(set), &set); // best effort
}

static void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

ThreadPool::ThreadPool(int threads, int firstCpu)
    : spins(threads <= usableCpus() ? spinsBeforeSleep : 0) {
  std::vector<int> cpus = allowedCpus();
  auto cpuOf = [&](int thread) {
    return firstCpu < 0 || cpus.empty() ? -1 : cpus[(firstCpu + thread) % cpus.size()];
  };
  for (int thread = 1; thread < threads; ++thread)
    workers.emplace_back([this, thread, cpu = cpuOf(thread)] { workerLoop(thread, cpu); });
  if (cpuOf(0) >= 0)
    bindTo(cpuOf(0));
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex);
    stopping = true;
    ++generation;
  }
  started.notify_all();
  for (std::thread &worker : workers)
    worker.join();
}

void ThreadPool::runShare(int thread) const {
  int64_t begin = count * thread / active, end = count * (thread + 1) / active;
  if (begin < end)
    (*body)(thread, begin, end);
}

void ThreadPool::workerLoop(int thread, int cpu) {
  if (cpu >= 0)
    bindTo(cpu);
  for (uint64_t seen = 0;;) {
    for (int i = 0; i < spins && generation.load(std::memory_order_acquire) == seen; ++i)
      pause();
    if (generation.load(std::memory_order_acquire) == seen) {
      std::unique_lock<std::mutex> lock(mutex);
      started.wait(lock, [&] { return generation.load() != seen; });
    }
    ++seen; // the caller waits for every worker, so no generation is skipped
    if (stopping)
      return;
    if (thread < active)
      runShare(thread);
    pending.fetch_sub(1, std::memory_order_release);
  }
}

void ThreadPool::parallelFor(int64_t total, const Body &work) {
  int64_t useful = std::min<int64_t>(threads(), total);
  if (useful <= 1) {
    if (total > 0)
      work(0, 0, total);
    return;
  }
  body = &work;
  count = total;
  active = static_cast<int>(useful);
  pending.store(static_cast<int>(workers.size()), std::memory_order_relaxed);
  {
    std::lock_guard<std::mutex> lock(mutex);
    generation.fetch_add(1, std::memory_order_release);
  }
  started.notify_all();
  runShare(0);
  for (int i = 0; pending.load(std::memory_order_acquire) != 0; ++i)
    if (i < spins)
      pause();
    else
      sched_yield();
}
