#include "runtime/core/Trace.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <time.h>

using namespace shardrt;

int64_t shardrt::nowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t(1000000000) + now.tv_nsec;
}

void Trace::add(Event event) {
  std::lock_guard<std::mutex> lock(mutex);
  event.run = run;
  events.push_back(event);
}

void Trace::nextRun() {
  std::lock_guard<std::mutex> lock(mutex);
  ++run;
}

static std::string metadata(const char *kind, int rank, int track, const std::string &name) {
  nlohmann::json event = {
      {"ph", "M"}, {"name", kind}, {"pid", rank}, {"tid", track}, {"args", {{"name", name}}}};
  return event.dump();
}

std::string Trace::json(int rank) const {
  std::lock_guard<std::mutex> lock(mutex);
  std::string text = metadata("process_name", rank, 0, "rank " + std::to_string(rank)) + ",\n" +
                     metadata("thread_name", rank, Compute, "compute") + ",\n" +
                     metadata("thread_name", rank, Communication, "communication") + ",\n" +
                     metadata("thread_name", rank, Entries, "entries");
  for (const Event &event : events) {
    char times[96];
    std::snprintf(times, sizeof(times), "\"ts\":%.3f,\"dur\":%.3f", event.begin / 1e3,
                  (event.end - event.begin) / 1e3);
    nlohmann::json args = {{"run", event.run}};
    if (event.where.command >= 0)
      args["command"] = event.where.command;
    if (event.where.entry)
      args["entry"] = event.where.entry;
    if (event.where.layer >= 0)
      args["layer"] = event.where.layer;
    text += ",\n{\"ph\":\"X\",\"name\":" + nlohmann::json(event.name).dump() +
            ",\"pid\":" + std::to_string(rank) + ",\"tid\":" + std::to_string(event.track) + "," +
            times + ",\"args\":" + args.dump() + "}";
  }
  return text;
}
