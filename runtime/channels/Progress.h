// Runs a rank's collectives: at once, or on a progress thread when they are only started, so that
// they move on behind the computation.
#pragma once

#include "runtime/channels/Channel.h"
#include "runtime/core/Trace.h"
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

namespace shardrt {

class Progress {
public:
  explicit Progress(std::unique_ptr<Channel> channel);
  ~Progress(); // finishes nothing: what was started and not waited for is dropped
  Channel &channel() { return *target; }

  /// `where` is for the trace. Errors are reported to the other ranks before they are thrown.
  void run(const Collective &call, const CommandPlace &where = {});
  /// `call` lives until its ticket was waited for.
  void start(const Collective &call, int64_t ticket, const CommandPlace &where = {});
  void wait(int64_t ticket);
  /// After this nothing is allocated while no more than `calls` calls are under way at once.
  void reserve(size_t calls);
  void setTrace(Trace *recorder) { trace = recorder; }

private:
  /// A call under way. Free ones are used again, the first of them first.
  struct Task {
    const Collective *call = nullptr; // null: free
    CommandPlace where;
    int64_t ticket = -1;
    bool done = false;
    std::exception_ptr error;
    Task *next = nullptr; // in the queue
  };
  Task &enqueue(const Collective &call, int64_t ticket, const CommandPlace &where);
  void finish(std::unique_lock<std::mutex> &lock, Task &task);
  void execute(const Collective &call, const CommandPlace &where, Trace::Track track);
  bool isPending(int group) const;
  void startThread();
  void loop();

  std::unique_ptr<Channel> target;
  Trace *trace = nullptr;
  std::mutex mutex;
  std::condition_variable queued, completed;
  std::vector<std::unique_ptr<Task>> tasks;
  Task *first = nullptr, *last = nullptr; // the queue; its head is the one that runs
  bool stopping = false;
  std::thread thread; // started with the first ticket
};

} // namespace shardrt
