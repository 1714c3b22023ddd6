//===- Scheduler.cpp - Which operation runs when --------------------------===//
#include "Driver.h"
#include <algorithm>
#include <pthread.h>
#include <stdexcept>
#include <thread>

namespace fake {

using namespace std::chrono_literals;

/// How long the host must be quiet before a device runs without being waited for.
static constexpr auto quiet = 3ms;

void join(VectorClock &into, const VectorClock &from) {
  for (auto [lane, number] : from) {
    uint64_t &known = into[lane];
    known = std::max(known, number);
  }
}

Lane makeLane(Device &device) {
  Lane lane{};
  lane.device = &device;
  lane.index = state().laneCount++;
  lane.priority = uint32_t(device.random());
  return lane;
}

OpPtr enqueue(Lane &lane, const Operation &operation, std::vector<OpPtr> dependencies) {
  Device &device = *lane.device;
  auto op = std::make_shared<Op>();
  op->id = ++state().opCount;
  op->kind = operation.kind;
  op->name = operation.name;
  op->lane = &lane;
  op->number = ++lane.count;
  join(lane.clock, device.host);
  std::vector<uint64_t> behind;
  for (const OpPtr &dependency : dependencies) {
    join(lane.clock, dependency->clock);
    behind.push_back(dependency->id);
  }
  lane.clock[lane.index] = op->number;
  op->clock = lane.clock;
  op->dependencies = std::move(dependencies);
  op->step = operation.start ? operation.start() : Step();
  lane.queue.push_back(op);
  lane.last = op;
  device.lastCall = std::chrono::steady_clock::now();
  LogLine("enqueue")
      .add("op", op->id)
      .add("kind", op->kind)
      .add("name", op->name)
      .add("lane", lane.index)
      .add("behind", behind);
  state().work.notify_all();
  return op;
}

OpPtr enqueue(Stream &stream, const Operation &operation, std::vector<OpPtr> dependencies) {
  Device &device = *stream.lane.device;
  if (&stream == &device.nullStream) {
    for (Stream *other : device.streams)
      if (other->blocking && other->lane.last && !other->lane.last->done)
        dependencies.push_back(other->lane.last);
  } else if (stream.blocking && device.nullStream.lane.last && !device.nullStream.lane.last->done) {
    dependencies.push_back(device.nullStream.lane.last);
  }
  return enqueue(stream.lane, operation, std::move(dependencies));
}

/// With the lock held: the lane whose head runs next, of those in `candidates`.
static Lane *choose(Device &device, const std::vector<Lane *> &candidates) {
  if (device.inOrder)
    return *std::min_element(candidates.begin(), candidates.end(), [](Lane *a, Lane *b) {
      return a->queue.front()->id < b->queue.front()->id;
    });
  // A lane runs ahead of all others until, by chance, another does.
  if (device.random() % 8 == 0)
    for (Lane *lane : device.lanes)
      lane->priority = uint32_t(device.random());
  return *std::max_element(candidates.begin(), candidates.end(),
                           [](Lane *a, Lane *b) { return a->priority < b->priority; });
}

static void finish(Op &op) {
  op.done = true;
  op.finished = std::chrono::steady_clock::now();
  op.step = nullptr;
  op.dependencies.clear();
  op.lane->queue.pop_front();
  LogLine("done").add("op", op.id);
}

/// Everything that was asked for is given up; whoever waits is told.
static void failDevice(Device &device, const std::string &why) {
  complain("device " + std::to_string(device.number) + ": " + why);
  bool address = why.find("alloc") != std::string::npos;
  device.error = address ? IllegalAddress : LaunchFailed;
  for (Lane *lane : device.lanes)
    while (!lane->queue.empty())
      finish(*lane->queue.front());
}

/// Runs one operation, outside of the lock. False: it waits for somebody.
static bool execute(Lock &lock, Device &device, Lane &lane) {
  OpPtr op = lane.queue.front();
  device.running = true;
  lock.unlock();
  bool done = false;
  std::string failure;
  try {
    done = !op->step || op->step(op->accesses);
    if (done)
      checkRaces(*op);
  } catch (const std::exception &error) {
    failure = error.what();
  }
  lock.lock();
  device.running = false;
  if (!failure.empty())
    failDevice(device, failure);
  else if (done)
    finish(*op);
  if (done || !failure.empty())
    state().changed.notify_all();
  return done;
}

static void runDevice(Device &device) {
  DriverState &driver = state();
  Lock lock(driver.mutex);
  std::vector<Lane *> stuck;
  while (true) {
    std::vector<Lane *> ready, polled;
    for (Lane *lane : device.lanes) {
      if (lane->queue.empty())
        continue;
      const auto &dependencies = lane->queue.front()->dependencies;
      if (!std::all_of(dependencies.begin(), dependencies.end(),
                       [](const OpPtr &op) { return op->done; }))
        continue;
      bool waits = std::find(stuck.begin(), stuck.end(), lane) != stuck.end();
      (waits ? polled : ready).push_back(lane);
    }
    auto idle = std::chrono::steady_clock::now() - device.lastCall;
    if (ready.empty() && polled.empty()) {
      driver.work.wait(lock);
    } else if (!device.waiting && idle < quiet) {
      driver.work.wait_for(lock, quiet - idle);
    } else if (!ready.empty()) {
      Lane *lane = choose(device, ready);
      if (!execute(lock, device, *lane))
        stuck.push_back(lane);
      else
        stuck.clear();
    } else {
      // Only what waits for other ranks is left.
      stuck.clear();
      driver.work.wait_for(lock, 100us);
      for (Lane *lane : polled)
        if (!lane->queue.empty() && !execute(lock, device, *lane))
          stuck.push_back(lane);
    }
  }
}

void startDevice(Device &device) {
  std::thread thread([&device] {
    pthread_setname_np(pthread_self(), "fake-gpu");
    setCurrent(&device);
    runDevice(device);
  });
  thread.detach();
}

int query(Device &device, const OpPtr &op) {
  if (device.error)
    return device.error;
  if (op && !op->done) {
    // Whoever asks wants it done.
    device.lastCall = {};
    state().work.notify_all();
    return NotReady;
  }
  if (op)
    join(device.host, op->clock);
  return Success;
}

int waitFor(Lock &lock, Device &device, const OpPtr &op) {
  ++device.waiting;
  state().work.notify_all();
  state().changed.wait(lock, [&] { return device.error || !op || op->done; });
  --device.waiting;
  return query(device, op);
}

int submit(CUstream_st *handle, Operation operation) {
  return guarded([&]() -> int {
    Lock lock(state().mutex);
    Device &device = current();
    Stream &stream = streamOf(handle, device);
    if (!stream.capture) {
      enqueue(stream, operation);
      return Success;
    }
    Graph &graph = stream.capture->graph;
    graph.nodes.push_back({std::move(operation), stream.tail, stream.captureLane});
    stream.tail = {graph.nodes.size() - 1};
    return Success;
  });
}

void launchGraph(GraphExec &exec, Stream &stream) {
  OpPtr begin = enqueue(stream, {"graph", "begin", {}});
  std::vector<OpPtr> ops;
  for (const Node &node : exec.graph.nodes) {
    std::vector<OpPtr> dependencies = {begin};
    for (size_t dependency : node.dependencies)
      dependencies.push_back(ops[dependency]);
    ops.push_back(enqueue(exec.lanes[node.lane], node.operation, std::move(dependencies)));
  }
  enqueue(stream, {"graph", "end", {}}, ops);
}

} // namespace fake
