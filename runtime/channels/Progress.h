// Runs a rank's collectives: at once, or on a progress thread when they are only started, so that
// they move on behind the computation.
#pragma once

#include "runtime/channels/Channel.h"
#include "runtime/core/Trace.h"
#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <thread>

namespace shardrt {

class Progress {
public:
  explicit Progress(std::unique_ptr<Channel> channel);
  ~Progress(); // finishes nothing: what was started and not waited for is dropped
  Channel &channel() { return *target; }

  /// `command` is for the trace. Errors are reported to the other ranks before they are thrown.
  void run(const Collective &call, int64_t command = -1);
  void start(const Collective &call, int64_t ticket, int64_t command = -1);
  void wait(int64_t ticket);
  void setTrace(Trace *recorder) { trace = recorder; }

private:
  struct Task {
    Collective call;
    int64_t command;
    bool done = false;
    std::exception_ptr error;
  };
  std::shared_ptr<Task> enqueue(const Collective &call, int64_t command);
  void finish(std::unique_lock<std::mutex> &lock, Task &task);
  void execute(const Collective &call, int64_t command, Trace::Track track);
  void loop();

  std::unique_ptr<Channel> target;
  Trace *trace = nullptr;
  std::mutex mutex;
  std::condition_variable queued, completed;
  std::deque<std::shared_ptr<Task>> queue;
  std::map<int64_t, std::shared_ptr<Task>> tickets;
  std::map<int, int> pendingOfGroup;
  bool stopping = false;
  std::thread thread; // started with the first ticket
};

} // namespace shardrt
