// Addresses are resolved once, so that running a step costs a switch and the step itself. Nothing
// is allocated here after construction, except what the channel and the trace need.
#include "runtime/core/Executor.h"
#include "runtime/core/Error.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

using namespace shardrt;

static std::byte *allocateScratch(int64_t bytes) {
  void *memory = bytes ? std::aligned_alloc(64, bytes) : nullptr;
  if (bytes && !memory)
    throw Error(SHARDRT_OUT_OF_MEMORY, cat("cannot allocate ", bytes, " bytes of scratch"));
  return static_cast<std::byte *>(memory);
}

Executor::Executor(const Program &program, const std::vector<Command> &commands, std::byte *arena,
                   const KernelLibrary *kernels, const std::vector<int> &groups, Progress &progress,
                   ThreadPool &pool)
    : progress(progress), pool(pool) {
  auto address = [&](int buffer) {
    return buffer < 0 ? nullptr : arena + program.buffers[buffer].offset;
  };
  for (const Command &command : commands) {
    Step step;
    step.command = &command;
    step.kernel = command.kernel < 0 ? nullptr : (*kernels)[command.kernel];
    for (int buffer : command.buffers)
      step.buffers.push_back(address(buffer));
    step.src = address(command.src);
    step.dst = address(command.dst);
    step.call = command.collective;
    step.call.src = step.src;
    step.call.dst = step.dst;
    if (command.kind == CommandKind::Collective || command.kind == CommandKind::Slice) {
      step.call.group = groups[command.collective.group];
      step.groupIndex = progress.channel().groupIndex(step.call.group);
    }
    scratchStride = std::max(scratchStride, ceilDiv(command.scratch, 64) * 64);
    steps.push_back(std::move(step));
  }
  scratch = allocateScratch(scratchStride * pool.threads());
}

Executor::~Executor() { std::free(scratch); }

void Executor::run() {
  for (size_t i = 0; i < steps.size(); ++i)
    try {
      execute(steps[i], static_cast<int64_t>(i));
    } catch (const AbortedError &) {
      throw;
    } catch (const Error &error) {
      throw Error(error.status(),
                  cat("command ", i, " (", steps[i].command->name, "): ", error.what()));
    }
}

void Executor::execute(const Step &step, int64_t index) {
  const Command &command = *step.command;
  if (command.kind == CommandKind::Collective)
    return runCollective(step, index);
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
    progress.wait(command.ticket);
    break;
  case CommandKind::Collective:
    break;
  }
  if (trace)
    trace->add({command.name, Trace::Compute, begin, nowNs(), index, command.layer});
}

void Executor::launch(const Step &step) {
  // One captured pointer beside `this`, so that std::function needs no memory of its own.
  pool.parallelFor(step.command->tiles, [this, &step](int thread, int64_t begin, int64_t end) {
    void *own = step.command->scratch ? scratch + thread * scratchStride : nullptr;
    step.kernel(step.buffers.data(), begin, end, own);
  });
}

void Executor::runCollective(const Step &step, int64_t index) {
  if (step.command->ticket >= 0)
    progress.start(step.call, step.command->ticket, index);
  else
    progress.run(step.call, index);
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
