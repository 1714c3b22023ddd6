//===- ApiGraph.cpp - Capture and replay ----------------------------------===//
#include "Driver.h"
#include <algorithm>

using namespace fake;

FAKE_API int cuStreamBeginCapture_v2(CUstream_st *handle, int mode) {
  return guarded([&]() -> int {
    Lock lock(state().mutex);
    Device &device = current();
    Stream &stream = streamOf(handle, device);
    if (&stream == &device.nullStream || stream.capture || mode < 0 || mode > 2)
      return stream.capture ? InvalidValue : CaptureUnsupported;
    stream.capture = std::make_shared<Capture>();
    stream.capture->origin = &stream;
    stream.capture->streams = {&stream};
    stream.captureLane = stream.capture->graph.lanes++;
    stream.tail.clear();
    LogLine("begin capture").add("lane", stream.lane.index);
    return Success;
  });
}

FAKE_API int cuStreamIsCapturing(CUstream_st *handle, int *status) {
  return guarded([&] {
    Lock lock(state().mutex);
    *status = streamOf(handle, current()).capture ? 1 : 0;
    return Success;
  });
}

FAKE_API int cuStreamEndCapture(CUstream_st *handle, Graph **graph) {
  return guarded([&]() -> int {
    Lock lock(state().mutex);
    Stream &stream = streamOf(handle, current());
    std::shared_ptr<Capture> capture = stream.capture;
    *graph = nullptr;
    if (!capture || capture->origin != &stream)
      return capture ? CaptureUnmatched : InvalidValue;
    // Everything must come before the origin's end.
    std::vector<bool> joined(capture->graph.nodes.size());
    for (size_t node : stream.tail)
      joined[node] = true;
    for (size_t node = joined.size(); node-- > 0;)
      if (joined[node])
        for (size_t dependency : capture->graph.nodes[node].dependencies)
          joined[dependency] = true;
    capture->ended = true;
    for (Stream *member : capture->streams)
      member->capture = nullptr;
    LogLine("end capture").add("lane", stream.lane.index).add("nodes", joined.size());
    for (size_t node = 0; node < joined.size(); ++node)
      if (!joined[node]) {
        const Operation &operation = capture->graph.nodes[node].operation;
        complain("capture: nothing waits for " + operation.kind + " " + operation.name);
        return CaptureUnjoined;
      }
    *graph = new Graph(std::move(capture->graph));
    return Success;
  });
}

FAKE_API int cuGraphInstantiateWithFlags(GraphExec **exec, Graph *graph, unsigned long long flags) {
  return guarded([&] {
    Lock lock(state().mutex);
    Device &device = current();
    if (flags & ~uint64_t(15))
      return InvalidValue;
    *exec = new GraphExec{*graph, {}};
    for (unsigned lane = 0; lane < graph->lanes; ++lane) {
      (*exec)->lanes.push_back(makeLane(device));
      device.lanes.push_back(&(*exec)->lanes.back());
    }
    return Success;
  });
}

FAKE_API int cuGraphLaunch(GraphExec *exec, CUstream_st *handle) {
  return guarded([&]() -> int {
    Lock lock(state().mutex);
    Device &device = current();
    Stream &stream = streamOf(handle, device);
    if (stream.capture)
      return CaptureUnsupported;
    LogLine("launch graph").add("lane", stream.lane.index).add("nodes", exec->graph.nodes.size());
    launchGraph(*exec, stream);
    return Success;
  });
}

FAKE_API int cuGraphDestroy(Graph *graph) {
  delete graph;
  return Success;
}

FAKE_API int cuGraphExecDestroy(GraphExec *exec) {
  // The lanes stay: the device's thread may look at them.
  Lock lock(state().mutex);
  exec->graph = {};
  return Success;
}
