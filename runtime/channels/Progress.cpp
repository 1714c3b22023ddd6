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
    if (first) // the thread may be waiting for ranks that are not coming
      target->abort(cat("rank ", target->rank, " ended with collectives under way"),
                    SHARDRT_INTERNAL);
  }
  queued.notify_all();
  if (thread.joinable())
    thread.join();
}

void Progress::execute(const Collective &call, const CommandPlace &where, Trace::Track track) {
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
    trace->add({collectiveName(call.kind), track, begin, nowNs(), where});
}

void Progress::loop() {
  std::unique_lock<std::mutex> lock(mutex);
  for (;;) {
    queued.wait(lock, [&] { return stopping || first; });
    if (stopping)
      return;
    Task &task = *first;
    lock.unlock();
    try {
      execute(*task.call, task.where, Trace::Communication);
    } catch (...) {
      task.error = std::current_exception();
    }
    lock.lock();
    first = task.next;
    task.done = true;
    completed.notify_all();
  }
}

void Progress::startThread() {
  if (!thread.joinable())
    thread = std::thread([this] { loop(); });
}

void Progress::reserve(size_t calls) {
  std::lock_guard<std::mutex> lock(mutex);
  while (tasks.size() < calls)
    tasks.push_back(std::make_unique<Task>());
  if (calls > 0)
    startThread();
}

bool Progress::isPending(int group) const {
  for (const Task *task = first; task; task = task->next)
    if (task->call->group == group)
      return true;
  return false;
}

Progress::Task &Progress::enqueue(const Collective &call, int64_t ticket,
                                  const CommandPlace &where) {
  Task *task = nullptr;
  for (const std::unique_ptr<Task> &candidate : tasks)
    if (!candidate->call) {
      task = candidate.get();
      break;
    }
  if (!task)
    task = tasks.emplace_back(std::make_unique<Task>()).get();
  *task = {&call, where, ticket, false, nullptr, nullptr};
  (first ? last->next : first) = task;
  last = task;
  startThread();
  queued.notify_one();
  return *task;
}

void Progress::finish(std::unique_lock<std::mutex> &lock, Task &task) {
  completed.wait(lock, [&] { return task.done; });
  task.call = nullptr;
  if (std::exception_ptr error = std::exchange(task.error, nullptr))
    std::rethrow_exception(error);
}

void Progress::run(const Collective &call, const CommandPlace &where) {
  {
    std::unique_lock<std::mutex> lock(mutex);
    bool mustQueue = target->concurrent() ? isPending(call.group) : first != nullptr;
    if (mustQueue)
      return finish(lock, enqueue(call, -1, where));
  }
  execute(call, where, Trace::Compute);
}

void Progress::start(const Collective &call, int64_t ticket, const CommandPlace &where) {
  std::unique_lock<std::mutex> lock(mutex);
  for (const std::unique_ptr<Task> &task : tasks)
    if (task->call && task->ticket == ticket)
      throw Error(SHARDRT_INVALID_ARGUMENT, cat("ticket ", ticket, " is already under way"));
  enqueue(call, ticket, where);
}

void Progress::wait(int64_t ticket) {
  std::unique_lock<std::mutex> lock(mutex);
  for (const std::unique_ptr<Task> &task : tasks)
    if (task->call && task->ticket == ticket)
      return finish(lock, *task);
  throw Error(SHARDRT_INVALID_ARGUMENT, cat("ticket ", ticket, " is not under way"));
}
