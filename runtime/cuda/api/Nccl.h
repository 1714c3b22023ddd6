// NCCL, libnccl.so.2, by the names and values of nccl.h (2.28).
#pragma once

#include "runtime/cuda/api/Driver.h"
#include <climits>

namespace shardrt::cuda {

using ncclComm_t = struct ncclComm *;
using ncclWindow_t = struct ncclWindow_vidmem *;
struct ncclUniqueId {
  char internal[128];
};

constexpr int ncclSuccess = 0;
constexpr int ncclInProgress = 7;

constexpr int ncclSum = 0, ncclProd = 1, ncclMax = 2, ncclMin = 3;
constexpr int ncclInt8 = 0, ncclUint8 = 1, ncclInt32 = 2, ncclUint32 = 3, ncclInt64 = 4,
              ncclUint64 = 5, ncclFloat16 = 6, ncclFloat32 = 7, ncclFloat64 = 8, ncclBfloat16 = 9;
constexpr int NCCL_WIN_COLL_SYMMETRIC = 1;

/// As of 2.28; newer versions read what this size has.
struct ncclConfig {
  size_t size = sizeof(ncclConfig);
  unsigned magic = 0xcafebeef;
  unsigned version = 2 * 10000 + 28 * 100;
  int blocking = INT_MIN; // INT_MIN and null: NCCL's default
  int cgaClusterSize = INT_MIN, minCTAs = INT_MIN, maxCTAs = INT_MIN;
  const char *netName = nullptr;
  int splitShare = INT_MIN, trafficClass = INT_MIN;
  const char *commName = nullptr;
  int collnetEnable = INT_MIN, CTAPolicy = INT_MIN, shrinkShare = INT_MIN, nvlsCTAs = INT_MIN,
      nChannelsPerNetPeer = INT_MIN, nvlinkCentricSched = INT_MIN;
};

class Nccl : public Library {
public:
  Nccl();
  /// Communicators do not block: a call that goes on is no failure.
  bool isFailure(int status) const override {
    return status != ncclSuccess && status != ncclInProgress;
  }
  [[noreturn]] void fail(const char *symbol, int status) const override;

private:
  Function<int(int *)> ncclGetVersion{*this, "ncclGetVersion"};

public:
  const int version = checkedVersion(); // 22809: 2.28.9

  Function<int(ncclUniqueId *)> ncclGetUniqueId{*this, "ncclGetUniqueId"};
  Function<int(ncclComm_t *, int, ncclUniqueId, int, ncclConfig *)> ncclCommInitRankConfig{
      *this, "ncclCommInitRankConfig"};
  Function<int(ncclComm_t)> ncclCommFinalize{*this, "ncclCommFinalize"};
  Function<int(ncclComm_t)> ncclCommDestroy{*this, "ncclCommDestroy"};
  Function<int(ncclComm_t)> ncclCommAbort{*this, "ncclCommAbort"};
  Function<int(ncclComm_t, int *)> ncclCommGetAsyncError{*this, "ncclCommGetAsyncError"};
  Function<int(void **, size_t)> ncclMemAlloc{*this, "ncclMemAlloc"};
  Function<int(void *)> ncclMemFree{*this, "ncclMemFree"};
  Function<int(ncclComm_t, void *, size_t, void **)> ncclCommRegister{*this, "ncclCommRegister"};
  Function<int(ncclComm_t, void *)> ncclCommDeregister{*this, "ncclCommDeregister"};
  Function<int(ncclComm_t, void *, size_t, ncclWindow_t *, int)> ncclCommWindowRegister{
      *this, "ncclCommWindowRegister"};
  Function<int(ncclComm_t, ncclWindow_t)> ncclCommWindowDeregister{*this,
                                                                   "ncclCommWindowDeregister"};

  Function<int()> ncclGroupStart{*this, "ncclGroupStart"};
  Function<int()> ncclGroupEnd{*this, "ncclGroupEnd"};
  Function<int(const void *, void *, size_t, int, int, ncclComm_t, CUstream)> ncclAllReduce{
      *this, "ncclAllReduce"};
  Function<int(const void *, void *, size_t, int, ncclComm_t, CUstream)> ncclAllGather{
      *this, "ncclAllGather"};
  Function<int(const void *, void *, size_t, int, int, ncclComm_t, CUstream)> ncclReduceScatter{
      *this, "ncclReduceScatter"};
  Function<int(const void *, void *, size_t, int, int, ncclComm_t, CUstream)> ncclBroadcast{
      *this, "ncclBroadcast"};
  Function<int(const void *, size_t, int, int, ncclComm_t, CUstream)> ncclSend{*this, "ncclSend"};
  Function<int(void *, size_t, int, int, ncclComm_t, CUstream)> ncclRecv{*this, "ncclRecv"};

private:
  int checkedVersion() const;
};

/// Loaded by the first call; throws SHARDRT_NO_DEVICE.
const Nccl &nccl();

/// "2.28.9"
std::string ncclVersionText(int version);
/// That `what` failed with a result, in NCCL's words.
Error ncclError(const std::string &what, int status);

} // namespace shardrt::cuda
