// Collectives over MPI. Data is exchanged with all-gather and all-to-all only, and reduced here in
// rank order, so that results have the same bits as those of the other channels.
#pragma once

#include "runtime/channels/Channel.h"
#include "runtime/channels/mpi/Shim.h"
#include <deque>
#include <memory>

namespace shardrt {

class MpiChannel : public Channel {
public:
  MpiChannel(const ChannelOptions &options, const shardrt_mpi_shim &shim, bool concurrent);
  ~MpiChannel() override;

  const char *name() const override { return "mpi"; }
  std::byte *arena() override { return memory; }
  int createGroup(const std::vector<int> &ranks) override;
  int groupSize(int group) const override { return groupAt(group).size; }
  int groupIndex(int group) const override { return groupAt(group).index; }
  void run(const Collective &call) override;
  bool concurrent() const override { return isConcurrent; }
  void abort(const std::string &message, shardrt_status status) noexcept override;

private:
  struct Group {
    shardrt_mpi_comm comm = nullptr;
    int size = 0, index = 0;
    std::vector<std::byte> sent, received; // staging; grows to the largest message and stays
  };
  const Group &groupAt(int group) const;
  void allReduce(Group &group, const Collective &call);
  void allReduceSmall(Group &group, const Collective &call);
  void allGather(Group &group, const Collective &call);
  void reduceScatter(Group &group, const Collective &call);
  void allToAll(Group &group, const Collective &call);
  void permute(Group &group, const Collective &call);
  void broadcast(Group &group, const Collective &call);

  void exchange(Group &group, const std::byte *src, std::byte *dst, int64_t each, const char *what);
  void gatherAll(Group &group, const void *src, void *dst, int64_t each, const char *what);
  void check(int error, const char *what) const;
  void complete(shardrt_mpi_request request, const char *what);
  void checkFingerprints();

  ChannelOptions options;
  const shardrt_mpi_shim &shim;
  bool isConcurrent;
  std::byte *memory;
  std::deque<Group> groups;
};

} // namespace shardrt
