//===- Timeline.h - A step in time, by estimates --------------------------===//
//
// One rank's computation and its collectives, as the runtimes run them:
//
//   * Collectives of one group run one after the other.
//   * CPUs: those that are only started share one progress thread, so they run one after the other
//     too; one without a ticket runs at once, unless its group has something under way. GPUs: each
//     group has communicators of its own.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_SCHEDULE_TIMELINE_H
#define SHARDC_SCHEDULE_TIMELINE_H

#include "shardc/Support/Target.h"

#include <algorithm>
#include <map>

namespace shardc {

/// Times in microseconds.
class Timeline {
public:
  struct Span {
    double start = 0, end = 0;
    double exposed = 0; ///< of this, computation stands still for so long
  };

  explicit Timeline(Target target) : target(target) {}

  double now() const { return clock; }
  double exposed() const { return waited; }
  Span compute(double micros) {
    clock += micros;
    return {clock - micros, clock};
  }
  /// A collective that is waited for later.
  Span start(int64_t ticket, int group, double micros) {
    double &link = linkOf(group), &thread = target == Target::Cpu ? progress : link;
    double begin = std::max({clock, link, thread});
    link = thread = ends[ticket] = begin + micros;
    return {begin, begin + micros};
  }
  /// One that completes where it stands.
  Span run(int group, double micros) {
    double &link = linkOf(group), begin = std::max(clock, link), before = clock;
    clock = link = begin + micros;
    waited += clock - before;
    return {begin, clock, clock - before};
  }
  /// When a collective that was started ends.
  double endOf(int64_t ticket) const { return ends.at(ticket); }
  bool isUnderWay(int64_t ticket) const { return ends.count(ticket); }
  /// For how long computation stands still.
  double wait(int64_t ticket) {
    double end = ends.at(ticket), before = clock;
    ends.erase(ticket);
    clock = std::max(clock, end);
    waited += clock - before;
    return clock - before;
  }

private:
  double &linkOf(int group) { return links[group]; }

  Target target;
  double clock = 0, waited = 0, progress = 0;
  std::map<int, double> links;
  std::map<int64_t, double> ends;
};

} // namespace shardc

#endif // SHARDC_SCHEDULE_TIMELINE_H
