// Started calls run one after the other on the progress thread. A call that is not only started
// runs in the calling thread, unless an earlier call on the same group is still queued; then it
// must stay behind that one. Why this cannot deadlock: all ranks issue calls in one total order,
// and the earliest call that is not complete has on every rank only completed calls before it, so
// every member sooner or later executes it.
#include "runtime/channels/Progress.h"
#include "runtime/core/Error.h"

using namespace shardrt;

Progress::Progress(std::unique_ptr<Channel> channel) : target(std::move(channel)) {}

Progress::~Progress() {
  {
    std::lock_guard<std::mutex> lock(mutex);
    stopping = true;
    if (!queue.empty()) // the thread may be waiting for ranks that are not coming
      target->abort(cat("rank ", target->rank, " ended with collectives under way"),
                    SHARDRT_INTERNAL);
  }
  queued.notify_all();
  if (thread.joinable())
    thread.join();
}

void Progress::execute(const Collective &call, int64_t command, Trace::Track track) {
  int64_t begin = trace ? nowNs() : 0;
  try {
    target->run(call);
  } catch (const AbortedError &) {
    throw;
  } catch (const std::exception &error) {
    auto *known = dynamic_cast<const Error *>(&error);
    target->abort(cat("rank ", target->rank, ": ", error.what()),
                  known ? known->status() : SHARDRT_INTERNAL);
    throw;
  }
  if (trace)
    trace->add({collectiveName(call.kind), track, begin, nowNs(), command, -1});
}

void Progress::loop() {
  std::unique_lock<std::mutex> lock(mutex);
  for (;;) {
    queued.wait(lock, [&] { return stopping || !queue.empty(); });
    if (stopping)
      return;
    std::shared_ptr<Task> task = queue.front();
    lock.unlock();
    try {
      execute(task->call, task->command, Trace::Communication);
    } catch (...) {
      task->error = std::current_exception();
    }
    lock.lock();
    queue.pop_front();
    --pendingOfGroup[task->call.group];
    task->done = true;
    completed.notify_all();
  }
}

std::shared_ptr<Progress::Task> Progress::enqueue(const Collective &call, int64_t command) {
  auto task = std::make_shared<Task>();
  task->call = call;
  task->command = command;
  queue.push_back(task);
  ++pendingOfGroup[call.group];
  if (!thread.joinable())
    thread = std::thread([this] { loop(); });
  queued.notify_one();
  return task;
}

void Progress::finish(std::unique_lock<std::mutex> &lock, Task &task) {
  completed.wait(lock, [&] { return task.done; });
  if (task.error)
    std::rethrow_exception(task.error);
}

void Progress::run(const Collective &call, int64_t command) {
  {
    std::unique_lock<std::mutex> lock(mutex);
    bool mustQueue = target->concurrent() ? pendingOfGroup[call.group] > 0 : !queue.empty();
    if (mustQueue) {
      std::shared_ptr<Task> task = enqueue(call, command);
      return finish(lock, *task);
    }
  }
  execute(call, command, Trace::Compute);
}

void Progress::start(const Collective &call, int64_t ticket, int64_t command) {
  std::unique_lock<std::mutex> lock(mutex);
  if (tickets.count(ticket))
    throw Error(SHARDRT_INVALID_ARGUMENT, cat("ticket ", ticket, " is already under way"));
  tickets[ticket] = enqueue(call, command);
}

void Progress::wait(int64_t ticket) {
  std::unique_lock<std::mutex> lock(mutex);
  auto it = tickets.find(ticket);
  if (it == tickets.end())
    throw Error(SHARDRT_INVALID_ARGUMENT, cat("ticket ", ticket, " is not under way"));
  std::shared_ptr<Task> task = it->second;
  tickets.erase(it);
  finish(lock, *task);
}
