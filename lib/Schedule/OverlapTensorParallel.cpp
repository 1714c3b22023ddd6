//===- OverlapTensorParallel.cpp - Collectives of tensor parallelism beside products -===//
//
// Input: collectives that complete where they stand. Output: those that have something to run
// behind are started and waited for.
//
//     dw = dy · x                                dx = dy · w
//     dx = dy · w                                start all_reduce dx
//     all_reduce dx               becomes        dw = dy · x
//     norm's gradient of dx                      wait
//                                                norm's gradient of dx
//
// What is moved behind the start is what neither the collective nor anything that stays in front of
// it needs, the nearest first, and no more than hides the collective: values live longer for it.
// What follows a collective and does not need it stays where it is. (Megatron-LM does the same by
// hand, with the gradient of a linear layer's weight.)
//
//===----------------------------------------------------------------------===//
#include "Overlap.h"

using namespace mlir;

namespace shardc {

/// One writes what the other reads or writes.
bool Overlapper::conflict(const ProgramCommand &a, const ProgramCommand &b) const {
  auto uses = [&](const ProgramCommand &command, int whole) {
    return llvm::any_of(command.buffers, [&](int x) { return wholeOf(x) == whole; });
  };
  return llvm::any_of(a.writes(), [&](int x) { return uses(b, wholeOf(x)); }) ||
         llvm::any_of(b.writes(), [&](int x) { return uses(a, wholeOf(x)); });
}

/// Returns the number of the next command to look at.
size_t Overlapper::split(size_t at) {
  constexpr size_t kWindow =
      48; // commands; more than a layer's backward pass has between two collectives
  ProgramCommand collective = commands[at];
  double wanted = kOverlapSlack * estimator.micros(collective), hidden = 0;
  size_t end = at + 1;
  while (end < commands.size() && commands[end].kind == CommandKind::Launch &&
         !conflict(commands[end], collective))
    hidden += estimator.micros(commands[end++]);
  SmallVector<size_t> staying = {at}, sinking;
  size_t first = at;
  for (size_t n = at; n-- > 0 && at - n <= kWindow && hidden < wanted &&
                      commands[n].kind == CommandKind::Launch;) {
    if (llvm::any_of(staying, [&](size_t s) { return conflict(commands[n], commands[s]); })) {
      staying.push_back(n);
      continue;
    }
    sinking.push_back(n);
    hidden += estimator.micros(commands[n]);
    first = n;
  }
  // Handing a collective to somebody else is not free either.
  if (hidden < 0.1 * wanted)
    return at + 1;
  std::vector<ProgramCommand> order;
  for (size_t n = first; n < at; ++n)
    if (!llvm::is_contained(sinking, n))
      order.push_back(commands[n]);
  order.push_back(start(collective));
  for (size_t n : llvm::reverse(sinking))
    order.push_back(commands[n]);
  for (size_t n = at + 1; n < end; ++n)
    order.push_back(commands[n]);
  order.push_back(waitFor(order[at - first - sinking.size()]));
  commands.erase(commands.begin() + first, commands.begin() + end);
  commands.insert(commands.begin() + first, order.begin(), order.end());
  return first + order.size();
}

void Overlapper::splitSynchronous() {
  for (size_t n = 0; n < commands.size();) {
    const ProgramCommand &command = commands[n];
    bool isCandidate = isCommunication(command.kind) && !command.canOverlap && command.ticket < 0 &&
                       !isStaged(command) && axesSize(program.groups[command.group]) > 1 &&
                       !llvm::any_of(command.buffers, [&](int b) { return isState(b); });
    n = isCandidate ? split(n) : n + 1;
  }
}

} // namespace shardc
