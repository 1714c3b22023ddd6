//===- Calls.cpp - Libnccl.so.2: collectives and groups -------------------===//
#include "Nccl.h"

using namespace fake;
using namespace fake::nccl;

using Handle = CommunicatorPtr *;

namespace {

struct Pending {
  CommunicatorPtr communicator;
  CUstream_st *stream;
  std::vector<Call> calls;
};

/// Of this thread.
struct GroupState {
  int depth = 0, error = Success;
  std::vector<Pending> pending;
};
thread_local GroupState group;

void describe(const Pending &pending) {
  for (const Call &call : pending.calls) {
    const CallFacts &facts = call.facts;
    uint64_t bytes = facts.count * bytesOf(facts.dtype), ranks = pending.communicator->ranks;
    LogLine("collective")
        .add("comm", pending.communicator->id)
        .add("rank", pending.communicator->rank)
        .add("what", facts.text())
        .add("source", call.source)
        .add("source_bytes", facts.kind == Kind::ReduceScatter ? bytes * ranks
                             : call.source                     ? bytes
                                                               : 0)
        .add("target", call.target)
        .add("target_bytes", facts.kind == Kind::AllGather ? bytes * ranks
                             : call.target                 ? bytes
                                                           : 0);
  }
}

/// Calls are numbered when they are made known to the device: at each launch of a captured one.
int submitGroup(Pending pending) {
  Communicator &c = *pending.communicator;
  std::string name = pending.calls[0].facts.text();
  name.resize(name.rfind(", call"));
  name +=
      pending.calls.size() > 1 ? " and " + std::to_string(pending.calls.size() - 1) + " more" : "";
  {
    std::lock_guard<std::mutex> lock(c.mutex);
    c.polled = c.blocking;
  }
  int error = submit(pending.stream, {"nccl", name, [pending] {
                                        Pending numbered = pending;
                                        for (Call &call : numbered.calls)
                                          call.facts.number = call.facts.kind < Kind::Send
                                                                  ? numbered.communicator->calls++
                                                                  : 0;
                                        describe(numbered);
                                        return makeStep(numbered.communicator, numbered.calls);
                                      }});
  return error        ? refuse(CudaFailed, name + ": CUDA error " + std::to_string(error))
         : c.blocking ? Success
                      : InProgress;
}

int endGroup() {
  std::vector<Pending> pending;
  pending.swap(group.pending);
  int result = group.error;
  group.error = Success;
  for (Pending &one : pending)
    if (result == Success || result == InProgress)
      result = std::max(result, submitGroup(std::move(one)));
  return result;
}

int check(Communicator &c, const Call &call) {
  const CallFacts &facts = call.facts;
  if (c.error)
    return c.error;
  if (!c.joined || !c.polled)
    return refuse(InvalidUsage,
                  facts.text() +
                      ": the communicator is still in progress, ask ncclCommGetAsyncError first");
  if (c.finalised)
    return refuse(InvalidUsage, facts.text() + ": the communicator is finalized");
  if (facts.reduce < 0 || facts.reduce > 3 || facts.root < 0 || facts.root >= int(c.ranks))
    return refuse(InvalidArgument, "reduction " + std::to_string(facts.reduce) + ", root " +
                                       std::to_string(facts.root));
  if (call.peer < 0 || call.peer >= int(c.ranks))
    return refuse(InvalidArgument, facts.text() + ": peer " + std::to_string(call.peer) + " of " +
                                       std::to_string(c.ranks));
  return Success;
}

int add(Kind kind, const void *source, void *target, uint64_t count, int dtype, int reduction,
        int root, int peer, Handle handle, CUstream_st *stream) {
  if (!bytesOf(dtype))
    return refuse(InvalidArgument, "type " + std::to_string(dtype));
  Call call{{kind, dtype, reduction, root, count, 0},
            reinterpret_cast<uint64_t>(source),
            reinterpret_cast<uint64_t>(target),
            peer};
  if (int error = check(**handle, call))
    return group.error = group.depth ? error : Success, error;
  if (count) {
    Pending *open = nullptr;
    for (Pending &pending : group.pending)
      if (pending.communicator == *handle)
        open = &pending;
    if (open && open->stream != stream)
      return refuse(InvalidUsage,
                    call.facts.text() + ": a group uses one communicator in two streams");
    if (!open)
      open = &group.pending.emplace_back(Pending{*handle, stream, {}});
    open->calls.push_back(call);
  }
  return group.depth ? Success : endGroup();
}

} // namespace

FAKE_API int ncclGroupStart() { return ++group.depth, Success; }
FAKE_API int ncclGroupEnd() {
  if (!group.depth)
    return refuse(InvalidUsage, "ncclGroupEnd without ncclGroupStart");
  return --group.depth ? Success : endGroup();
}

FAKE_API int ncclAllReduce(const void *source, void *target, size_t count, int dtype, int reduction,
                           Handle comm, CUstream_st *stream) {
  return add(Kind::AllReduce, source, target, count, dtype, reduction, 0, 0, comm, stream);
}
FAKE_API int ncclAllGather(const void *source, void *target, size_t count, int dtype, Handle comm,
                           CUstream_st *stream) {
  return add(Kind::AllGather, source, target, count, dtype, 0, 0, 0, comm, stream);
}
FAKE_API int ncclReduceScatter(const void *source, void *target, size_t count, int dtype,
                               int reduction, Handle comm, CUstream_st *stream) {
  return add(Kind::ReduceScatter, source, target, count, dtype, reduction, 0, 0, comm, stream);
}
FAKE_API int ncclBroadcast(const void *source, void *target, size_t count, int dtype, int root,
                           Handle comm, CUstream_st *stream) {
  return add(Kind::Broadcast, source, target, count, dtype, 0, root, 0, comm, stream);
}
FAKE_API int ncclSend(const void *source, size_t count, int dtype, int peer, Handle comm,
                      CUstream_st *stream) {
  return add(Kind::Send, source, nullptr, count, dtype, 0, 0, peer, comm, stream);
}
FAKE_API int ncclRecv(void *target, size_t count, int dtype, int peer, Handle comm,
                      CUstream_st *stream) {
  return add(Kind::Receive, nullptr, target, count, dtype, 0, 0, peer, comm, stream);
}
