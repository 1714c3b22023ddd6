//===- ExecBuilder.cpp - A program as a module ----------------------------===//
//
// The same as program.json, in a form that prints, parses and verifies: the exec verifier proves
// the arena plan.
//
//===----------------------------------------------------------------------===//
#include "dialects/Exec/Exec.h"
#include "shardc/Schedule/Program.h"

using namespace mlir;

namespace shardc {
namespace {

class ExecBuilder {
public:
  ExecBuilder(const Program &program, ModuleOp module)
      : program(program), module(module), builder(module.getContext()) {
    if (shard::MeshOp mesh = shard::getOnlyMesh(module))
      symbol = FlatSymbolRefAttr::get(mesh.getSymNameAttr());
  }
  exec::ProgramOp build(const ProgramEntry &entry);

private:
  DictionaryAttr dictionary(ArrayRef<std::pair<StringRef, Attribute>> entries) {
    SmallVector<NamedAttribute> attributes;
    for (auto [name, value] : entries)
      if (value)
        attributes.push_back(builder.getNamedAttr(name, value));
    return builder.getDictionaryAttr(attributes);
  }
  /// Null if every rank has the whole.
  Attribute shardingOf(const Sharding &sharding) {
    return symbol && !sharding.isReplicated()
               ? shard::ShardingAttr::get(symbol, program.mesh, sharding)
               : Attribute();
  }
  std::vector<bool> buffersOf(const ProgramEntry &entry);
  std::vector<DictionaryAttr> bufferValues(const ProgramEntry &entry);
  DictionaryAttr payload(const ProgramCommand &command);
  DictionaryAttr cudaRanges();
  void addCommand(const ProgramCommand &command, bool init);

  const Program &program;
  ModuleOp module;
  OpBuilder builder;
  FlatSymbolRefAttr symbol;
  SmallVector<Value> buffers;
};

} // namespace

/// What is specific to each buffer's kind.
std::vector<DictionaryAttr> ExecBuilder::bufferValues(const ProgramEntry &entry) {
  std::vector<DictionaryAttr> values(program.buffers.size());
  for (const auto *list : {&entry.inputs, &entry.outputs})
    for (const ProgramValue &value : *list)
      values[value.buffer] = dictionary(
          {{"global", TypeAttr::get(value.type)}, {"sharding", shardingOf(value.sharding)}});
  for (const ProgramParameter &parameter : program.parameters)
    values[parameter.buffer] = dictionary({{"tensor", parameter.tensor},
                                           {"global", TypeAttr::get(parameter.type)},
                                           {"segment", parameter.segment},
                                           {"panels", parameter.panels},
                                           {"sharding", shardingOf(parameter.sharding)}});
  for (const ProgramConstant &constant : program.constants)
    values[constant.buffer] = dictionary({{"value", constant.value}});
  for (const ProgramAxisIndex &index : program.axisIndices)
    values[index.buffer] =
        dictionary({{"axes", shard::axesAttr(builder.getContext(), program.mesh, index.axes)}});
  return values;
}

DictionaryAttr ExecBuilder::payload(const ProgramCommand &command) {
  auto number = [&](int64_t value) { return builder.getI64IntegerAttr(value); };
  Attribute reduce = builder.getStringAttr(str(command.reduce));
  switch (command.kind) {
  case CommandKind::AllReduce:
    return dictionary({{"reduce", reduce}, {"count", number(command.count)}});
  case CommandKind::ReduceScatter:
    return dictionary({{"reduce", reduce},
                       {"outer", number(command.outer)},
                       {"inner", number(command.inner)},
                       {"total", number(command.total)}});
  case CommandKind::AllGather:
  case CommandKind::Slice:
    return dictionary({{"outer", number(command.outer)},
                       {"inner", number(command.inner)},
                       {"total", number(command.total)}});
  case CommandKind::AllToAll:
    return dictionary({{"shape", builder.getDenseI64ArrayAttr(command.shape)},
                       {"split_dim", number(command.splitDim)},
                       {"concat_dim", number(command.concatDim)},
                       {"split_total", number(command.splitTotal)},
                       {"concat_total", number(command.concatTotal)}});
  case CommandKind::Permute:
    return dictionary(
        {{"pairs", builder.getDenseI64ArrayAttr(command.pairs)}, {"count", number(command.count)}});
  case CommandKind::Broadcast:
    return dictionary({{"root", number(command.root)}, {"count", number(command.count)}});
  case CommandKind::Copy:
    return dictionary({{"bytes", number(command.count)}});
  case CommandKind::Zero:
  case CommandKind::Wait:
  case CommandKind::Launch:
    break;
  }
  return dictionary({});
}

/// Null for CPUs.
DictionaryAttr ExecBuilder::cudaRanges() {
  if (!program.cuda)
    return {};
  auto range = [&](const ArenaRange &range) {
    return builder.getDenseI64ArrayAttr({range.offset, range.bytes});
  };
  return dictionary({{"scratch", range(program.cuda->scratch)},
                     {"workspace", range(program.cuda->workspace)},
                     {"staging", range(program.cuda->staging)},
                     {"host", program.cuda->host.bytes ? range(program.cuda->host) : Attribute()}});
}

void ExecBuilder::addCommand(const ProgramCommand &command, bool init) {
  SmallVector<Value> operands;
  for (int buffer : command.buffers)
    operands.push_back(buffers[buffer]);
  IntegerAttr layer = command.layer >= 0 ? builder.getI64IntegerAttr(command.layer) : IntegerAttr();
  UnitAttr once = init ? builder.getUnitAttr() : UnitAttr();
  Location loc = builder.getUnknownLoc();
  if (command.kind == CommandKind::Launch) {
    ValueRange all(operands);
    auto kernel = FlatSymbolRefAttr::get(builder.getContext(), program.kernels[command.kernel]);
    exec::LaunchOp::create(builder, loc, kernel, all.drop_back(command.results),
                           all.take_back(command.results), once, layer);
    return;
  }
  if (command.kind == CommandKind::Wait) {
    exec::WaitOp::create(builder, loc, command.ticket);
    return;
  }
  if (command.kind == CommandKind::Zero) {
    exec::ZeroOp::create(builder, loc, operands[0]);
    return;
  }
  ArrayAttr axes;
  if (command.group >= 0)
    axes = shard::axesAttr(builder.getContext(), program.mesh, program.groups[command.group]);
  StringAttr origin = command.origin.empty() ? StringAttr() : builder.getStringAttr(command.origin);
  exec::CollectiveOp::create(builder, loc, builder.getStringAttr(str(command.kind)), operands[0],
                             operands[1], axes, payload(command), once, layer, origin,
                             command.ticket >= 0 ? builder.getI64IntegerAttr(command.ticket)
                                                 : IntegerAttr());
}

/// What the entry uses, and what is there for all.
std::vector<bool> ExecBuilder::buffersOf(const ProgramEntry &entry) {
  std::vector<bool> isOwn(program.buffers.size());
  for (auto [i, buffer] : llvm::enumerate(program.buffers))
    isOwn[i] = buffer.whole < 0 && buffer.kind != BufferKind::Input &&
               buffer.kind != BufferKind::Output && buffer.kind != BufferKind::Temporary;
  auto add = [&](int buffer) {
    for (; buffer >= 0; buffer = program.buffers[buffer].whole)
      isOwn[buffer] = true;
  };
  for (const auto *commands : {&program.init, &entry.commands})
    for (const ProgramCommand &command : *commands)
      llvm::for_each(command.buffers, add);
  for (const auto *list : {&entry.inputs, &entry.outputs})
    for (const ProgramValue &value : *list)
      add(value.buffer);
  return isOwn;
}

exec::ProgramOp ExecBuilder::build(const ProgramEntry &entry) {
  buffers.clear();
  SmallVector<std::pair<size_t, int>> wholes;
  builder.setInsertionPointToEnd(module.getBody());
  auto op =
      exec::ProgramOp::create(builder, module.getLoc(), builder.getStringAttr(entry.name),
                              builder.getI64IntegerAttr(program.arenaBytes), symbol, cudaRanges());
  builder.createBlock(&op.getBody());
  std::vector<DictionaryAttr> values = bufferValues(entry);
  std::vector<bool> isOwn = buffersOf(entry);
  std::vector<int> number(program.buffers.size(), -1);
  int count = 0;
  for (auto [i, buffer] : llvm::enumerate(program.buffers)) {
    if (!isOwn[i]) {
      buffers.push_back(nullptr);
      continue;
    }
    number[i] = count++;
    auto type = MemRefType::get(buffer.type.getShape(), buffer.type.getElementType());
    buffers.push_back(
        exec::BufferOp::create(builder, module.getLoc(), type, static_cast<exec::Kind>(buffer.kind),
                               buffer.name, buffer.offset, buffer.bytes, IntegerAttr(), values[i]));
    if (buffer.whole >= 0)
      wholes.push_back({i, program.wholeOf(i)});
  }
  for (auto [part, whole] : wholes) // a part may stand before its whole
    buffers[part].getDefiningOp<exec::BufferOp>().setWhole(number[whole]);
  for (const ProgramCommand &command : program.init)
    addCommand(command, true);
  for (const ProgramCommand &command : entry.commands)
    addCommand(command, false);
  return op;
}

SmallVector<exec::ProgramOp> buildExecPrograms(const Program &program, ModuleOp module) {
  ExecBuilder builder(program, module);
  SmallVector<exec::ProgramOp> programs;
  for (const ProgramEntry &entry : program.entries)
    programs.push_back(builder.build(entry));
  return programs;
}

} // namespace shardc
