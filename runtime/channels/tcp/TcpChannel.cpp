// What ranks on GPUs of several machines have to tell each other besides their collectives: who is
// there, NCCL's ids, errors, outputs, checkpoints. A star around rank 0, over which every call goes
// in and out once; data of programs never does.
//   A frame of data is a call's contribution, or the answer. Abort and Leave may come at any time;
//   rank 0 passes an abort on. A connection that ends without Leave is a rank that died.
#include "runtime/channels/Factories.h"
#include "runtime/channels/tcp/Socket.h"

#include <cstring>

using namespace shardrt;

namespace {
const uint64_t magic = 0x31706374'64726873; // "shrdtcp1"

struct Hello {
  uint64_t magic, fingerprint, job;
  int64_t rank, ranks;
};

class TcpChannel : public Channel {
public:
  explicit TcpChannel(const ChannelOptions &options);
  ~TcpChannel() override;

  const char *name() const override { return "tcp"; }
  std::byte *arena() override { return memory.data(); }
  int createGroup(const std::vector<int> &) override {
    throw Error(SHARDRT_INVALID_ARGUMENT,
                "the tcp channel has no groups, it is for programs on GPUs");
  }
  int groupSize(int) const override { return ranks; }
  int groupIndex(int) const override { return rank; }
  void run(const Collective &call) override;
  bool concurrent() const override { return false; }
  void checkRanks() override;
  void abort(const std::string &message, shardrt_status status) noexcept override;

private:
  void acceptAll();
  void join();
  Hello hello() const;
  int64_t deadline() const {
    return options.timeout > 0 ? nowNs() + static_cast<int64_t>(options.timeout * 1e9) : 0;
  }
  std::string nameOf(int peer) const { return "rank " + std::to_string(peer); }
  /// The connection to a rank; all but rank 0 have one only.
  Socket &socketOf(int peer) { return sockets[rank == 0 ? peer : 0]; }

  void sendFrame(int peer, const Frame &frame, const void *data, int64_t until);
  /// The bytes of a frame of data; throws what else comes.
  void receiveData(int peer, const Collective &call, std::vector<std::byte> &data, int64_t until);
  [[noreturn]] void aborted(int peer, const Frame &head);
  static uint32_t signatureOf(const Collective &call);
  void combine(const Collective &call, int from, const std::vector<std::byte> &data,
               std::vector<std::byte> &answer) const;

  ChannelOptions options;
  std::vector<std::byte> memory;
  std::vector<Socket> sockets;
  std::vector<bool> hasLeft; // by rank
  std::vector<std::byte> received, answer;
};
} // namespace

TcpChannel::TcpChannel(const ChannelOptions &given) : options(given), memory(given.arenaBytes) {
  rank = options.rank;
  ranks = options.ranks;
  arenaBytes = options.arenaBytes;
  timeout = options.timeout;
  hasLeft.resize(ranks);
  sockets.resize(rank == 0 ? ranks : 1);
  rank == 0 ? acceptAll() : join();
}

Hello TcpChannel::hello() const {
  return {magic, options.fingerprint, std::hash<std::string>()(options.job), rank, ranks};
}

static std::string disagreement(const Hello &mine, const Hello &other) {
  if (other.ranks != mine.ranks)
    return cat("rank ", other.rank, " is of a job of ", other.ranks, " ranks, rank 0 of one of ",
               mine.ranks);
  if (other.fingerprint != mine.fingerprint)
    return cat("rank ", other.rank, " runs another program than rank 0");
  if (other.rank <= 0 || other.rank >= mine.ranks)
    return cat("rank ", other.rank, " of ", mine.ranks, " ranks does not exist");
  return "";
}

/// Strangers, and other jobs', are let go without an answer.
void TcpChannel::acceptAll() {
  Socket listener = listenOn(options.port);
  int64_t until = deadline();
  for (int missing = ranks - 1; missing > 0;) {
    Socket socket = acceptFrom(listener, until);
    if (!socket.isOpen()) {
      std::string absent;
      for (int peer = 1; peer < ranks; ++peer)
        if (!sockets[peer].isOpen())
          absent += (absent.empty() ? "" : ", ") + std::to_string(peer);
      throw Error(SHARDRT_TIMEOUT, cat("rank 0 has waited ", options.timeout, " s on port ",
                                       options.port, ", these ranks did not come: ", absent));
    }
    Hello other = {}, mine = hello();
    try {
      socket.receive(&other, sizeof(other), "somebody", nowNs() + 5'000'000'000);
    } catch (const Error &) {
      continue;
    }
    if (other.magic != mine.magic || other.job != mine.job)
      continue;
    std::string problem = disagreement(mine, other);
    if (problem.empty() && sockets[other.rank].isOpen())
      problem = cat("rank ", other.rank, " has come twice");
    if (!problem.empty()) {
      Frame refusal{Frame::Abort, SHARDRT_INVALID_ARGUMENT, problem.size()};
      socket.send(&refusal, sizeof(refusal), "somebody", until);
      socket.send(problem.data(), problem.size(), "somebody", until);
      abort(problem, SHARDRT_INVALID_ARGUMENT);
      throw Error(SHARDRT_INVALID_ARGUMENT, problem);
    }
    sockets[other.rank] = std::move(socket);
    --missing;
  }
  for (int peer = 1; peer < ranks; ++peer) // everybody is there
    sendFrame(peer, {}, nullptr, until);
}

void TcpChannel::join() {
  int64_t until = deadline();
  sockets[0] = connectTo(options.address, options.port, until);
  Hello mine = hello();
  sockets[0].send(&mine, sizeof(mine), nameOf(0), until);
  receiveData(0, Collective(), received, until);
}

TcpChannel::~TcpChannel() {
  for (int peer = 0; peer < ranks; ++peer)
    if (peer != rank && (rank == 0 || peer == 0) && socketOf(peer).isOpen())
      try {
        sendFrame(peer, {Frame::Leave, 0, 0}, nullptr, nowNs());
      } catch (const Error &) { // it has gone itself
      }
}

void TcpChannel::sendFrame(int peer, const Frame &frame, const void *data, int64_t until) {
  socketOf(peer).send(&frame, sizeof(frame), nameOf(peer), until);
  socketOf(peer).send(data, frame.bytes, nameOf(peer), until);
}

void TcpChannel::aborted(int peer, const Frame &head) {
  std::string text(std::min<uint64_t>(head.bytes, 64 << 10), '\0');
  socketOf(peer).receive(text.data(), text.size(), nameOf(peer), nowNs() + 5'000'000'000);
  if (rank == 0) // the others hear of it from here
    abort(text, static_cast<shardrt_status>(head.call));
  throw AbortedError(text, static_cast<shardrt_status>(head.call));
}

uint32_t TcpChannel::signatureOf(const Collective &call) {
  uint64_t hash = 1469598103934665603ull; // FNV-1a
  for (int64_t value :
       {int64_t(call.kind), call.count, call.outer, call.inner, call.total, int64_t(call.root)})
    hash = (hash ^ static_cast<uint64_t>(value)) * 1099511628211ull;
  return static_cast<uint32_t>(hash ^ hash >> 32) | 1; // 0: none
}

void TcpChannel::receiveData(int peer, const Collective &call, std::vector<std::byte> &data,
                             int64_t until) {
  Frame head;
  socketOf(peer).receive(&head, sizeof(head), nameOf(peer), until);
  if (head.kind == Frame::Abort)
    aborted(peer, head);
  if (head.kind == Frame::Leave)
    throw Error(SHARDRT_RANK_LOST, cat(nameOf(peer), " has left, while rank ", rank,
                                       " waits for it in ", collectiveName(call.kind)));
  if (head.bytes > uint64_t(arenaBytes) * ranks)
    throw Error(SHARDRT_INTERNAL, cat(nameOf(peer), " sent a frame of ", head.bytes, " bytes"));
  if (head.call && head.call != signatureOf(call))
    throw Error(SHARDRT_INVALID_ARGUMENT, cat(nameOf(peer), " makes another call where rank ", rank,
                                              " calls ", collectiveName(call.kind)));
  data.resize(head.bytes);
  socketOf(peer).receive(data.data(), head.bytes, nameOf(peer), until);
}

/// Rank 0: one rank's contribution into the answer, which all get.
void TcpChannel::combine(const Collective &call, int from, const std::vector<std::byte> &data,
                         std::vector<std::byte> &into) const {
  switch (call.kind) {
  case CollectiveKind::AllGather:
  case CollectiveKind::Gather:
    into.insert(into.end(), data.begin(), data.end());
    break;
  case CollectiveKind::Broadcast:
    if (from == call.root)
      into = data;
    break;
  case CollectiveKind::AllReduce:
    into.resize(data.size());
    for (size_t at = 0; at + 8 <= data.size(); at += 8) {
      uint64_t sum, term;
      std::memcpy(&sum, into.data() + at, 8);
      std::memcpy(&term, data.data() + at, 8);
      sum += term;
      std::memcpy(into.data() + at, &sum, 8);
    }
    break;
  default:
    break;
  }
}

void TcpChannel::run(const Collective &call) {
  bool known = call.kind == CollectiveKind::Barrier || call.kind == CollectiveKind::Gather ||
               call.kind == CollectiveKind::Broadcast ||
               (call.kind == CollectiveKind::AllGather && call.outer == 1 &&
                call.inner * ranks == call.total) ||
               (call.kind == CollectiveKind::AllReduce && call.dtype == SHARDRT_UI64 &&
                call.reduce == SHARDRT_SUM);
  if (!known || (call.kind == CollectiveKind::Gather && call.root != 0))
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat("the tcp channel has no such ", collectiveName(call.kind),
                    ", it is for programs on GPUs"));
  CollectiveBytes bytes = *collectiveBytes(call, ranks);
  bool contributes = call.kind != CollectiveKind::Broadcast || rank == call.root;
  int64_t mine = contributes ? bytes.src : 0, until = deadline();
  const std::byte *src = static_cast<const std::byte *>(call.src);
  if (rank != 0) {
    sendFrame(0, {Frame::Data, signatureOf(call), uint64_t(mine)}, src, until);
    receiveData(0, call, answer, until);
  } else {
    answer.clear();
    combine(call, 0, std::vector<std::byte>(src, src + mine), answer);
    for (int peer = 1; peer < ranks; ++peer) {
      receiveData(peer, call, received, until);
      combine(call, peer, received, answer);
    }
    uint64_t back = call.kind == CollectiveKind::Gather ? 0 : answer.size();
    for (int peer = 1; peer < ranks; ++peer)
      sendFrame(peer, {Frame::Data, signatureOf(call), back}, answer.data(), until);
  }
  int64_t expected = call.kind == CollectiveKind::Gather && rank != 0 ? 0 : bytes.dst;
  if (static_cast<int64_t>(answer.size()) != expected)
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat(collectiveName(call.kind), ": ", answer.size(), " bytes came together, rank ",
                    rank, " expects ", expected));
  if (expected)
    std::memcpy(call.dst, answer.data(), expected);
}

void TcpChannel::checkRanks() {
  for (int peer = 0; peer < ranks; ++peer) {
    if (peer == rank || (rank != 0 && peer != 0) || hasLeft[peer])
      continue;
    Frame head;
    if (!socketOf(peer).peek(head, nameOf(peer)) || head.kind == Frame::Data)
      continue;
    socketOf(peer).receive(&head, sizeof(head), nameOf(peer), 0);
    if (head.kind == Frame::Abort)
      aborted(peer, head);
    hasLeft[peer] = true;
  }
}

void TcpChannel::abort(const std::string &message, shardrt_status status) noexcept {
  int64_t until = nowNs() + 1'000'000'000;
  for (int peer = 0; peer < ranks; ++peer)
    if (peer != rank && (rank == 0 || peer == 0) && socketOf(peer).isOpen())
      try {
        sendFrame(peer, {Frame::Abort, static_cast<uint32_t>(status), message.size()},
                  message.data(), until);
      } catch (const std::exception &) { // it has gone itself
      }
}

std::unique_ptr<Channel> shardrt::createTcpChannel(const ChannelOptions &options) {
  if (options.port < 1 || options.port > 65535 || (options.rank != 0 && options.address.empty()))
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat("the tcp channel needs the address of rank 0's machine and a port, given \"",
                    options.address, "\" and ", options.port));
  return std::make_unique<TcpChannel>(options);
}
