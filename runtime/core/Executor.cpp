// Addresses are resolved once, so that running a step costs a switch and the step itself. Nothing
// is allocated after construction, except by a trace.
#include "runtime/core/Executor.h"
#include "runtime/core/Error.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

using namespace shardrt;

Scratch::Scratch(const Program &program, int threads) {
  auto add = [&](const std::vector<Command> &commands) {
    for (const Command &command : commands)
      stride = std::max(stride, ceilDiv(command.scratch, 64) * 64);
  };
  add(program.init);
  for (const Entry &entry : program.entries)
    add(entry.commands);
  total = stride * threads;
  memory.reset(total ? static_cast<std::byte *>(std::aligned_alloc(64, total)) : nullptr);
  if (total && !memory)
    throw Error(SHARDRT_OUT_OF_MEMORY, cat("cannot allocate ", total, " bytes of scratch"));
}

void Scratch::Free::operator()(std::byte *memory) const { std::free(memory); }

Executor::Executor(const Machine &machine, const std::vector<Command> &commands, const char *name)
    : machine(machine), name(name) {
  size_t open = 0;
  for (const Command &command : commands) {
    steps.push_back(makeStep(command));
    if (command.kind == CommandKind::Collective && command.ticket >= 0)
      mostOutstanding = std::max(mostOutstanding, ++open);
    else if (command.kind == CommandKind::Wait)
      --open;
  }
}

Executor::Step Executor::makeStep(const Command &command) const {
  auto address = [&](int buffer) {
    return buffer < 0 ? nullptr : machine.arena + machine.program.buffers[buffer].offset;
  };
  Step step;
  step.command = &command;
  step.kernel = command.kernel < 0 ? nullptr : (*machine.kernels)[command.kernel];
  for (int buffer : command.buffers)
    step.buffers.push_back(address(buffer));
  step.src = address(command.src);
  step.dst = address(command.dst);
  step.call = command.collective;
  step.call.src = step.src;
  step.call.dst = step.dst;
  if (command.kind == CommandKind::Collective || command.kind == CommandKind::Slice) {
    step.call.group = machine.groups[command.collective.group];
    step.groupIndex = machine.progress.channel().groupIndex(step.call.group);
  }
  return step;
}

void Executor::run() {
  if (poison)
    poison->start(machine.arena);
  for (size_t i = 0; i < steps.size(); ++i)
    try {
      execute(steps[i], static_cast<int64_t>(i));
      if (poison)
        poison->after(i, machine.arena);
    } catch (const AbortedError &) {
      throw;
    } catch (const Error &error) {
      throw Error(error.status(),
                  cat("command ", i, " (", steps[i].command->name, "): ", error.what()));
    }
}

void Executor::execute(const Step &step, int64_t index) {
  const Command &command = *step.command;
  CommandPlace where{name, index, command.layer};
  if (command.kind == CommandKind::Collective)
    return runCollective(step, where);
  int64_t begin = trace ? nowNs() : 0;
  switch (command.kind) {
  case CommandKind::Launch:
    launch(step);
    break;
  case CommandKind::Slice:
    slice(step);
    break;
  case CommandKind::Copy:
    std::memmove(step.dst, step.src, command.bytes);
    break;
  case CommandKind::Zero:
    std::memset(step.dst, 0, command.bytes);
    break;
  case CommandKind::Wait:
    machine.progress.wait(command.ticket);
    break;
  case CommandKind::Collective:
    break;
  }
  if (trace)
    trace->add({command.name.c_str(), Trace::Compute, begin, nowNs(), where});
}

void Executor::launch(const Step &step) {
  // No more than two captured pointers, so that std::function needs no memory of its own.
  machine.pool.parallelFor(
      step.command->tiles, [this, &step](int thread, int64_t begin, int64_t end) {
        void *own = step.command->scratch ? machine.scratch.of(thread) : nullptr;
        step.kernel(step.buffers.data(), begin, end, own);
      });
}

void Executor::runCollective(const Step &step, const CommandPlace &where) {
  if (step.command->ticket >= 0)
    machine.progress.start(step.call, step.command->ticket, where);
  else
    machine.progress.run(step.call, where);
}

void Executor::slice(const Step &step) {
  const Collective &call = step.call;
  int64_t size = dtypeSize(call.dtype), begin = std::min(step.groupIndex * call.inner, call.total);
  int64_t valid = std::min(call.inner, call.total - begin);
  for (int64_t o = 0; o < call.outer; ++o) {
    std::byte *row = step.dst + o * call.inner * size;
    std::memmove(row, step.src + (o * call.total + begin) * size, valid * size);
    std::memset(row + valid * size, 0, (call.inner - valid) * size);
  }
}
