//===- OverlapPieces.cpp - Pieces of collectives beside products of others -===//
//
// Input: collectives that are pieces (`shard.piece`), in the order in which Decompose put them.
// Output: each is started where it stands, and waited for in front of the first command that needs
// its result, or changes its source.
//
//     all_gather x0                          start all_gather x0
//     all_gather x1                          start all_gather x1
//     y0 = product of x0                     wait x0
//     reduce_scatter y0         becomes      y0 = product of x0
//     y1 = product of x1                     start reduce_scatter y0
//     reduce_scatter y1                      wait x1
//                                            y1 = product of x1
//                                            …
//
// A whole's pieces live as long as it would. In front of the first gather of a chain nothing is
// under way: what it does not need, such as gradients of weights that stand before it, moves behind
// its start, the nearest first, and no more than hides it.
//
//===----------------------------------------------------------------------===//
#include "Overlap.h"

using namespace mlir;

namespace shardc {

/// Have they bytes in common? Pieces lie side by side in one buffer.
bool Overlapper::shareBytes(int a, int b) const {
  auto beginOf = [&](int buffer) {
    int64_t begin = 0;
    for (; program.buffers[buffer].whole >= 0; buffer = program.buffers[buffer].whole)
      begin += program.buffers[buffer].begin;
    return begin;
  };
  int64_t beginA = beginOf(a), beginB = beginOf(b);
  return wholeOf(a) == wholeOf(b) && beginA < beginB + program.buffers[b].bytes &&
         beginB < beginA + program.buffers[a].bytes;
}

/// Has one what the other writes? They keep their order then.
bool Overlapper::mustFollow(const ProgramCommand &command, const ProgramCommand &other) const {
  auto shares = [&](ArrayRef<int> buffers, ArrayRef<int> others) {
    return llvm::any_of(buffers, [&](int a) {
      return llvm::any_of(others, [&](int b) { return shareBytes(a, b); });
    });
  };
  return shares(command.buffers, other.writes()) || shares(command.writes(), other.buffers);
}

/// Takes launches out of the end of `list` that neither the collective nor what stays behind them
/// needs.
std::vector<ProgramCommand> Overlapper::takeBeside(const ProgramCommand &collective,
                                                   std::vector<ProgramCommand> &list) const {
  constexpr size_t kWindow = 48; // commands, as in split
  double wanted = kOverlapSlack * estimator.micros(collective), hidden = 0;
  std::vector<ProgramCommand> staying = {collective}, taken; // both the last first
  size_t end = list.size();
  while (end > 0 && list.size() - end < kWindow && hidden < wanted) {
    ProgramCommand &command = list[--end];
    bool canMove = command.kind == CommandKind::Launch &&
                   llvm::none_of(staying, [&](const ProgramCommand &other) {
                     return mustFollow(command, other);
                   });
    if (canMove)
      hidden += estimator.micros(command);
    (canMove ? taken : staying).push_back(std::move(command));
  }
  list.resize(end, ProgramCommand{CommandKind::Wait});
  list.insert(list.end(), std::make_move_iterator(staying.rbegin()),
              std::make_move_iterator(std::prev(staying.rend())));
  std::reverse(taken.begin(), taken.end());
  return taken;
}

void Overlapper::startPieces() {
  std::vector<ProgramCommand> list;
  std::deque<ProgramCommand> pieces; // under way
  for (ProgramCommand &command : commands) {
    for (auto piece = pieces.begin(); piece != pieces.end();) {
      bool isNeeded = mustFollow(command, *piece);
      if (isNeeded)
        list.push_back(waitFor(*piece));
      piece = isNeeded ? pieces.erase(piece) : std::next(piece);
    }
    bool isPiece = command.isPiece && !isStaged(command);
    std::vector<ProgramCommand> beside;
    if (isPiece && command.kind == CommandKind::AllGather && pieces.empty() && reach.besidePieces)
      beside = takeBeside(command, list);
    list.push_back(isPiece ? start(std::move(command)) : std::move(command));
    if (isPiece)
      pieces.push_back(list.back());
    llvm::append_range(list, beside);
  }
  for (const ProgramCommand &piece : pieces)
    list.push_back(waitFor(piece));
  commands = std::move(list);
}

} // namespace shardc
