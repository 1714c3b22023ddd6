// Addresses are resolved once; nothing is allocated in a run, except by a trace.
#include "runtime/cuda/CudaExecutor.h"

using namespace shardrt;
using namespace shardrt::cuda;

static const int windowCalls = 256; // a stream's queue takes about 1024

CudaExecutor::CudaExecutor(const CudaMachine &machine, const std::vector<Command> &commands,
                           const char *name)
    : machine(machine), name(name) {
  for (const Command &command : commands)
    addStep(command);
}

CudaExecutor::~CudaExecutor() {
  if (graph)
    machine.watch.release(graph);
}

void CudaExecutor::addStep(const Command &command) {
  steps.push_back(std::make_unique<Step>());
  Step &step = *steps.back();
  step.command = &command;
  step.calls = callsOf(command);
  CUstream compute = machine.compute;
  const Transport &transport = machine.transport;
  switch (command.kind) {
  case CommandKind::Launch:
    step.enqueue = makeLaunch(command);
    break;
  case CommandKind::Collective:
    step.enqueue = makeCollective(command, step);
    break;
  case CommandKind::Wait:
    step.enqueue = makeWait(command);
    break;
  case CommandKind::Slice:
    step.enqueue = [&transport, &command, compute] { enqueueSlice(transport, command, compute); };
    break;
  case CommandKind::Copy:
    step.enqueue = [&arena = machine.arena, dst = transport.place(command.dst),
                    src = transport.place(command.src), bytes = command.bytes,
                    compute] { arena.copy(dst, src, bytes, compute); };
    break;
  case CommandKind::Zero:
    step.enqueue = [dst = transport.buffer(command.dst), bytes = command.bytes, compute] {
      if (bytes)
        driver().cuMemsetD8Async(dst, 0, bytes, compute);
    };
    break;
  }
}

CUdeviceptr CudaExecutor::addressOf(const CudaArgument &argument, const Command &command) const {
  if (argument.buffer >= 0)
    return machine.transport.buffer(command.buffers[argument.buffer]);
  return machine.arena.address(machine.transport.program.cuda.scratch.offset + argument.scratch);
}

std::function<void()> CudaExecutor::makeLaunch(const Command &command) const {
  std::vector<std::function<void()>> calls;
  for (const CudaCall &call :
       cuda::callsOf(machine.transport.program.cuda.kernels[command.kernel], machine.gemms))
    calls.push_back(makeCall(call, command));
  return [calls = std::move(calls)] {
    for (const std::function<void()> &call : calls)
      call();
  };
}

std::function<void()> CudaExecutor::makeCall(const CudaCall &call, const Command &command) const {
  CUstream compute = machine.compute;
  if (const CudaMemset *memset = std::get_if<CudaMemset>(&call))
    return [memset, address = addressOf(memset->argument, command), compute] {
      if (memset->bytes)
        driver().cuMemsetD8Async(address, 0, memset->bytes, compute);
    };
  if (const CudaGemm *gemm = std::get_if<CudaGemm>(&call)) {
    auto optional = [&](const std::optional<CudaArgument> &argument) {
      return argument ? addressOf(*argument, command) : 0;
    };
    Gemm::Addresses addresses = {addressOf(gemm->a.argument, command),
                                 addressOf(gemm->b.argument, command),
                                 optional(gemm->c),
                                 addressOf(gemm->d.argument, command),
                                 optional(gemm->bias),
                                 optional(gemm->aux),
                                 optional(gemm->a.scale),
                                 optional(gemm->b.scale)};
    return [plan = machine.gemms.at(gemm).get(), addresses, compute] {
      plan->enqueue(addresses, compute);
    };
  }
  const CudaLaunch &launch = std::get<CudaLaunch>(call);
  std::vector<CUdeviceptr> arguments;
  for (const CudaArgument &argument : launch.arguments)
    arguments.push_back(addressOf(argument, command));
  std::vector<void *> parameters(arguments.size()); // point at the arguments
  return [&launch, function = machine.module.function(launch.symbol),
          arguments = std::move(arguments), parameters = std::move(parameters), compute]() mutable {
    for (size_t i = 0; i < arguments.size(); ++i)
      parameters[i] = &arguments[i];
    driver().cuLaunchKernel(
        function, static_cast<unsigned>(launch.blocks), 1, 1, static_cast<unsigned>(launch.threads),
        1, 1, static_cast<unsigned>(launch.sharedBytes), compute, parameters.data(), nullptr);
  };
}

/// Without a ticket: on the compute stream, behind what the communicator has started before, so
/// that a communicator's calls have one order. With one: on the communicator's stream, behind what
/// the compute stream has been given until then.
std::function<void()> CudaExecutor::makeCollective(const Command &command, Step &step) {
  const Transport &transport = machine.transport;
  const Collective &call = command.collective;
  CUstream compute = machine.compute;
  if (sizeOf(transport.program.groups[call.group]) == 1) {
    if (command.ticket >= 0)
      open[command.ticket] = &step; // a copy, which is done when it is waited for
    return [&transport, &command, compute] {
      enqueueCollective(transport, command, nullptr, compute);
    };
  }
  const Communicator *communicator = &transport.communicators.find(call.group, call.kind);
  unsigned number = ++issued[communicator];
  watched.push_back({&command, static_cast<int64_t>(steps.size()) - 1, communicator, number});
  const Marks &marks = machine.marks;
  if (command.ticket < 0) {
    std::vector<const Event *> before;
    for (auto [ticket, other] : open)
      if (other->ticketed == communicator)
        before.push_back(&other->done);
    return [&transport, &command, communicator, before, number, &marks, compute] {
      for (const Event *event : before)
        event->wait(compute);
      enqueueCollective(transport, command, communicator, compute);
      marks.set(*communicator, number, compute);
    };
  }
  step.ticketed = communicator;
  open[command.ticket] = &step;
  return [&transport, &command, communicator, number, &marks, &step, compute] {
    CUstream stream = communicator->stream.get();
    step.started.record(compute);
    step.started.wait(stream);
    enqueueCollective(transport, command, communicator, stream);
    marks.set(*communicator, number, stream);
    step.done.record(stream);
  };
}

std::function<void()> CudaExecutor::makeWait(const Command &command) {
  const Step *step = open.at(command.ticket);
  open.erase(command.ticket);
  CUstream compute = machine.compute;
  return [step, compute] {
    if (step->ticketed)
      step->done.wait(compute);
  };
}

void CudaExecutor::setTrace(Trace *recorder) {
  trace = recorder;
  while (trace && times.size() < steps.size() + 1)
    times.emplace_back();
}

void CudaExecutor::poisonRanges(const ByteSet &dead) const {
  for (const ByteSet::Range &range : dead.ranges())
    driver().cuMemsetD8Async(machine.arena.address(range.begin), 0xff, range.end - range.begin,
                             machine.compute);
}

/// How many things a command puts on streams, at most and about.
int CudaExecutor::callsOf(const Command &command) const {
  const Program &program = machine.transport.program;
  if (command.kind == CommandKind::Launch)
    return static_cast<int>(
        cuda::callsOf(program.cuda.kernels[command.kernel], machine.gemms).size());
  if (command.kind == CommandKind::Collective) {
    int64_t ranks = sizeOf(program.groups[command.collective.group]);
    bool isStaged = cudaStagingBytes(command.collective, ranks) != 0; // a copy or two a rank
    return static_cast<int>(isStaged ? 2 * ranks + 8 : 8);
  }
  return 2;
}

/// The driver blocks when a stream's queue is full, for ever if it is full behind a collective that
/// waits for a lost rank. So no more is handed over than it can take, and meanwhile ranks are
/// watched.
void CudaExecutor::holdBack() {
  machine.watch.wait(name, watched, windows[window].get()); // of two windows ago
  windows[window].record(machine.compute);
  window = 1 - window;
}

void CudaExecutor::enqueueAll(bool isCaptured) {
  int calls = 0; // in this window
  machine.marks.reset(machine.compute);
  if (poison)
    poisonRanges(poison->atStart());
  for (size_t i = 0; i < steps.size(); ++i) {
    const Step &step = *steps[i];
    if (calls > windowCalls && !isCaptured) {
      calls = 0;
      holdBack();
    }
    calls += step.calls + (trace ? 2 : 0);
    CUstream stream = step.ticketed ? step.ticketed->stream.get() : machine.compute;
    try {
      if (trace)
        times[i].begin.record(stream);
      step.enqueue();
      if (trace)
        times[i].end.record(stream);
      if (poison) {
        const ByteSet &dead = poison->diedAfter(i);
        poisonRanges(dead);
        calls += static_cast<int>(dead.ranges().size());
      }
    } catch (const AbortedError &) {
      throw;
    } catch (const Error &error) {
      throw Error(error.status(),
                  cat("command ", i, " (", step.command->name, "): ", error.what()));
    }
  }
}

void CudaExecutor::capture() {
  const Driver &api = driver();
  CUgraph captured = nullptr;
  // Relaxed: NCCL may call from threads of its own, and what it needs to know about memory.
  api.cuStreamBeginCapture(machine.compute, CU_STREAM_CAPTURE_MODE_RELAXED);
  try {
    enqueueAll(/*isCaptured=*/true);
  } catch (...) {
    if (api.cuStreamEndCapture.status(machine.compute, &captured) == 0 && captured)
      api.cuGraphDestroy.status(captured);
    throw;
  }
  api.cuStreamEndCapture(machine.compute, &captured);
  int status = api.cuGraphInstantiate.status(&graph, captured, 0);
  api.cuGraphDestroy.status(captured);
  if (status != 0)
    api.cuGraphInstantiate.fail(status);
  machine.watch.keep(graph);
}

void CudaExecutor::run() {
  machine.watch.checkAlive();
  machine.device.use();
  CUstream compute = machine.compute;
  int64_t hostBegin = 0;
  if (trace) { // the device's times are from here on
    times.back().begin.record(compute);
    driver().cuEventSynchronize(times.back().begin.get());
    hostBegin = nowNs();
  }
  try {
    bool callByCall = !machine.useGraph || !ranBefore || trace || poison || steps.empty();
    if (!callByCall && !graph)
      capture();
    if (callByCall)
      enqueueAll(/*isCaptured=*/false);
    else
      driver().cuGraphLaunch(graph, compute);
  } catch (const std::exception &error) {
    machine.watch.giveUp(error.what());
    throw;
  }
  machine.watch.wait(name, watched);
  ranBefore = true;
  if (trace)
    recordTimes(hostBegin);
}

void CudaExecutor::recordTimes(int64_t hostBegin) {
  auto at = [&](const Event &event) {
    float ms = 0;
    // The last of a communicator's stream may come after what the compute stream has waited for.
    driver().cuEventSynchronize(event.get());
    driver().cuEventElapsedTime(&ms, times.back().begin.get(), event.get());
    return hostBegin + static_cast<int64_t>(ms * 1e6);
  };
  for (size_t i = 0; i < steps.size(); ++i) {
    const Command &command = *steps[i]->command;
    Trace::Track track = steps[i]->ticketed ? Trace::Communication : Trace::Compute;
    trace->add({command.name.c_str(), track, at(times[i].begin), at(times[i].end),
                CommandPlace{name, static_cast<int64_t>(i), command.layer}});
  }
}
