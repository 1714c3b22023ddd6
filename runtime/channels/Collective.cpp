// Arithmetic on collective calls that does not depend on the channel.
#include "runtime/channels/Collective.h"

using namespace shardrt;

const char *shardrt::collectiveName(CollectiveKind kind) {
  static const char *const names[] = {"all_reduce", "all_gather", "reduce_scatter", "all_to_all",
                                      "permute",    "broadcast",  "gather",         "barrier"};
  return names[static_cast<int>(kind)];
}

static std::optional<int64_t> product(std::optional<int64_t> a, std::optional<int64_t> b) {
  return a && b ? checkedMul(*a, *b) : std::nullopt;
}

static std::optional<CollectiveBytes> pair(std::optional<int64_t> src, std::optional<int64_t> dst) {
  if (!src || !dst)
    return std::nullopt;
  return CollectiveBytes{*src, *dst};
}

static std::optional<CollectiveBytes> allToAllBytes(const Collective &call, int64_t size) {
  int dims = static_cast<int>(call.shape.size());
  if (call.splitDim < 0 || call.splitDim >= dims || call.concatDim < 0 || call.concatDim >= dims ||
      call.splitDim == call.concatDim || call.concatTotal < 0 ||
      call.shape[call.concatDim] != ceilDiv(call.concatTotal, size))
    return std::nullopt;
  Shape result = call.shape;
  result[call.splitDim] = ceilDiv(result[call.splitDim], size);
  result[call.concatDim] = call.concatTotal;
  return pair(checkedBytes(call.shape, call.dtype), checkedBytes(result, call.dtype));
}

std::optional<CollectiveBytes> shardrt::collectiveBytes(const Collective &call, int64_t size) {
  std::optional<int64_t> count = product(call.count, dtypeSize(call.dtype));
  std::optional<int64_t> outer = product(call.outer, dtypeSize(call.dtype));
  std::optional<int64_t> covered = product(call.inner, size);
  bool rowsMatch = call.total >= 0 && covered && *covered >= call.total; // no row without an owner
  switch (call.kind) {
  case CollectiveKind::AllReduce:
  case CollectiveKind::Permute:
  case CollectiveKind::Broadcast:
    return pair(count, count);
  case CollectiveKind::Gather:
    return pair(count, product(count, size));
  case CollectiveKind::AllGather:
    return rowsMatch ? pair(product(outer, call.inner), product(outer, call.total)) : std::nullopt;
  case CollectiveKind::ReduceScatter:
    return rowsMatch ? pair(product(outer, call.total), product(outer, call.inner)) : std::nullopt;
  case CollectiveKind::AllToAll:
    return allToAllBytes(call, size);
  case CollectiveKind::Barrier:
    return CollectiveBytes{0, 0};
  }
  return std::nullopt;
}

static int64_t productOf(const Shape &shape, int begin, int end) {
  int64_t result = 1;
  for (int i = begin; i < end; ++i)
    result *= shape[i];
  return result;
}

AllToAllView::AllToAllView(const Collective &call, int64_t size)
    : splitFirst(call.splitDim < call.concatDim), splitTotal(call.shape[call.splitDim]),
      splitLocal(ceilDiv(splitTotal, size)), concatTotal(call.concatTotal),
      concatLocal(ceilDiv(concatTotal, size)) {
  int first = splitFirst ? call.splitDim : call.concatDim;
  int second = splitFirst ? call.concatDim : call.splitDim;
  before = productOf(call.shape, 0, first);
  between = productOf(call.shape, first + 1, second);
  after = productOf(call.shape, second + 1, static_cast<int>(call.shape.size()));
}

static int64_t offsetOf(const AllToAllView &view, int64_t splitSize, int64_t concatSize, int64_t b,
                        int64_t split, int64_t m, int64_t concat) {
  int64_t firstSize = view.splitFirst ? splitSize : concatSize;
  int64_t secondSize = view.splitFirst ? concatSize : splitSize;
  int64_t first = view.splitFirst ? split : concat, second = view.splitFirst ? concat : split;
  return (((b * firstSize + first) * view.between + m) * secondSize + second) * view.after;
}

int64_t AllToAllView::srcOffset(int64_t b, int64_t split, int64_t m, int64_t concat) const {
  return offsetOf(*this, splitTotal, concatLocal, b, split, m, concat);
}

int64_t AllToAllView::dstOffset(int64_t b, int64_t split, int64_t m, int64_t concat) const {
  return offsetOf(*this, splitLocal, concatTotal, b, split, m, concat);
}

int64_t AllToAllView::blockOffset(int64_t b, int64_t split, int64_t m, int64_t concat) const {
  return offsetOf(*this, splitLocal, concatLocal, b, split, m, concat);
}
