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
// Needs no more memory: a whole's pieces live as long as it would.
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

/// Must a collective have ended before the command?
bool Overlapper::mustFollow(const ProgramCommand &command, const ProgramCommand &collective) const {
  auto shares = [&](ArrayRef<int> buffers, ArrayRef<int> others) {
    return llvm::any_of(buffers, [&](int a) {
      return llvm::any_of(others, [&](int b) { return shareBytes(a, b); });
    });
  };
  return shares(command.buffers, collective.writes()) ||
         shares(command.writes(), collective.buffers);
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
    list.push_back(isPiece ? start(std::move(command)) : std::move(command));
    if (isPiece)
      pieces.push_back(list.back());
  }
  for (const ProgramCommand &piece : pieces)
    list.push_back(waitFor(piece));
  commands = std::move(list);
}

} // namespace shardc
