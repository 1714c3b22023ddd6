// Ranks as threads of one process: the region is plain memory, and a thread cannot die alone.
#include "runtime/channels/Factories.h"
#include "runtime/channels/direct/DirectChannel.h"

using namespace shardrt;

std::vector<std::unique_ptr<Channel>>
shardrt::createInProcessChannels(const ChannelOptions &options) {
  auto region = std::make_shared<Region>(
      RegionLayout(options.ranks, options.maxGroups, options.arenaBytes), -1);
  std::vector<std::unique_ptr<Channel>> channels;
  for (int rank = 0; rank < options.ranks; ++rank) {
    ChannelOptions own = options;
    own.rank = rank;
    channels.push_back(std::make_unique<DirectChannel>("inprocess", region, own, nullptr));
  }
  return channels;
}
