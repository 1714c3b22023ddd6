//===- ApiStream.cpp - Streams, events, host functions --------------------===//
#include "Driver.h"
#include <algorithm>
#include <unistd.h>

namespace fake {

Stream &streamOf(CUstream_st *handle, Device &device) {
  // Null, and CU_STREAM_LEGACY.
  if (reinterpret_cast<uintptr_t>(handle) <= 1)
    return device.nullStream;
  auto *stream = reinterpret_cast<Stream *>(handle);
  if (std::find(device.streams.begin(), device.streams.end(), stream) == device.streams.end())
    throw CudaError{InvalidHandle};
  return *stream;
}

static void merge(std::vector<size_t> &into, const std::vector<size_t> &from) {
  into.insert(into.end(), from.begin(), from.end());
  std::sort(into.begin(), into.end());
  into.erase(std::unique(into.begin(), into.end()), into.end());
}

/// The stream's next node comes behind what the event has recorded; a stream that does not capture
/// yet joins.
static int waitInCapture(Stream &stream, const Event &event) {
  if (!event.capture)
    return CaptureIsolation;
  if (event.capture->ended)
    return CapturedEvent;
  if (stream.capture && stream.capture != event.capture)
    return CaptureMerge;
  if (!stream.capture) {
    stream.capture = event.capture;
    stream.captureLane = stream.capture->graph.lanes++;
    stream.tail.clear();
    stream.capture->streams.push_back(&stream);
  }
  merge(stream.tail, event.tail);
  return Success;
}

} // namespace fake

using namespace fake;

FAKE_API int cuStreamCreateWithPriority(Stream **stream, unsigned flags, int priority) {
  return guarded([&] {
    Lock lock(state().mutex);
    Device &device = current();
    if (flags > 1)
      return InvalidValue;
    // Streams are never freed: the device's thread may look at them.
    *stream = new Stream{makeLane(device), !(flags & 1), priority, nullptr, {}, 0};
    device.streams.push_back(*stream);
    device.lanes.push_back(&(*stream)->lane);
    LogLine("stream").add("lane", (*stream)->lane.index).add("priority", std::to_string(priority));
    return Success;
  });
}

FAKE_API int cuStreamCreate(Stream **stream, unsigned flags) {
  return cuStreamCreateWithPriority(stream, flags, 0);
}

FAKE_API int cuStreamDestroy_v2(CUstream_st *handle) {
  return guarded([&] {
    Lock lock(state().mutex);
    Device &device = current(true);
    Stream &stream = streamOf(handle, device);
    if (&stream == &device.nullStream)
      return InvalidHandle;
    device.streams.erase(std::find(device.streams.begin(), device.streams.end(), &stream));
    return Success;
  });
}

/// Whoever asks again and again leaves the lock to the device.
static int giveWay(int result) {
  if (result == NotReady)
    usleep(20);
  return result;
}

FAKE_API int cuStreamQuery(CUstream_st *handle) {
  return giveWay(guarded([&]() -> int {
    Lock lock(state().mutex);
    Device &device = current();
    Stream &stream = streamOf(handle, device);
    return stream.capture ? CaptureUnsupported : query(device, stream.lane.last);
  }));
}

FAKE_API int cuStreamSynchronize(CUstream_st *handle) {
  return guarded([&]() -> int {
    Lock lock(state().mutex);
    Device &device = current();
    Stream &stream = streamOf(handle, device);
    LogLine("synchronize").add("what", "stream").add("lane", stream.lane.index);
    return stream.capture ? CaptureUnsupported : waitFor(lock, device, stream.lane.last);
  });
}

FAKE_API int cuStreamWaitEvent(CUstream_st *handle, Event *event, unsigned flags) {
  return guarded([&]() -> int {
    Lock lock(state().mutex);
    Stream &stream = streamOf(handle, current());
    if (flags)
      return InvalidValue;
    if (stream.capture || event->capture)
      return waitInCapture(stream, *event);
    if (event->op)
      enqueue(stream, {"wait", "event", {}}, {event->op});
    return Success;
  });
}

FAKE_API int cuEventCreate(Event **event, unsigned flags) {
  return guarded([&] {
    current();
    if (flags > 3)
      return InvalidValue;
    *event = new Event{!(flags & 2), nullptr, nullptr, {}};
    return Success;
  });
}

FAKE_API int cuEventDestroy_v2(Event *event) {
  Lock lock(state().mutex);
  delete event;
  return Success;
}

FAKE_API int cuEventRecord(Event *event, CUstream_st *handle) {
  return guarded([&]() -> int {
    Lock lock(state().mutex);
    Stream &stream = streamOf(handle, current());
    event->capture = stream.capture;
    event->tail = stream.tail;
    event->op = stream.capture ? nullptr : enqueue(stream, {"record", "event", {}});
    return Success;
  });
}

FAKE_API int cuEventQuery(Event *event) {
  return giveWay(guarded([&]() -> int {
    Lock lock(state().mutex);
    return event->capture ? CapturedEvent : query(current(), event->op);
  }));
}

FAKE_API int cuEventSynchronize(Event *event) {
  return guarded([&]() -> int {
    Lock lock(state().mutex);
    Device &device = current();
    LogLine("synchronize").add("what", "event").add("op", event->op ? event->op->id : 0);
    return event->capture ? CapturedEvent : waitFor(lock, device, event->op);
  });
}

FAKE_API int cuEventElapsedTime(float *milliseconds, Event *from, Event *to) {
  return guarded([&]() -> int {
    Lock lock(state().mutex);
    current();
    if (!from->timing || !to->timing || !from->op || !to->op)
      return InvalidHandle;
    if (!from->op->done || !to->op->done)
      return NotReady;
    *milliseconds =
        std::chrono::duration<float, std::milli>(to->op->finished - from->op->finished).count();
    return Success;
  });
}
FAKE_API int cuEventElapsedTime_v2(float *milliseconds, Event *from, Event *to) {
  return cuEventElapsedTime(milliseconds, from, to);
}

FAKE_API int cuLaunchHostFunc(CUstream_st *stream, void (*function)(void *), void *data) {
  return submit(stream, {"host", "function", [=] {
                           return [=](Accesses &) {
                             function(data);
                             return true;
                           };
                         }});
}
