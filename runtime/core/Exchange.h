// Messages between the sessions of a job, through a small area behind the program's arena. All
// calls are collective.
#pragma once

#include "runtime/channels/Progress.h"
#include "shardrt/status.h"
#include <functional>
#include <string>

namespace shardrt {

class Exchange {
public:
  /// Bytes of the area for this many ranks.
  static int64_t areaBytes(int ranks);
  Exchange(Progress &progress, std::byte *area);

  void barrier();
  /// Every rank's text, in rank order, on rank 0; empty elsewhere.
  std::vector<std::string> gatherTexts(const std::string &text);
  /// Every rank's text, in rank order, on all ranks.
  std::vector<std::string> shareTexts(const std::string &text);
  /// Returns if no rank has a problem. Otherwise all ranks throw that of the first one that has:
  /// this one an Error, the others an AbortedError that names it, of the same status.
  void agree(shardrt_status status, const std::string &problem);
  /// Runs `body` on every rank; if it throws on one, all ranks throw, as above. It must not
  /// communicate.
  void together(const std::function<void()> &body);
  /// Sums over ranks, modulo 2^64, everywhere.
  void sum(std::vector<uint64_t> &values);
  /// Rank 0 gets every rank's bytes piece by piece: take(from, data, count), in order.
  using Take = std::function<void(int from, const std::byte *data, int64_t count)>;
  void collect(const std::byte *mine, int64_t bytes, const Take &take);

private:
  void broadcast(int root, int64_t bytes); // the first bytes of `chunk`
  void shareNumber(int64_t number);        // into `numbers`

  Progress &progress;
  std::byte *chunk;
  int rank, ranks;
  std::vector<int64_t> numbers;  // one a rank
  std::vector<std::byte> pieces; // on rank 0: one chunk a rank
};

} // namespace shardrt
