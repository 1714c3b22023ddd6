//===- Flatten.cpp - Calls of layers and kernels to one command list ------===//
//
// Input: functions of kernel calls, layer calls, collectives, reshapes and sources. Output: a
// program.
//
//   1. Walk each entry function; a layer call is walked in its place, with the caller's buffers as
//      its arguments. Kernels become launches, collectives commands; a reshape is its input's
//      buffer, a view of a bucket a part of one. A weight gets one buffer per layout that kernels
//      want, a state one for all entries.
//   2. Commands that depend on weights and constants only go to the init list.
//
//===----------------------------------------------------------------------===//
#include "Origin.h"

#include "dialects/Shard/Shard.h"
#include "shardc/Decompose/Passes.h"
#include "shardc/Lower/LowerKernels.h"
#include "shardc/Lower/StridedView.h"
#include "shardc/Schedule/Program.h"
#include "shardc/Support/Alias.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;

namespace shardc {
namespace {

/// What a value of the walked function is: a buffer, or a weight whose layout depends on who asks.
struct Place {
  int buffer = -1;
  graph::ParameterOp weight;
};

class Flattener {
public:
  explicit Flattener(ModuleOp module) : module(module), symbols(module) {}
  LogicalResult run();
  Program program;

private:
  using Frame = DenseMap<Value, Place>;

  int newBuffer(std::string name, RankedTensorType type, BufferKind kind, int64_t bytes = -1);
  FailureOr<int> bufferOf(const Place &place, DictionaryAttr panels = {});
  FailureOr<int> weightBuffer(graph::ParameterOp op, DictionaryAttr panels);
  FailureOr<Sharding> resolve(Operation *op, shard::ShardingAttr attr, int64_t rank);
  FailureOr<SmallVector<Place>> walk(func::FuncOp function, ArrayRef<Place> arguments);
  LogicalResult visit(Operation *op, Frame &frame);
  LogicalResult visitCall(func::CallOp call, Frame &frame);
  LogicalResult visitLaunch(func::CallOp call, func::FuncOp kernel, Frame &frame);
  LogicalResult visitCollective(Operation *op, Frame &frame);
  LogicalResult addBuckets();
  LogicalResult addStates();
  LogicalResult flattenEntry(func::FuncOp function);
  FailureOr<int> visitView(Value input, RankedTensorType type, int64_t begin, Frame &frame);
  LogicalResult visitPack(shard::BucketPackOp pack, Frame &frame);
  std::vector<ProgramCommand> &commands() { return program.entries.back().commands; }
  LogicalResult addReplaced(func::FuncOp main, ProgramValue &input);
  LogicalResult addInputs(func::FuncOp main, SmallVectorImpl<Place> &places);
  LogicalResult addOutputs(func::FuncOp main, ArrayRef<Place> results);
  LogicalResult addReplacement(func::FuncOp main, ProgramValue output);
  FailureOr<int> groupOf(Operation *op, ArrayAttr axes);
  void splitInit();

  ModuleOp module;
  SymbolTable symbols;
  std::map<std::tuple<void *, void *, void *, void *>, int> weightBuffers;
  llvm::DenseMap<Attribute, int> constantBuffers, axisBuffers;
  llvm::StringMap<int> kernelNumbers;
  llvm::StringMap<int> stateBuffers, bucketNumbers;
  llvm::StringSet<> replacedInputs; ///< by outputs of any entry
  SmallVector<func::FuncOp> stack;
  int64_t layer = -1, layers = 0;
};

} // namespace

StringRef str(BufferKind kind) {
  static constexpr StringLiteral names[] = {"input",      "output",    "parameter", "constant",
                                            "axis_index", "temporary", "state"};
  return names[static_cast<int>(kind)];
}

StringRef str(CommandKind kind) {
  static constexpr StringLiteral names[] = {"launch", "all_reduce", "all_gather", "reduce_scatter",
                                            "slice",  "all_to_all", "permute",    "broadcast",
                                            "copy",   "zero",       "wait"};
  return names[static_cast<int>(kind)];
}

int64_t Program::bytesOf(BufferKind kind) const {
  int64_t bytes = 0;
  for (const ProgramBuffer &buffer : buffers)
    if (buffer.kind == kind && buffer.whole < 0)
      bytes += buffer.bytes;
  return bytes;
}

int Flattener::newBuffer(std::string name, RankedTensorType type, BufferKind kind, int64_t bytes) {
  program.buffers.push_back(
      {std::move(name), type, kind, bytes < 0 ? tensorBytes(type) : bytes, 0});
  return program.buffers.size() - 1;
}

FailureOr<Sharding> Flattener::resolve(Operation *op, shard::ShardingAttr attr, int64_t rank) {
  if (!attr)
    return Sharding::replicated(rank);
  Result<Sharding> sharding = attr.resolve(program.mesh);
  if (!sharding)
    return op->emitError() << sharding.error;
  return *sharding;
}

/// Bytes of a weight in packed panels.
static int64_t panelBytes(RankedTensorType type, DictionaryAttr panels) {
  auto product = [&](StringRef dims) {
    int64_t result = 1;
    for (int64_t d : panels.getAs<DenseI64ArrayAttr>(dims).asArrayRef())
      result *= type.getDimSize(d);
    return result;
  };
  int64_t tile = panels.getAs<IntegerAttr>("n_tile").getInt(),
          size = elementBytes(type.getElementType());
  bool pairs = type.getElementType().isF16() || type.getElementType().isBF16();
  int64_t depth = pairs ? llvm::alignTo(product("k_dims"), 2) : product("k_dims");
  return product("batch_dims") * llvm::divideCeil(product("n_dims"), tile) * tile * depth * size;
}

FailureOr<int> Flattener::weightBuffer(graph::ParameterOp op, DictionaryAttr panels) {
  auto sharding = shard::getSharding(op.getResult());
  auto key = std::make_tuple(
      (void *)op.getNameAttr().getAsOpaquePointer(),
      (void *)(op.getSegmentAttr() ? op.getSegmentAttr().getAsOpaquePointer() : nullptr),
      (void *)(sharding ? sharding.getAsOpaquePointer() : nullptr),
      (void *)(panels ? panels.getAsOpaquePointer() : nullptr));
  auto known = weightBuffers.find(key);
  if (known != weightBuffers.end())
    return known->second;
  FailureOr<Sharding> resolved = resolve(op, sharding, op.getType().getRank());
  if (failed(resolved))
    return failure();
  if (Shape local = localShape(*resolved, Shape(op.getGlobalType().getShape()));
      ArrayRef<int64_t>(local) != op.getType().getShape())
    return op.emitError() << "weight \"" << op.getName() << "\" of local type " << op.getType()
                          << " does not follow from its global type " << op.getGlobalType()
                          << " and its sharding";
  int64_t bytes =
      panels ? std::max(panelBytes(op.getType(), panels), tensorBytes(op.getType())) : -1;
  int buffer = newBuffer(op.getName().str(), op.getType(), BufferKind::Parameter, bytes);
  program.parameters.push_back(
      {buffer, op.getNameAttr(), op.getGlobalType(), op.getSegmentAttr(), *resolved, panels});
  return weightBuffers[key] = buffer;
}

FailureOr<int> Flattener::bufferOf(const Place &place, DictionaryAttr panels) {
  return place.weight ? weightBuffer(place.weight, panels) : FailureOr<int>(place.buffer);
}

FailureOr<int> Flattener::groupOf(Operation *op, ArrayAttr attr) {
  Result<AxisList> axes = shard::resolveAxes(program.mesh, attr);
  if (!axes)
    return op->emitError() << axes.error;
  AxisList canonical = canonicalAxes(*axes);
  auto it = llvm::find(program.groups, canonical);
  if (it == program.groups.end())
    it = program.groups.insert(it, canonical);
  return it - program.groups.begin();
}

LogicalResult Flattener::visitLaunch(func::CallOp call, func::FuncOp kernel, Frame &frame) {
  ProgramCommand command{CommandKind::Launch};
  for (auto [i, operand] : llvm::enumerate(call.getOperands())) {
    FailureOr<int> buffer =
        bufferOf(frame[operand], kernel.getArgAttrOfType<DictionaryAttr>(i, kPanelsAttr));
    if (failed(buffer))
      return failure();
    command.buffers.push_back(*buffer);
  }
  for (OpResult result : call.getResults()) {
    std::string name =
        (kernel.getSymName() +
         (call.getNumResults() > 1 ? "." + std::to_string(result.getResultNumber()) : ""))
            .str();
    int buffer =
        newBuffer(std::move(name), cast<RankedTensorType>(result.getType()), BufferKind::Temporary);
    command.buffers.push_back(buffer);
    frame[result] = {buffer};
  }
  command.results = call.getNumResults();
  auto [it, isNew] = kernelNumbers.try_emplace(kernel.getSymName(), program.kernels.size());
  if (isNew)
    program.kernels.push_back(kernel.getSymName().str());
  command.kernel = it->second;
  command.layer = layer;
  commands().push_back(std::move(command));
  return success();
}

LogicalResult Flattener::visitCall(func::CallOp call, Frame &frame) {
  auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
  if (!callee || callee.isExternal())
    return call.emitError() << "calls \"" << call.getCallee() << "\", which has no body";
  if (callee->hasAttr(kExecKernelAttr))
    return visitLaunch(call, callee, frame);
  SmallVector<Place> arguments;
  for (Value operand : call.getOperands())
    arguments.push_back(frame[operand]);
  int64_t outer = layer;
  if (outer < 0)
    layer = layers++;
  FailureOr<SmallVector<Place>> results = walk(callee, arguments);
  layer = outer;
  if (failed(results))
    return failure();
  for (auto [value, place] : llvm::zip(call.getResults(), *results))
    frame[value] = place;
  return success();
}

/// A tensor cut along dim: rows before it, and elements of one row in the smaller and the larger
/// tensor.
static void setRows(ProgramCommand &command, RankedTensorType small, RankedTensorType large,
                    int64_t dim) {
  command.outer = ShapedType::getNumElements(small.getShape().take_front(dim));
  command.inner = ShapedType::getNumElements(small.getShape().drop_front(dim));
  command.total = ShapedType::getNumElements(large.getShape().drop_front(dim));
}

LogicalResult Flattener::visitCollective(Operation *op, Frame &frame) {
  auto from = cast<RankedTensorType>(op->getOperand(0).getType()),
       to = cast<RankedTensorType>(op->getResult(0).getType());
  ProgramCommand command{CommandKind::Copy};
  command.count = from.getNumElements();
  if (auto gather = dyn_cast<shard::AllGatherOp>(op)) {
    command.kind = CommandKind::AllGather;
    setRows(command, from, to, gather.getDim());
  } else if (auto reduce = dyn_cast<shard::AllReduceOp>(op)) {
    command.kind = CommandKind::AllReduce;
    command.reduce = shard::toReduceKind(reduce.getKind());
  } else if (auto scatter = dyn_cast<shard::ReduceScatterOp>(op)) {
    command.kind = CommandKind::ReduceScatter;
    command.reduce = shard::toReduceKind(scatter.getKind());
    setRows(command, to, from, scatter.getDim());
  } else if (auto slice = dyn_cast<shard::SliceOp>(op)) {
    command.kind = CommandKind::Slice;
    setRows(command, to, from, slice.getDim());
  } else if (auto exchange = dyn_cast<shard::AllToAllOp>(op)) {
    command.kind = CommandKind::AllToAll;
    command.splitDim = exchange.getSplitDim();
    command.concatDim = exchange.getConcatDim();
    command.splitTotal = exchange.getSplitTotal();
    command.concatTotal = exchange.getConcatTotal();
    command.shape.assign(from.getShape().begin(), from.getShape().end());
  } else if (auto permute = dyn_cast<shard::PermuteOp>(op)) {
    command.kind = CommandKind::Permute;
    command.pairs.assign(permute.getPairs().begin(), permute.getPairs().end());
  } else if (auto broadcast = dyn_cast<shard::BroadcastOp>(op)) {
    command.kind = CommandKind::Broadcast;
    command.root = broadcast.getRoot();
  } else {
    return op->emitOpError()
           << "cannot be scheduled: it is neither a kernel nor a collective of the local view";
  }
  FailureOr<int> group = groupOf(op, op->getAttrOfType<ArrayAttr>("axes"));
  FailureOr<int> source = bufferOf(frame[op->getOperand(0)]);
  if (failed(group) || failed(source))
    return failure();
  command.group = *group;
  int result = newBuffer(op->getName().stripDialect().str(), to, BufferKind::Temporary);
  command.buffers = {*source, result};
  command.layer = layer;
  command.canOverlap = op->hasAttr(shard::ShardDialect::kOverlapAttr);
  command.isPiece = op->hasAttr(kPieceAttr);
  command.isBackward = op->hasAttr(shard::ShardDialect::kBackwardAttr);
  command.origin = originText(op);
  command.path = originPath(op);
  frame[op->getResult(0)] = {result};
  commands().push_back(std::move(command));
  return success();
}

LogicalResult Flattener::visit(Operation *op, Frame &frame) {
  if (auto parameter = dyn_cast<graph::ParameterOp>(op)) {
    frame[parameter.getResult()] = {-1, parameter};
    return success();
  }
  if (auto constant = dyn_cast<graph::ConstantOp>(op)) {
    auto [it, isNew] = constantBuffers.try_emplace(constant.getValueAttr(), 0);
    if (isNew) {
      it->second = newBuffer("constant", constant.getType(), BufferKind::Constant);
      program.constants.push_back({it->second, constant.getValueAttr()});
    }
    frame[constant.getResult()] = {it->second};
    return success();
  }
  if (auto reshape = dyn_cast<graph::ReshapeOp>(op)) {
    FailureOr<int> buffer = bufferOf(frame[reshape.getInput()]);
    if (failed(buffer))
      return failure();
    frame[reshape.getResult()] = {*buffer};
    return success();
  }
  if (auto index = dyn_cast<shard::AxisIndexOp>(op)) {
    Result<AxisList> axes = shard::resolveAxes(program.mesh, index.getAxes());
    if (!axes)
      return op->emitError() << axes.error;
    auto [it, isNew] = axisBuffers.try_emplace(index.getAxes(), 0);
    if (isNew) {
      it->second = newBuffer("axis_index", index.getType(), BufferKind::AxisIndex);
      program.axisIndices.push_back({it->second, *axes});
    }
    frame[index.getResult()] = {it->second};
    return success();
  }
  if (auto call = dyn_cast<func::CallOp>(op))
    return visitCall(call, frame);
  if (auto view = dyn_cast<shard::BucketViewOp>(op)) {
    FailureOr<int> buffer =
        visitView(view.getInput(), view.getType(), static_cast<int64_t>(view.getOffset()), frame);
    frame[view.getResult()] = {buffer.value_or(-1)};
    return buffer;
  }
  if (auto slice = dyn_cast<graph::SliceOp>(op)) // what is not contiguous has become a kernel
    if (std::optional<int64_t> begin = contiguousBegin(slice)) {
      FailureOr<int> buffer = visitView(slice.getInput(), slice.getType(), *begin, frame);
      frame[slice.getResult()] = {buffer.value_or(-1)};
      return buffer;
    }
  if (auto pack = dyn_cast<shard::BucketPackOp>(op))
    return visitPack(pack, frame);
  if (isa<shard::ShardDialect>(op->getDialect()) && op->getNumResults() == 1 &&
      op->getAttrOfType<ArrayAttr>("axes"))
    return visitCollective(op, frame);
  return op->emitOpError()
         << "cannot be scheduled: it is neither a kernel nor a collective of the local view";
}

FailureOr<SmallVector<Place>> Flattener::walk(func::FuncOp function, ArrayRef<Place> arguments) {
  if (llvm::is_contained(stack, function))
    return function.emitError() << "function \"" << function.getSymName() << "\" calls itself";
  stack.push_back(function);
  llvm::scope_exit pop([&] { stack.pop_back(); });
  Frame frame;
  for (auto [argument, place] : llvm::zip(function.getArguments(), arguments))
    frame[argument] = place;
  Block &block = function.getBody().front();
  for (Operation &op : block.without_terminator())
    if (failed(visit(&op, frame)))
      return failure();
  SmallVector<Place> results;
  for (Value value : block.getTerminator()->getOperands())
    results.push_back(frame[value]);
  return results;
}

/// `begin`: elements.
FailureOr<int> Flattener::visitView(Value input, RankedTensorType type, int64_t begin,
                                    Frame &frame) {
  FailureOr<int> source = bufferOf(frame[input]);
  if (failed(source))
    return failure();
  int buffer = newBuffer(program.buffers[*source].name, type, BufferKind::Temporary);
  ProgramBuffer &made = program.buffers[buffer], &whole = program.buffers[*source];
  made.whole = whole.whole < 0 ? *source : whole.whole;
  made.begin = whole.begin + begin * elementBytes(type.getElementType());
  return buffer;
}

LogicalResult Flattener::visitPack(shard::BucketPackOp op, Frame &frame) {
  ProgramEntry::Pack pack;
  pack.buffer = newBuffer("bucket_pack", op.getType(), BufferKind::Temporary);
  for (auto [input, offset] : llvm::zip(op.getInputs(), op.getOffsets())) {
    FailureOr<int> part = bufferOf(frame[input]);
    if (failed(part))
      return failure();
    pack.parts.push_back(*part);
    pack.begins.push_back(offset * elementBytes(op.getType().getElementType()));
  }
  pack.position = commands().size();
  frame[op.getResult()] = {pack.buffer};
  program.entries.back().packs.push_back(std::move(pack));
  return success();
}

/// The unpartitioned type of an argument or result of the entry function.
static RankedTensorType globalType(Type local, Attribute attr) {
  if (auto type = dyn_cast_or_null<TypeAttr>(attr))
    return cast<RankedTensorType>(type.getValue());
  return cast<RankedTensorType>(local);
}

static std::string nameOr(Attribute attr, const char *fallback, int64_t number) {
  if (auto name = dyn_cast_or_null<StringAttr>(attr))
    return name.str();
  return fallback + std::to_string(number);
}

/// An input that an output replaces has one buffer for all entries.
LogicalResult Flattener::addReplaced(func::FuncOp main, ProgramValue &input) {
  for (const ProgramEntry &entry : program.entries)
    for (const ProgramValue &known : entry.inputs) {
      if (known.name != input.name)
        continue;
      if (known.type != input.type || !(known.sharding == input.sharding))
        return main.emitError() << "input \"" << input.name << "\" is " << input.type << " in \""
                                << main.getSymName() << "\" and " << known.type << " in \""
                                << entry.name << "\""
                                << (known.type == input.type ? ", cut otherwise" : "")
                                << "; what an output replaces is the same in all entry points";
      input.buffer = known.buffer;
      return success();
    }
  RankedTensorType local =
      input.type.clone(localShape(input.sharding, Shape(input.type.getShape())));
  input.buffer = newBuffer(input.name, local, BufferKind::State);
  return success();
}

LogicalResult Flattener::addInputs(func::FuncOp main, SmallVectorImpl<Place> &places) {
  for (BlockArgument argument : main.getArguments()) {
    unsigned i = argument.getArgNumber();
    auto type = cast<RankedTensorType>(argument.getType());
    RankedTensorType global =
        globalType(type, main.getArgAttr(i, graph::GraphDialect::kGlobalTypeAttr));
    FailureOr<Sharding> sharding = resolve(main, shard::getSharding(argument), type.getRank());
    if (failed(sharding))
      return failure();
    if (auto state = main.getArgAttrOfType<StringAttr>(i, shard::ShardDialect::kStateAttr)) {
      auto found = stateBuffers.find(state.getValue());
      if (found == stateBuffers.end())
        return main.emitError() << "argument " << i << " is state \"" << state.getValue()
                                << "\", which does not exist";
      places.push_back({found->second});
      continue;
    }
    std::string name = nameOr(main.getArgAttr(i, graph::GraphDialect::kNameAttr), "input", i);
    if (Shape local = localShape(*sharding, Shape(global.getShape()));
        ArrayRef<int64_t>(local) != type.getShape())
      return main.emitError() << "input \"" << name << "\" of local type " << type
                              << " does not follow from its global type " << global
                              << " and its sharding";
    ProgramValue input{name, -1, global, *sharding};
    if (auto cache = main.getArgAttrOfType<DenseI64ArrayAttr>(i, kCacheAttr)) {
      input.capacity = cache[0];
      input.step = cache[1];
    }
    if (replacedInputs.contains(name)) {
      if (failed(addReplaced(main, input)))
        return failure();
    } else {
      input.buffer = newBuffer(name, type, BufferKind::Input);
    }
    places.push_back({input.buffer});
    program.entries.back().inputs.push_back(std::move(input));
  }
  return success();
}

/// An output that replaces an input: a state of the one entry that has both.
LogicalResult Flattener::addReplacement(func::FuncOp main, ProgramValue output) {
  ProgramEntry &entry = program.entries.back();
  auto input = llvm::find_if(entry.inputs,
                             [&](const ProgramValue &value) { return value.name == output.alias; });
  if (input == entry.inputs.end())
    return main.emitError() << "output \"" << output.name << "\" replaces input \"" << output.alias
                            << "\", which does not exist";
  if (llvm::any_of(entry.outputs,
                   [&](const ProgramValue &other) { return other.alias == output.alias; }))
    return main.emitError() << "output \"" << output.name
                            << "\" is a second one that replaces input \"" << output.alias << "\"";
  if (input->type != output.type || !(input->sharding == output.sharding))
    return main.emitError() << "output \"" << output.name << "\" of type " << output.type
                            << " replaces input \"" << output.alias << "\" of type " << input->type
                            << (input->type == output.type ? ", which is cut otherwise" : "");
  int source = output.buffer;
  if (source != input->buffer && program.buffers[program.wholeOf(source)].kind ==
                                     BufferKind::State) { // may be replaced before it is copied
    ProgramCommand copy{CommandKind::Copy};
    copy.buffers = {source,
                    newBuffer(output.name, program.buffers[source].type, BufferKind::Temporary)};
    copy.count = tensorBytes(program.buffers[source].type);
    source = copy.buffers[1];
    commands().push_back(std::move(copy));
  }
  entry.updates.push_back({source, input->buffer});
  output.buffer = input->buffer;
  entry.outputs.push_back(std::move(output));
  return success();
}

LogicalResult Flattener::addOutputs(func::FuncOp main, ArrayRef<Place> results) {
  for (auto [i, place] : llvm::enumerate(results)) {
    FailureOr<int> source = bufferOf(place);
    if (failed(source))
      return failure();
    auto type = cast<RankedTensorType>(main.getResultTypes()[i]);
    Value value = main.getBody().front().getTerminator()->getOperand(i);
    auto constant = value.getDefiningOp<graph::ConstantOp>();
    if (auto state = main.getResultAttrOfType<StringAttr>(i, shard::ShardDialect::kStateAttr)) {
      auto found = stateBuffers.find(state.getValue());
      if (found == stateBuffers.end() || program.buffers[found->second].type != type)
        return main.emitError() << "result " << i << " of type " << type << " is state \""
                                << state.getValue()
                                << (found == stateBuffers.end() ? "\", which does not exist"
                                                                : "\", which has another type");
      auto splat =
          constant ? dyn_cast<SplatElementsAttr>(constant.getValue()) : SplatElementsAttr();
      if (splat && isa<FloatType>(type.getElementType()) &&
          splat.getSplatValue<APFloat>().isZero()) {
        ProgramCommand zero{CommandKind::Zero};
        zero.buffers = {found->second};
        zero.count = tensorBytes(type);
        commands().push_back(std::move(zero));
        continue;
      }
      program.entries.back().updates.push_back({*source, found->second});
      continue;
    }
    RankedTensorType global =
        globalType(type, main.getResultAttr(i, graph::GraphDialect::kGlobalTypeAttr));
    auto attr = dyn_cast_or_null<shard::ShardingAttr>(
        main.getResultAttr(i, shard::ShardDialect::kShardingAttr));
    FailureOr<Sharding> sharding = resolve(main, attr, type.getRank());
    if (failed(sharding))
      return failure();
    std::string name = nameOr(main.getResultAttr(i, graph::GraphDialect::kNameAttr), "output", i);
    if (Shape local = localShape(*sharding, Shape(global.getShape()));
        ArrayRef<int64_t>(local) != type.getShape())
      return main.emitError() << "output \"" << name << "\" of local type " << type
                              << " does not follow from its global type " << global
                              << " and its sharding";
    if (auto alias = main.getResultAttrOfType<StringAttr>(i, kAliasAttr)) {
      if (failed(addReplacement(main, {name, *source, global, *sharding, alias.str()})))
        return failure();
      continue;
    }
    int buffer = *source;
    if (program.buffers[buffer].kind != BufferKind::Temporary ||
        program.buffers[buffer].whole >=
            0) { // an input, weight or part that is returned, or a second name
      ProgramCommand copy{CommandKind::Copy};
      int target = newBuffer(name, type, BufferKind::Output);
      copy.buffers = {buffer, target};
      copy.count = tensorBytes(type);
      commands().push_back(copy);
      buffer = target;
    } else {
      program.buffers[buffer].kind = BufferKind::Output;
      program.buffers[buffer].name = name;
    }
    program.entries.back().outputs.push_back({name, buffer, global, *sharding});
  }
  return success();
}

/// Moves what depends on weights and constants only to the init list.
void Flattener::splitInit() {
  std::vector<bool> isFixed(program.buffers.size());
  for (size_t i = 0; i < isFixed.size(); ++i) {
    BufferKind kind = program.buffers[i].kind;
    isFixed[i] = kind == BufferKind::Parameter || kind == BufferKind::Constant ||
                 kind == BufferKind::AxisIndex;
  }
  for (ProgramEntry &entry : program.entries) {
    std::vector<ProgramCommand> rest;
    std::vector<size_t> kept = {0}; // of the first n commands
    for (ProgramCommand &command : entry.commands) {
      bool isInit = command.kind != CommandKind::Zero && llvm::all_of(command.reads(), [&](int b) {
                      return isFixed[program.wholeOf(b)];
                    });
      for (int b : command.writes())
        isFixed[b] = isInit;
      (isInit ? program.init : rest).push_back(std::move(command));
      kept.push_back(rest.size());
    }
    for (ProgramEntry::Pack &pack : entry.packs)
      pack.position = kept[pack.position];
    entry.commands = std::move(rest);
  }
}

LogicalResult Flattener::addBuckets() {
  for (auto op : module.getOps<shard::BucketOp>()) {
    ProgramBucket bucket{
        op.getSymName().str(), op.getElement(), static_cast<int64_t>(op.getLength()), {}, {}};
    Result<AxisList> axes = shard::resolveAxes(program.mesh, op.getAxes());
    if (!axes)
      return op.emitOpError() << axes.error;
    bucket.axes = *axes;
    for (auto item : op.getItems().getAsRange<DictionaryAttr>()) {
      auto type = cast<RankedTensorType>(item.getAs<TypeAttr>("type").getValue());
      FailureOr<Sharding> sharding =
          resolve(op, item.getAs<shard::ShardingAttr>("sharding"), type.getRank());
      if (failed(sharding))
        return failure();
      bucket.items.push_back({item.getAs<StringAttr>("tensor"), type,
                              item.getAs<DenseI64ArrayAttr>("segment"), *sharding,
                              item.getAs<IntegerAttr>("offset").getInt()});
    }
    bucketNumbers[op.getSymName()] = program.buckets.size();
    program.buckets.push_back(std::move(bucket));
  }
  return success();
}

LogicalResult Flattener::addStates() {
  for (auto op : module.getOps<shard::StateOp>()) {
    int buffer =
        newBuffer(op.getSymName().str(), cast<RankedTensorType>(op.getType()), BufferKind::State);
    stateBuffers[op.getSymName()] = buffer;
    int bucket = op.getBucket() ? bucketNumbers.lookup(*op.getBucket()) : -1;
    Result<AxisList> axes = shard::resolveAxes(program.mesh, op.getAxes());
    if (!axes)
      return op.emitOpError() << axes.error;
    program.states.push_back({op.getSymName().str(), op.getRole().str(), buffer, bucket, *axes});
  }
  return success();
}

LogicalResult Flattener::flattenEntry(func::FuncOp function) {
  program.entries.push_back({function.getSymName().str(), {}, {}, {}, {}, {}});
  layers = 0;
  SmallVector<Place> inputs;
  if (failed(addInputs(function, inputs)))
    return failure();
  FailureOr<SmallVector<Place>> results = walk(function, inputs);
  return failed(results) ? failure() : addOutputs(function, *results);
}

LogicalResult Flattener::run() {
  SmallVector<func::FuncOp> entries;
  for (auto function : module.getOps<func::FuncOp>())
    if (function.isPublic() && !function.isExternal() && !function->hasAttr(kExecKernelAttr))
      entries.push_back(function);
  if (entries.empty())
    return module.emitError() << "there is no public function to schedule";
  SmallVector<shard::MeshOp> meshes(module.getOps<shard::MeshOp>());
  if (meshes.size() > 1)
    return meshes[1].emitError() << "a second mesh: a program runs on one, \""
                                 << meshes[0].getSymName() << "\"";
  if (!meshes.empty())
    program.mesh = meshes[0].getMesh();
  if (failed(addBuckets()) || failed(addStates()))
    return failure();
  for (func::FuncOp entry : entries)
    for (unsigned i = 0; i < entry.getNumResults(); ++i)
      if (auto alias = entry.getResultAttrOfType<StringAttr>(i, kAliasAttr))
        replacedInputs.insert(alias.getValue());
  for (func::FuncOp entry : entries)
    if (failed(flattenEntry(entry)))
      return failure();
  splitInit();
  return success();
}

FailureOr<Program> flattenProgram(ModuleOp module) {
  Flattener flattener(module);
  if (failed(flattener.run()))
    return failure();
  return std::move(flattener.program);
}

} // namespace shardc
