#include "runtime/channels/Factories.h"
#include "runtime/core/Error.h"
std::unique_ptr<shardrt::Channel> shardrt::createMpiChannel(const ChannelOptions &) {
  throw Error(SHARDRT_INTERNAL, "the MPI channel is not built yet");
}
