//===- Interpreter.cpp - Runs a module on simulated devices ---------------===//
//
// Input: a module of func, graph and shard ops; global input tensors. Output: global output
// tensors.
//
//   1. describe the entry: names, global types and shardings of inputs and outputs, the mesh
//      (Entry.cpp)
//   2. refuse what would exceed the byte budget (Budget.cpp), before anything runs
//   3. cut the inputs into the devices' parts
//   4. run op by op: graph ops on each device by itself, shard ops on all devices together, calls
//      recursively; a value is freed at its last use
//   5. put the outputs together, checking that replicas agree
//
// Limits: straight-line functions; no op with regions.
//
//===----------------------------------------------------------------------===//

#include "shardc/Interpret/Interpreter.h"

#include "dialects/Graph/Graph.h"
#include "shardc/Interpret/Shards.h"
#include "shardc/Support/StridedWalk.h"

using namespace mlir;
using namespace shardc;
using graph::GraphDialect;

//===----------------------------------------------------------------------===//
// Execution
//===----------------------------------------------------------------------===//

namespace {

/// The values of one call: each with the uses that are still to come.
class Frame {
public:
  void define(Value value, DeviceTensors tensors) {
    unsigned uses = std::distance(value.use_begin(), value.use_end());
    if (uses)
      values[value] = {std::move(tensors), uses};
  }
  /// The tensors for one use; the last one moves them out.
  DeviceTensors take(Value value) {
    auto slot = values.find(value);
    if (--slot->second.uses)
      return slot->second.tensors;
    DeviceTensors tensors = std::move(slot->second.tensors);
    values.erase(slot);
    return tensors;
  }

private:
  struct Slot {
    DeviceTensors tensors;
    unsigned uses = 0;
  };
  llvm::DenseMap<Value, Slot> values;
};

class Executor {
public:
  using Results = FailureOr<SmallVector<DeviceTensors>>;

  Executor(const Mesh &mesh, const InterpretOptions &options)
      : mesh(mesh), devices(mesh.deviceCount()), options(options) {}

  Results call(func::FuncOp function, SmallVector<DeviceTensors> arguments);

private:
  Results evaluate(Operation *op, SmallVector<DeviceTensors> operands);
  Results evaluateEach(graph::EvaluateOpInterface op, SmallVector<DeviceTensors> operands);
  Results loadParameter(graph::ParameterOp op);
  FailureOr<HostTensor> readParameter(graph::ParameterOp op);
  void define(Frame &frame, Value value, DeviceTensors tensors) {
    if (options.observe)
      options.observe(value, tensors);
    frame.define(value, std::move(tensors));
  }

  const Mesh &mesh;
  int64_t devices;
  const InterpretOptions &options;
  SymbolTableCollection tables;
  SmallVector<func::CallOp> callers; ///< innermost last
};

} // namespace

Executor::Results Executor::call(func::FuncOp function, SmallVector<DeviceTensors> arguments) {
  Frame frame;
  for (auto [argument, tensors] : llvm::zip(function.getArguments(), arguments))
    define(frame, argument, std::move(tensors));
  for (Operation &op : function.front()) {
    SmallVector<DeviceTensors> operands;
    for (Value operand : op.getOperands())
      operands.push_back(frame.take(operand));
    if (isa<func::ReturnOp>(op))
      return operands;
    Results results = evaluate(&op, std::move(operands));
    if (failed(results))
      return failure();
    for (auto [value, tensors] : llvm::zip(op.getResults(), *results))
      define(frame, value, std::move(tensors));
  }
  return function.emitOpError() << "does not return";
}

Executor::Results Executor::evaluate(Operation *op, SmallVector<DeviceTensors> operands) {
  if (auto call = dyn_cast<func::CallOp>(op)) {
    auto callee = tables.lookupNearestSymbolFrom<func::FuncOp>(op, call.getCalleeAttr());
    callers.push_back(call);
    Results results = this->call(callee, std::move(operands));
    callers.pop_back();
    return results;
  }
  if (auto parameter = dyn_cast<graph::ParameterOp>(op))
    return loadParameter(parameter);
  if (auto across = dyn_cast<shard::MeshEvaluateOpInterface>(op))
    return across.evaluateOnMesh(mesh, operands);
  if (auto alone = dyn_cast<graph::EvaluateOpInterface>(op))
    return evaluateEach(alone, std::move(operands));
  InFlightDiagnostic diag = op->emitOpError()
                            << "cannot be interpreted: it has no reference evaluation";
  if (auto path = op->getAttrOfType<StringAttr>(GraphDialect::kPathAttr))
    diag << " (in " << path << ")";
  for (func::CallOp caller : llvm::reverse(callers))
    diag.attachNote(caller.getLoc()) << "called from here";
  return diag;
}

Executor::Results Executor::evaluateEach(graph::EvaluateOpInterface op,
                                         SmallVector<DeviceTensors> operands) {
  SmallVector<DeviceTensors> results(op->getNumResults(), DeviceTensors(devices));
  for (int64_t device = 0; device < devices; ++device) {
    SmallVector<HostTensor> local;
    for (DeviceTensors &operand : operands)
      local.push_back(std::move(operand[device]));
    FailureOr<SmallVector<HostTensor>> values = op.evaluate(local);
    if (failed(values))
      return failure();
    for (auto [result, value] : llvm::zip(results, *values))
      result[device] = std::move(value);
  }
  return results;
}

//===----------------------------------------------------------------------===//
// Parameters
//===----------------------------------------------------------------------===//

/// The unpartitioned value of a parameter: inline, or its segment of the stored tensor.
FailureOr<HostTensor> Executor::readParameter(graph::ParameterOp op) {
  auto fail = [&] { return op.emitOpError() << "\"" << op.getName() << "\" "; };
  if (op.getValue()) {
    FailureOr<HostTensor> value = HostTensor::fromAttr(*op.getValue());
    return succeeded(value) ? value : fail() << "has a value of a form that cannot be read";
  }
  if (!options.parameters)
    return fail() << "has no inline value, and no weights are given";
  Result<HostTensor> stored = options.parameters(op.getName(), op.getStoredType());
  if (!stored)
    return fail() << "cannot be read: " << stored.error;
  if (stored->type != op.getStoredType())
    return fail() << "is stored as " << stored->type << ", expected " << op.getStoredType();
  if (!op.getSegment())
    return std::move(*stored);
  HostTensor segment(op.getGlobalType());
  SmallVector<int64_t> starts(segment.rank(), 0);
  starts[(*op.getSegment())[0]] = (*op.getSegment())[1];
  copyStrided(segment.shape(), segment, StridedView::whole(segment.shape()), *stored,
              StridedView::box(stored->shape(), starts));
  return segment;
}

Executor::Results Executor::loadParameter(graph::ParameterOp op) {
  FailureOr<HostTensor> global = readParameter(op);
  if (failed(global))
    return failure();
  shard::ShardingAttr attr =
      devices > 1 ? shard::getSharding(op.getResult()) : shard::ShardingAttr();
  if (!attr && global->type != op.getType())
    return op.emitOpError() << "is a part " << op.getType() << " of " << global->type
                            << " without a sharding";
  if (!attr)
    return SmallVector<DeviceTensors>{DeviceTensors(devices, *global)};
  Result<Sharding> sharding = attr.resolve(mesh);
  if (!sharding)
    return op.emitOpError() << sharding.error;
  if (sharding->dims.size() != static_cast<size_t>(global->rank()) ||
      shardType(global->type, *sharding) != op.getType())
    return op.emitOpError() << "has type " << op.getType() << ", which is not the part of "
                            << global->type << " that " << str(mesh, *sharding) << " gives";
  DeviceTensors parts;
  for (int64_t rank = 0; rank < devices; ++rank)
    parts.push_back(takeShard(*global, mesh, *sharding, rank));
  return SmallVector<DeviceTensors>{std::move(parts)};
}

//===----------------------------------------------------------------------===//
// Entry
//===----------------------------------------------------------------------===//

static LogicalResult checkBudget(ModuleOp module, const EntryInterface &entry,
                                 const InterpretOptions &options) {
  FailureOr<int64_t> bytes = estimateInterpretBytes(module, options.entry);
  if (failed(bytes))
    return failure();
  if (*bytes <= options.byteBudget)
    return success();
  int64_t devices = entry.mesh.deviceCount();
  func::FuncOp function = entry.function;
  return emitError(function.getLoc())
         << "interpreting @" << function.getSymName() << " on " << devices
         << (devices == 1 ? " device" : " devices") << " needs " << formatBytes(*bytes)
         << ", above the limit of " << formatBytes(options.byteBudget)
         << "; use fewer layers or smaller dimensions (--dim), or raise --budget";
}

static Executor::Results cutInputs(const EntryInterface &entry, ArrayRef<HostTensor> inputs) {
  func::FuncOp function = entry.function;
  if (inputs.size() != entry.inputs.size())
    return emitError(function.getLoc())
           << inputs.size() << " inputs are given, expected " << entry.inputs.size();
  SmallVector<DeviceTensors> arguments;
  for (auto [input, given] : llvm::zip(entry.inputs, inputs)) {
    if (given.type != input.type)
      return emitError(function.getLoc()) << "input \"" << input.name << "\" has type "
                                          << given.type << ", expected " << input.type;
    if (input.sharding && !input.sharding->partial.empty())
      return emitError(function.getLoc())
             << "input \"" << input.name << "\" has a pending reduction";
    DeviceTensors &parts = arguments.emplace_back();
    for (int64_t rank = 0; rank < entry.mesh.deviceCount(); ++rank)
      parts.push_back(input.sharding ? takeShard(given, entry.mesh, *input.sharding, rank) : given);
  }
  return arguments;
}

FailureOr<SmallVector<HostTensor>> shardc::interpret(ModuleOp module, ArrayRef<HostTensor> inputs,
                                                     const InterpretOptions &options) {
  FailureOr<EntryInterface> entry = describeEntry(module, options.entry);
  if (failed(entry) || failed(checkBudget(module, *entry, options)))
    return failure();
  Executor::Results arguments = cutInputs(*entry, inputs);
  if (failed(arguments))
    return failure();
  Executor::Results results =
      Executor(entry->mesh, options).call(entry->function, std::move(*arguments));
  if (failed(results))
    return failure();
  SmallVector<HostTensor> outputs;
  for (auto [output, parts] : llvm::zip(entry->outputs, *results)) {
    Sharding sharding = output.sharding.value_or(Sharding::replicated(output.type.getRank()));
    Result<HostTensor> whole = assembleShards(parts, output.type, entry->mesh, sharding);
    if (!whole)
      return emitError(entry->function.getLoc())
             << "output \"" << output.name << "\": " << whole.error;
    outputs.push_back(std::move(*whole));
  }
  return outputs;
}
