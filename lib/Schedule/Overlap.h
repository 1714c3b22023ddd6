//===- Overlap.h - Collectives behind computation -------------------------===//
#ifndef SHARDC_LIB_SCHEDULE_OVERLAP_H
#define SHARDC_LIB_SCHEDULE_OVERLAP_H

#include "Estimate.h"

#include <deque>

namespace shardc {

/// A collective beside computation takes longer than alone, which is how it was measured, and
/// estimates are estimates: what has to be hidden gets so many times its time.
constexpr double kOverlapSlack = 1.5;

/// How far one entry's collectives go, once chosen.
struct OverlapReach {
  int64_t forward = 1, backward = 1,
          reductions = 1; ///< units, units, reductions: exactly, or (auto) at most
  bool isForwardAuto = false, isBackwardAuto = false, isReductionsAuto = false;
  bool tensorParallel = false;
  bool besidePieces = true; ///< launches may move behind the start of the first of several pieces
};

/// Rewrites the command list of one entry (Overlap.cpp says how).
class Overlapper {
public:
  Overlapper(const Program &program, const Estimator &estimator, const OverlapReach &reach)
      : program(program), estimator(estimator), reach(reach) {}
  std::vector<ProgramCommand> run(std::vector<ProgramCommand> list) {
    commands = std::move(list);
    sinkSmallCollectives();
    startPieces();
    if (reach.tensorParallel)
      splitSynchronous();
    prefetchGathers();
    spreadReductions();
    joinIdle();
    return std::move(commands);
  }

private:
  /// A reduction under way, and what waits for it.
  struct Reduction {
    ProgramCommand command;
    std::vector<ProgramCommand> delayed;
    llvm::SmallDenseSet<int> results; ///< whole buffers that hold what depends on it
    llvm::SmallDenseSet<int> sources; ///< that delayed commands read
  };

  /// A gather of parameters, and what makes its source of states: a cast, a gather over the
  /// replicas that share the optimizer's states.
  struct Fetch {
    size_t gather;
    std::optional<size_t> outer, cast;
    size_t unit = 0; ///< a unit has one for each of its buckets
    size_t latest = 0,
           latestOuter =
               0; ///< the last command in front of which they may start, and still end in time

    size_t first() const { return cast ? *cast : outer ? *outer : gather; }
  };

  int wholeOf(int buffer) const { return program.wholeOf(buffer); }
  bool isState(int buffer) const {
    return program.buffers[wholeOf(buffer)].kind == BufferKind::State;
  }
  /// On GPUs there is one staging area: what goes through it completes where it stands.
  bool isStaged(const ProgramCommand &command) const {
    return program.cuda && stagingBytes(program, command) > 0;
  }
  bool canOverlap(const ProgramCommand &command) const {
    return command.canOverlap && !isStaged(command);
  }
  bool isGather(const ProgramCommand &command) const {
    return command.kind == CommandKind::AllGather && canOverlap(command);
  }
  bool isReduction(const ProgramCommand &command) const {
    return (command.kind == CommandKind::ReduceScatter || command.kind == CommandKind::AllReduce) &&
           canOverlap(command);
  }
  ProgramCommand start(ProgramCommand command) {
    command.ticket = tickets++;
    return command;
  }
  static ProgramCommand waitFor(const ProgramCommand &command);

  // Overlap.cpp
  void sinkSmallCollectives();
  void spreadReductions();
  void emit(ProgramCommand command);
  void openReduction(ProgramCommand command);
  void delay(ProgramCommand command, Reduction &behind);
  void retire();
  void retireEnded();
  void joinIdle();
  bool dependsOn(const ProgramCommand &command, const Reduction &reduction) const;

  // OverlapGathers.cpp
  std::vector<Fetch> findFetches() const;
  void findLatestStarts(std::vector<Fetch> &fetches) const;
  void prefetchGathers();
  size_t earliest(size_t gather, size_t first) const;

  // OverlapPieces.cpp
  void startPieces();
  bool shareBytes(int a, int b) const;
  std::vector<ProgramCommand> takeBeside(const ProgramCommand &collective,
                                         std::vector<ProgramCommand> &list) const;
  bool mustFollow(const ProgramCommand &command, const ProgramCommand &other) const;

  // OverlapTensorParallel.cpp
  void splitSynchronous();
  size_t split(size_t at);
  bool conflict(const ProgramCommand &a, const ProgramCommand &b) const;

  const Program &program;
  const Estimator &estimator;
  const OverlapReach &reach;
  std::vector<ProgramCommand> commands;
  int64_t tickets = 0;
  // Of spreadReductions.
  std::vector<ProgramCommand> out;
  std::deque<Reduction> open;
  std::optional<Timeline> timeline;
};

} // namespace shardc

#endif // SHARDC_LIB_SCHEDULE_OVERLAP_H
