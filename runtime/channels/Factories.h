// How channels come into being.
#pragma once

#include "runtime/channels/Progress.h"
#include "shardrt/channel.h"
#include <map>

struct shardrt_channel_s {
  std::map<int64_t, shardrt::Collective> started; // by ticket, until it was waited for
  std::unique_ptr<shardrt::Progress> progress;    // its thread may use them: it goes first
};

namespace shardrt {

std::vector<std::unique_ptr<Channel>> createInProcessChannels(const ChannelOptions &options);
std::unique_ptr<Channel> createShmChannel(const ChannelOptions &options);
std::unique_ptr<Channel> createMpiChannel(const ChannelOptions &options);
std::unique_ptr<Channel> createTcpChannel(const ChannelOptions &options);

/// Fills in defaults. Throws SHARDRT_INVALID_ARGUMENT.
ChannelOptions resolveOptions(const shardrt_channel_options &options);

} // namespace shardrt
