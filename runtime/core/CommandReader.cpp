// The command list: every command's operands are checked against the sizes of its buffers, and
// every ticket is started once and waited for once.
#include "runtime/core/ProgramReader.h"

#include <algorithm>
#include <map>

using namespace shardrt;

static int readOperand(const JsonNode &command, const char *key, const Program &program,
                       int64_t bytes) {
  JsonNode node = command.get(key);
  int index = node.index(program.buffers.size(), "buffer");
  const Buffer &buffer = program.buffers[index];
  if (bytes > buffer.bytes)
    node.fail(cat("the command touches ", bytes, " bytes, buffer ", index, " \"", buffer.name,
                  "\" has ", buffer.bytes));
  return index;
}

static void checkNoOverlap(const JsonNode &node, const Program &program, const Command &command,
                           CollectiveBytes bytes, bool sameIsFine) {
  int64_t src = program.buffers[command.src].offset, dst = program.buffers[command.dst].offset;
  if ((src == dst && sameIsFine) || src + bytes.src <= dst || dst + bytes.dst <= src)
    return;
  node.fail(cat("source [", src, ", ", src + bytes.src, ") and destination [", dst, ", ",
                dst + bytes.dst, ") overlap"));
}

static shardrt_reduce readReduce(const JsonNode &node) {
  static const char *const names[] = {"sum", "max", "min", "prod"};
  std::string name = node.string();
  for (int i = 0; i < 4; ++i)
    if (name == names[i])
      return static_cast<shardrt_reduce>(i);
  node.fail(cat("unknown reduction \"", name, "\""));
}

static void readLaunch(const JsonNode &node, const Program &program, Command &command) {
  command.kernel = node.get("kernel").index(program.kernels.size(), "kernel");
  command.name = program.kernels[command.kernel];
  JsonNode buffers = node.get("buffers");
  for (size_t i = 0; i < buffers.size(); ++i)
    command.buffers.push_back(buffers.at(i).index(program.buffers.size(), "buffer"));
  if (int64_t results = node.integerOr("results", -1, 0); results >= 0) {
    if (results > static_cast<int64_t>(buffers.size()))
      node.get("results").fail(cat(results, " results of ", buffers.size(), " buffers"));
    command.results = static_cast<int>(results);
  }
  if (program.target == Target::Cuda)
    return checkCudaLaunch(node, program, command);
  command.tiles = node.get("tiles").integer(0);
  command.scratch = node.integerOr("scratch", 0, 0);
  if (command.scratch > int64_t(1) << 40)
    node.get("scratch").fail(
        cat(command.scratch, " bytes of scratch for each thread is not plausible"));
}

static void readRows(const JsonNode &node, Collective &call) {
  call.outer = node.get("outer").integer(0);
  call.inner = node.get("inner").integer(0);
  call.total = node.get("total").integer(0);
}

static void readPairs(const JsonNode &node, Collective &call, int64_t size) {
  JsonNode pairs = node.get("pairs");
  std::vector<bool> sends(size), receives(size);
  for (size_t i = 0; i < pairs.size(); ++i) {
    JsonNode pair = pairs.at(i);
    if (pair.size() != 2)
      pair.fail(cat("a pair has 2 members, not ", pair.size()));
    int from = pair.at(0).index(size, "group member"), to = pair.at(1).index(size, "group member");
    if (sends[from] || receives[to])
      pair.fail(
          cat("rank ", sends[from] ? from : to, sends[from] ? " sends" : " receives", " twice"));
    sends[from] = receives[to] = true;
    call.pairs.push_back({from, to});
  }
}

static void readAllToAll(const JsonNode &node, Collective &call, int64_t size) {
  call.shape = node.get("shape").shape();
  call.splitDim = node.get("split_dim").index(call.shape.size(), "dimension");
  call.concatDim = node.get("concat_dim").index(call.shape.size(), "dimension");
  call.concatTotal = node.get("concat_total").integer(0);
  int64_t split = node.get("split_total").integer(0), concat = call.shape[call.concatDim];
  if (call.splitDim == call.concatDim)
    node.get("concat_dim").fail(cat("split and concat dimension are both ", call.splitDim));
  if (call.shape[call.splitDim] != split)
    node.get("split_total")
        .fail(cat("the source has ", call.shape[call.splitDim], " along dimension ", call.splitDim,
                  ", not ", split));
  if (concat != ceilDiv(call.concatTotal, size))
    node.get("concat_total")
        .fail(cat("the source has ", concat, " along dimension ", call.concatDim, ", a group of ",
                  size, " needs ", ceilDiv(call.concatTotal, size), " to make ", call.concatTotal));
}

static void readPayload(const JsonNode &node, Collective &call, int64_t size) {
  switch (call.kind) {
  case CollectiveKind::AllReduce:
    call.reduce = readReduce(node.get("reduce"));
    call.count = node.get("count").integer(0);
    break;
  case CollectiveKind::ReduceScatter:
    call.reduce = readReduce(node.get("reduce"));
    readRows(node, call);
    break;
  case CollectiveKind::AllGather:
    readRows(node, call);
    break;
  case CollectiveKind::AllToAll:
    readAllToAll(node, call, size);
    break;
  case CollectiveKind::Permute:
    readPairs(node, call, size);
    call.count = node.get("count").integer(0);
    break;
  case CollectiveKind::Broadcast:
    call.root = node.get("root").index(size, "group member");
    call.count = node.get("count").integer(0);
    break;
  default:
    break;
  }
}

static void readCollective(const JsonNode &node, const Program &program, Command &command) {
  Collective &call = command.collective;
  call.group = node.get("group").index(program.groups.size(), "group");
  call.dtype = node.get("dtype").dtype();
  int64_t size = sizeOf(program.groups[call.group]);
  readPayload(node, call, size);
  std::optional<CollectiveBytes> bytes = collectiveBytes(call, size);
  if (!bytes)
    node.fail(cat("the sizes of this ", command.name, " contradict each other: ", size,
                  " ranks of ", call.inner, " do not cover ", call.total,
                  ", or a product exceeds 64 bits"));
  bool slice = command.kind == CommandKind::Slice;
  if (slice)
    bytes = CollectiveBytes{bytes->dst, bytes->src};
  command.src = readOperand(node, "src", program, bytes->src);
  command.dst = readOperand(node, "dst", program, bytes->dst);
  bool sameIsFine =
      slice || call.kind == CollectiveKind::AllReduce || call.kind == CollectiveKind::Broadcast;
  checkNoOverlap(node, program, command, *bytes, sameIsFine);
  if (!slice)
    command.ticket = node.integerOr("ticket", -1, 0);
  if (program.target == Target::Cuda)
    checkCudaCollective(node, program, command);
}

static Command readCommand(const JsonNode &node, const Program &program) {
  static const std::map<std::string, CollectiveKind> collectives = {
      {"all_reduce", CollectiveKind::AllReduce},
      {"all_gather", CollectiveKind::AllGather},
      {"reduce_scatter", CollectiveKind::ReduceScatter},
      {"all_to_all", CollectiveKind::AllToAll},
      {"permute", CollectiveKind::Permute},
      {"broadcast", CollectiveKind::Broadcast}};
  Command command;
  command.name = node.get("op").string();
  command.layer = node.integerOr("layer", -1, -1);
  command.origin = node.integerOr("origin", -1, -1);
  if (auto it = collectives.find(command.name); it != collectives.end()) {
    command.kind = CommandKind::Collective;
    command.collective.kind = it->second;
    readCollective(node, program, command);
  } else if (command.name == "slice") {
    command.kind = CommandKind::Slice;
    command.collective.kind = CollectiveKind::AllGather;
    readCollective(node, program, command);
  } else if (command.name == "launch") {
    command.kind = CommandKind::Launch;
    readLaunch(node, program, command);
  } else if (command.name == "copy") {
    command.kind = CommandKind::Copy;
    command.bytes = node.get("bytes").integer(0);
    command.src = readOperand(node, "src", program, command.bytes);
    command.dst = readOperand(node, "dst", program, command.bytes);
    checkNoOverlap(node, program, command, {command.bytes, command.bytes}, true);
    if (command.src != command.dst && program.isOnHost(program.buffers[command.src]) &&
        program.isOnHost(program.buffers[command.dst]))
      node.fail("copies from host memory to host memory");
  } else if (command.name == "zero") {
    command.kind = CommandKind::Zero;
    command.bytes = node.get("bytes").integer(0);
    command.dst = readOperand(node, "dst", program, command.bytes);
  } else if (command.name == "wait") {
    command.kind = CommandKind::Wait;
    command.ticket = node.get("ticket").integer(0);
  } else {
    node.get("op").fail(cat("unknown command \"", command.name, "\""));
  }
  return command;
}

std::vector<Command> shardrt::readCommands(const JsonNode &node, const Program &program) {
  std::vector<Command> commands;
  std::map<int64_t, size_t> open; // tickets that were started and not yet waited for
  for (size_t i = 0, e = node.size(); i < e; ++i) {
    commands.push_back(readCommand(node.at(i), program));
    const Command &command = commands.back();
    if (command.kind == CommandKind::Wait && !open.erase(command.ticket))
      node.at(i).fail(cat("ticket ", command.ticket, " is not under way"));
    if (command.kind == CommandKind::Collective && command.ticket >= 0 &&
        !open.emplace(command.ticket, i).second)
      node.at(i).fail(cat("ticket ", command.ticket, " is already under way"));
  }
  if (!open.empty())
    node.at(open.begin()->second).fail(cat("ticket ", open.begin()->first, " is never waited for"));
  return commands;
}
