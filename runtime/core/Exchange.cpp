#include "runtime/core/Exchange.h"
#include "runtime/core/Error.h"

#include <algorithm>
#include <cstring>

using namespace shardrt;

static const CommandPlace place{"exchange"}; // in traces
static const int64_t chunkBytes = 64 << 10;

int64_t Exchange::areaBytes(int ranks) { return chunkBytes + 64 + 8 * int64_t(ranks); }

Exchange::Exchange(Progress &progress, std::byte *area)
    : progress(progress), chunk(area), rank(progress.channel().rank),
      ranks(progress.channel().ranks), numbers(ranks), pieces(rank == 0 ? chunkBytes * ranks : 0) {}

void Exchange::barrier() { progress.run(Collective(), place); }

void Exchange::shareNumber(int64_t number) {
  std::byte *all = chunk + chunkBytes + 64;
  std::memcpy(chunk, &number, sizeof(number));
  Collective call;
  call.kind = CollectiveKind::AllGather;
  call.dtype = SHARDRT_I64;
  call.src = chunk;
  call.dst = all;
  call.outer = call.inner = 1;
  call.total = ranks;
  progress.run(call, place);
  std::memcpy(numbers.data(), all, ranks * sizeof(int64_t));
}

void Exchange::collect(const std::byte *mine, int64_t bytes, const Take &take) {
  shareNumber(bytes);
  int64_t most = *std::max_element(numbers.begin(), numbers.end());
  Collective call;
  call.kind = CollectiveKind::Gather;
  call.dtype = SHARDRT_UI8;
  call.src = chunk;
  call.dst = pieces.data();
  for (int64_t at = 0; at < most; at += chunkBytes) {
    call.count = std::min(chunkBytes, most - at);
    if (at < bytes)
      std::memcpy(chunk, mine + at, std::min(chunkBytes, bytes - at));
    progress.run(call, place);
    for (int from = 0; from < ranks && rank == 0; ++from)
      if (at < numbers[from])
        take(from, pieces.data() + from * call.count, std::min(chunkBytes, numbers[from] - at));
  }
}

std::vector<std::string> Exchange::gatherTexts(const std::string &text) {
  std::vector<std::string> texts(rank == 0 ? ranks : 0);
  collect(reinterpret_cast<const std::byte *>(text.data()), static_cast<int64_t>(text.size()),
          [&](int from, const std::byte *data, int64_t count) {
            texts[from].append(reinterpret_cast<const char *>(data), count);
          });
  return texts;
}

void Exchange::broadcast(int root, int64_t bytes) {
  Collective call;
  call.kind = CollectiveKind::Broadcast;
  call.dtype = SHARDRT_UI8;
  call.src = call.dst = chunk;
  call.count = bytes;
  call.root = root;
  progress.run(call, place);
}

std::vector<std::string> Exchange::shareTexts(const std::string &text) {
  std::string all;
  for (const std::string &one : gatherTexts(text))
    all += one;
  shareNumber(static_cast<int64_t>(text.size()));
  int64_t total = 0;
  for (int64_t length : numbers)
    total += length;
  all.resize(total);
  for (int64_t at = 0; at < total; at += chunkBytes) {
    int64_t count = std::min(chunkBytes, total - at);
    std::memcpy(chunk, all.data() + at, count);
    broadcast(0, count);
    std::memcpy(all.data() + at, chunk, count);
  }
  std::vector<std::string> texts;
  size_t at = 0;
  for (int64_t length : numbers) {
    texts.push_back(all.substr(at, length));
    at += length;
  }
  return texts;
}

void Exchange::agree(shardrt_status status, const std::string &problem) {
  shareNumber(problem.empty() ? 0 : 1 + static_cast<int64_t>(status));
  auto first = std::find_if(numbers.begin(), numbers.end(), [](int64_t n) { return n != 0; });
  if (first == numbers.end())
    return;
  int root = static_cast<int>(first - numbers.begin());
  std::memset(chunk, 0, chunkBytes);
  std::memcpy(chunk, problem.data(), std::min<size_t>(problem.size(), chunkBytes - 1));
  broadcast(root, chunkBytes);
  if (rank == root)
    throw Error(status, problem);
  throw AbortedError(cat("rank ", root, ": ", reinterpret_cast<const char *>(chunk)),
                     static_cast<shardrt_status>(*first - 1));
}

void Exchange::together(const std::function<void()> &body) {
  shardrt_status status = SHARDRT_OK;
  std::string problem;
  try {
    body();
  } catch (const AbortedError &) {
    throw; // the channel is of no use any more
  } catch (const Error &error) {
    status = error.status();
    problem = error.what();
  } catch (const std::exception &error) {
    status = SHARDRT_INTERNAL;
    problem = error.what();
  }
  agree(status, problem);
}

void Exchange::sum(std::vector<uint64_t> &values) {
  const size_t most = chunkBytes / sizeof(uint64_t);
  Collective call;
  call.kind = CollectiveKind::AllReduce;
  call.dtype = SHARDRT_UI64;
  call.reduce = SHARDRT_SUM;
  call.src = call.dst = chunk;
  for (size_t at = 0; at < values.size(); at += most) {
    call.count = static_cast<int64_t>(std::min(most, values.size() - at));
    std::memcpy(chunk, values.data() + at, call.count * sizeof(uint64_t));
    progress.run(call, place);
    std::memcpy(values.data() + at, chunk, call.count * sizeof(uint64_t));
  }
}
