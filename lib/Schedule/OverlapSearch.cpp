//===- OverlapSearch.cpp - How far collectives run ahead ------------------===//
//
// What is given as a number stays that number. What is `auto`, or not given where costs were
// measured, is chosen for each entry, by the estimated time of its list:
//
//   1. Of several distances the shortest that is not slower than the best one, first for gathers,
//      then for reductions; tensor parallelism's collectives are split if that is faster. Where the
//      link is the bottleneck, a few units ahead keep it busy; more would only cost memory.
//   2. If the arena is over the limit then, distances go down until it is not.
//
//===----------------------------------------------------------------------===//
#include "Overlap.h"

using namespace mlir;

namespace shardc {
namespace {

/// At most: of what is chosen.
struct Bounds {
  int64_t units, reductions;
  bool tensorParallel;
};

class Search {
public:
  Search(const Program &program, const Estimator &estimator, const ScheduleOptions &options)
      : program(program), estimator(estimator), options(options.overlap),
        isMeasured(options.costs.isMeasured()) {}

  OverlapReach best(const std::vector<ProgramCommand> &list) const {
    OverlapReach reach = given();
    bool hasGathers = llvm::any_of(list, [](const ProgramCommand &c) {
      return c.canOverlap && c.kind == CommandKind::AllGather;
    });
    bool hasReductions = llvm::any_of(list, [](const ProgramCommand &c) {
      return c.canOverlap && c.kind != CommandKind::AllGather;
    });
    if (hasGathers && (reach.isForwardAuto || reach.isBackwardAuto))
      reach = shortest(list, reach, {0, 1, 2, 3, 4, 6, 8}, [](OverlapReach &r, int64_t units) {
        if (r.isForwardAuto)
          r.forward = units;
        if (r.isBackwardAuto)
          r.backward = units;
      });
    if (hasReductions && reach.isReductionsAuto)
      reach = shortest(list, reach, {0, 1, 2, 4, 8},
                       [](OverlapReach &r, int64_t count) { r.reductions = count; });
    if (reach.tensorParallel) {
      OverlapReach without = reach;
      without.tensorParallel = false;
      reach.tensorParallel = micros(list, reach) < micros(list, without);
    }
    return reach;
  }

  static OverlapReach within(OverlapReach reach, const Bounds &bounds) {
    if (reach.isForwardAuto)
      reach.forward = std::min(reach.forward, bounds.units);
    if (reach.isBackwardAuto)
      reach.backward = std::min(reach.backward, bounds.units);
    if (reach.isReductionsAuto)
      reach.reductions = std::min(reach.reductions, bounds.reductions);
    reach.tensorParallel &= bounds.tensorParallel;
    reach.besidePieces &= bounds.tensorParallel;
    return reach;
  }

private:
  /// As the options say; what is auto begins in the middle.
  OverlapReach given() const {
    constexpr int64_t kMiddle = 2;
    OverlapReach reach{options.forwardPrefetch, options.backwardPrefetch, options.reductions};
    for (auto [number, isAuto] : {std::pair(&reach.forward, &reach.isForwardAuto),
                                  std::pair(&reach.backward, &reach.isBackwardAuto),
                                  std::pair(&reach.reductions, &reach.isReductionsAuto)})
      if (*number == OverlapOptions::kNotGiven && !isMeasured) {
        *number = 1;
      } else if (*number < 0) {
        *number = kMiddle;
        *isAuto = true;
      }
    reach.tensorParallel = options.tensorParallel.value_or(isMeasured);
    return reach;
  }

  double micros(const std::vector<ProgramCommand> &list, const OverlapReach &reach) const {
    return estimator.total(Overlapper(program, estimator, reach).run(list));
  }

  OverlapReach shortest(const std::vector<ProgramCommand> &list, OverlapReach reach,
                        ArrayRef<int64_t> distances,
                        llvm::function_ref<void(OverlapReach &, int64_t)> set) const {
    constexpr double kSame = 1.002; // estimates are no better than that
    SmallVector<double> times;
    for (int64_t distance : distances) {
      set(reach, distance);
      times.push_back(micros(list, reach));
    }
    double least = *llvm::min_element(times);
    for (auto [distance, time] : llvm::zip(distances, times))
      if (time <= least * kSame) {
        set(reach, distance);
        break;
      }
    return reach;
  }

  const Program &program;
  const Estimator &estimator;
  const OverlapOptions &options;
  bool isMeasured;
};

} // namespace

void overlapAndPlace(Program &program, ModuleOp module, const ScheduleOptions &options) {
  Estimator estimator(program, module, options.costs);
  Search search(program, estimator, options);
  std::vector<std::vector<ProgramCommand>> lists;
  std::vector<OverlapReach> reaches;
  for (ProgramEntry &entry : program.entries) {
    lists.push_back(std::move(entry.commands));
    reaches.push_back(search.best(lists.back()));
  }
  int64_t behind = program.cuda ? program.cuda->scratch.bytes + program.cuda->workspace.bytes +
                                      program.cuda->staging.bytes
                                : 0;
  static constexpr Bounds all[] = {{8, 8, true},  {4, 4, true},  {2, 2, true}, {1, 1, true},
                                   {1, 1, false}, {0, 1, false}, {0, 0, false}};
  for (const Bounds &bounds : all) {
    for (auto [entry, list, reach] : llvm::zip(program.entries, lists, reaches)) {
      OverlapReach bounded = Search::within(reach, bounds);
      entry.commands = Overlapper(program, estimator, bounded).run(list);
    }
    planArena(program);
    if (options.memoryLimit == 0 || program.arenaBytes + behind <= options.memoryLimit)
      break;
  }
}

} // namespace shardc
