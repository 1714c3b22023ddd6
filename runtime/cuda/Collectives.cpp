// What NCCL takes as it lies goes to it; the rest is packed into the staging area by strided
// copies, and unpacked from there (include/shardrt/staging.h says how it lies).
#include "runtime/cuda/Collectives.h"
#include "shardrt/staging.h"

#include <algorithm>

using namespace shardrt;
using namespace shardrt::cuda;

static void *pointer(CUdeviceptr address) { return reinterpret_cast<void *>(address); }

/// Rows of `width` bytes. Nothing happens if there is nothing to copy.
static void copyRows(CUdeviceptr dst, int64_t dstPitch, CUdeviceptr src, int64_t srcPitch,
                     int64_t width, int64_t height, CUstream stream) {
  if (width <= 0 || height <= 0 || (dst == src && dstPitch == srcPitch))
    return;
  if (height == 1 || (width == dstPitch && width == srcPitch))
    return driver().cuMemcpyDtoDAsync(dst, src, width * height, stream);
  CUDA_MEMCPY2D copy = {};
  copy.srcMemoryType = copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.srcDevice = src;
  copy.srcPitch = srcPitch;
  copy.dstDevice = dst;
  copy.dstPitch = dstPitch;
  copy.WidthInBytes = width;
  copy.Height = height;
  driver().cuMemcpy2DAsync(&copy, stream);
}

static void zeroRows(CUdeviceptr dst, int64_t pitch, int64_t width, int64_t height,
                     CUstream stream) {
  if (width <= 0 || height <= 0)
    return;
  if (height == 1 || width == pitch)
    return driver().cuMemsetD8Async(dst, 0, width * height, stream);
  driver().cuMemsetD2D8Async(dst, pitch, 0, width, height, stream);
}

/// How many of `inner` elements of a row the index-th rank really has.
static int64_t validRows(int64_t index, int64_t inner, int64_t total) {
  return std::min(inner, total - std::min(index * inner, total));
}

static int ncclType(DType dtype) {
  switch (dtype) {
  case SHARDRT_F64:
    return ncclFloat64;
  case SHARDRT_F32:
    return ncclFloat32;
  case SHARDRT_F16:
    return ncclFloat16;
  case SHARDRT_BF16:
    return ncclBfloat16;
  case SHARDRT_I64:
    return ncclInt64;
  case SHARDRT_I32:
    return ncclInt32;
  case SHARDRT_I8:
    return ncclInt8;
  case SHARDRT_UI64:
    return ncclUint64;
  case SHARDRT_UI32:
    return ncclUint32;
  default: // ui8, bool, and 8-bit floats, which are only moved; the reader refuses what has no type
           // here
    return ncclUint8;
  }
}

static int ncclOperation(const Collective &call) {
  bool isBool = call.dtype == SHARDRT_BOOL; // or, and
  switch (call.reduce) {
  case SHARDRT_SUM:
    return isBool ? ncclMax : ncclSum;
  case SHARDRT_MAX:
    return ncclMax;
  case SHARDRT_MIN:
    return ncclMin;
  default:
    return isBool ? ncclMin : ncclProd;
  }
}

namespace {
/// Calls that go together. An exception closes the group as well: it is the thread's, and would
/// take in the calls that break communicators off.
class Group {
public:
  Group() { nccl().ncclGroupStart(); }
  ~Group() {
    if (isOpen)
      nccl().ncclGroupEnd.status();
  }
  Group(const Group &) = delete;
  Group &operator=(const Group &) = delete;
  void end() {
    isOpen = false;
    nccl().ncclGroupEnd();
  }

private:
  bool isOpen = true;
};

/// One collective between several ranks.
class Exchanger {
public:
  Exchanger(const Transport &transport, const Command &command, const Communicator &communicator,
            CUstream stream)
      : transport(transport), call(command.collective), communicator(communicator), stream(stream),
        size(dtypeSize(call.dtype)), ranks(sizeOf(transport.program.groups[call.group])),
        index(transport.mesh.indexAlong(transport.rank, transport.program.groups[call.group])),
        src(transport.buffer(command.src)), dst(transport.buffer(command.dst)),
        staging(transport.staging()), isStaged(cudaStagingBytes(call, ranks) != 0),
        sourceOnHost(transport.arena.hostPlace(transport.place(command.src))) {}

  void allReduce() {
    nccl().ncclAllReduce(pointer(src), pointer(dst), call.count, ncclType(call.dtype),
                         ncclOperation(call), communicator.handle, stream);
    settle();
  }

  void broadcast() {
    nccl().ncclBroadcast(pointer(src), pointer(dst), call.count * size, ncclUint8, call.root,
                         communicator.handle, stream);
    settle();
  }

  void allGather() {
    int64_t piece = call.outer * call.inner * size;
    if (sourceOnHost) { // to its place in the whole, where NCCL gathers in place
      driver().cuMemcpyHtoDAsync(dst + index * piece, sourceOnHost, piece, stream);
      src = dst + index * piece;
    }
    nccl().ncclAllGather(pointer(src), pointer(isStaged ? staging : dst), piece, ncclUint8,
                         communicator.handle, stream);
    settle();
    if (isStaged)
      forEachPart([&](int64_t rank, int64_t valid) {
        copyRows(dst + rank * call.inner * size, call.total * size, staging + rank * piece,
                 call.inner * size, valid * size, call.outer, stream);
      });
  }

  void reduceScatter() {
    int64_t piece = call.outer * call.inner * size;
    if (isStaged)
      forEachPart([&](int64_t rank, int64_t valid) {
        copyRows(staging + rank * piece, call.inner * size, src + rank * call.inner * size,
                 call.total * size, valid * size, call.outer, stream);
        zeroRows(staging + rank * piece + valid * size, call.inner * size,
                 (call.inner - valid) * size, call.outer, stream);
      });
    nccl().ncclReduceScatter(pointer(isStaged ? staging : src), pointer(dst),
                             call.outer * call.inner, ncclType(call.dtype), ncclOperation(call),
                             communicator.handle, stream);
    settle();
  }

  void permute() {
    int64_t bytes = call.count * size;
    bool receives = false;
    Group group;
    for (auto [from, to] : call.pairs) {
      if (from == index)
        nccl().ncclSend(pointer(src), bytes, ncclUint8, to, communicator.handle, stream);
      if (to == index) {
        nccl().ncclRecv(pointer(dst), bytes, ncclUint8, from, communicator.handle, stream);
        receives = true;
      }
    }
    group.end();
    settle();
    if (!receives)
      zeroRows(dst, bytes, bytes, 1, stream);
  }

  /// A piece has the source's shape with ceil(split / ranks) along the split dimension. Of the two
  /// dimensions the first (with what is between them) and the second each make rows for a strided
  /// copy: `unit` elements along the split dimension of the source, and along the concat dimension
  /// of the result.
  void allToAll() {
    AllToAllView view(call, ranks);
    int64_t splitUnit = view.after * size, concatUnit = view.after * size, splitRows = view.before,
            concatRows = view.before;
    if (view.splitFirst) {
      splitUnit *= view.between * view.concatLocal;
      concatRows *= view.splitLocal * view.between;
    } else {
      splitRows *= view.concatLocal * view.between;
      concatUnit *= view.between * view.splitLocal;
    }
    int64_t piece = splitRows * view.splitLocal * splitUnit;
    CUdeviceptr sent = staging, received = staging + shardrt_staging_align(ranks * piece);
    for (int64_t rank = 0; rank < ranks; ++rank)
      copyRows(sent + rank * piece, view.splitLocal * splitUnit,
               src + rank * view.splitLocal * splitUnit, view.splitTotal * splitUnit,
               validRows(rank, view.splitLocal, view.splitTotal) * splitUnit, splitRows, stream);
    Group group;
    for (int64_t rank = 0; rank < ranks; ++rank) {
      nccl().ncclSend(pointer(sent + rank * piece), piece, ncclUint8, static_cast<int>(rank),
                      communicator.handle, stream);
      nccl().ncclRecv(pointer(received + rank * piece), piece, ncclUint8, static_cast<int>(rank),
                      communicator.handle, stream);
    }
    group.end();
    settle();
    for (int64_t rank = 0; rank < ranks; ++rank)
      copyRows(dst + rank * view.concatLocal * concatUnit, view.concatTotal * concatUnit,
               received + rank * piece, view.concatLocal * concatUnit,
               validRows(rank, view.concatLocal, view.concatTotal) * concatUnit, concatRows,
               stream);
    zeroUnsplit(view);
  }

private:
  /// What follows on the stream must not get in front of it.
  void settle() const { transport.communicators.settle(communicator); }

  template <typename Body> void forEachPart(const Body &body) const {
    for (int64_t rank = 0; rank < ranks; ++rank)
      body(rank, validRows(rank, call.inner, call.total));
  }

  /// Rows of the split dimension beyond its total, which senders leave as they are.
  void zeroUnsplit(const AllToAllView &view) const {
    int64_t valid = validRows(index, view.splitLocal, view.splitTotal);
    int64_t unit = view.after * size, height = view.before;
    if (view.splitFirst)
      unit *= view.between * view.concatTotal;
    else
      height *= view.concatTotal * view.between;
    zeroRows(dst + valid * unit, view.splitLocal * unit, (view.splitLocal - valid) * unit, height,
             stream);
  }

  const Transport &transport;
  const Collective &call;
  const Communicator &communicator;
  CUstream stream;
  int64_t size, ranks, index;
  CUdeviceptr src, dst, staging;
  bool isStaged;
  const std::byte *sourceOnHost; // null: it is on the device
};
} // namespace

void cuda::enqueueCollective(const Transport &transport, const Command &command,
                             const Communicator *communicator, CUstream stream) {
  const Collective &call = command.collective;
  if (!communicator) { // everything is this rank's own
    CUdeviceptr src = transport.buffer(command.src), dst = transport.buffer(command.dst);
    CollectiveBytes bytes = *collectiveBytes(call, 1);
    if (call.kind == CollectiveKind::Permute && call.pairs.empty())
      return zeroRows(dst, bytes.dst, bytes.dst, 1, stream);
    // Rows may be padded on one side.
    if (call.kind == CollectiveKind::AllGather || call.kind == CollectiveKind::ReduceScatter) {
      bool gathers = call.kind == CollectiveKind::AllGather;
      int64_t size = dtypeSize(call.dtype), inner = call.inner * size, total = call.total * size;
      copyRows(dst, gathers ? total : inner, src, gathers ? inner : total, total, call.outer,
               stream);
      if (!gathers)
        zeroRows(dst + total, inner, inner - total, call.outer, stream);
      return;
    }
    return copyRows(dst, bytes.dst, src, bytes.src, bytes.src, 1, stream);
  }
  Exchanger exchanger(transport, command, *communicator, stream);
  switch (call.kind) {
  case CollectiveKind::AllReduce:
    exchanger.allReduce();
    break;
  case CollectiveKind::AllGather:
    exchanger.allGather();
    break;
  case CollectiveKind::ReduceScatter:
    exchanger.reduceScatter();
    break;
  case CollectiveKind::AllToAll:
    exchanger.allToAll();
    break;
  case CollectiveKind::Permute:
    exchanger.permute();
    break;
  default:
    exchanger.broadcast();
    break;
  }
}

void cuda::enqueueSlice(const Transport &transport, const Command &command, CUstream stream) {
  const Collective &call = command.collective;
  int64_t size = dtypeSize(call.dtype), inner = call.inner * size, total = call.total * size;
  int64_t index = transport.mesh.indexAlong(transport.rank, transport.program.groups[call.group]);
  int64_t begin = std::min(index * inner, total), valid = validRows(index, inner, total);
  CUdeviceptr src = transport.buffer(command.src), dst = transport.buffer(command.dst);
  copyRows(dst, inner, src + begin, total, valid, call.outer, stream);
  zeroRows(dst + valid, inner, inner - valid, call.outer, stream);
}
