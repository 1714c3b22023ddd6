//===- ImportOnnx.cpp - ONNX models as graph IR ---------------------------===//
//
// Input: an ONNX file. Output: a module with `@main` of graph ops, all shapes static, broadcasts
// explicit; a WeightStore with what `graph.parameter` names.
//
// 1. Read and check the file (OnnxModel.cpp); list every node whose operator is unknown.
// 2. Plan names: module path of each node, which initializers are weights (Names.cpp,
//    Initializers.cpp).
// 3. Bind the dimensions of the inputs, and those inputs that the caller gives as constants.
// 4. Import node by node: one small function an operator, found in a table; functions of the file
//    inline. The types of results follow from operands. A node that fails poisons its results, so
//    that all independent errors are told.
// 5. Fold what depends on neither inputs nor weights (Folder.cpp) and drop what nobody uses.
//
// A cache of a fixed capacity takes two imports up to step 4, and a comparison (GrowingCache.cpp).
//
// Limits: tensors of at most byte-granular element types; no control flow (If, Loop, Scan);
// sequences only where they can be resolved now; opsets 7 to 28, and earlier ones where the
// operators meant the same.
//
//===----------------------------------------------------------------------===//

#include "shardc/Import/ImportOnnx.h"

#include "DeviceConfigurations.h"
#include "GrowingCache.h"
#include "Names.h"
#include "NodeContext.h"
#include "QuantizedWeights.h"
#include "shardc/Support/Alias.h"
#include "shardc/Support/Npy.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Verifier.h"

#include "llvm/ADT/ScopeExit.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

static constexpr int64_t kMinOpset = 7, kMaxOpset = 28;
/// Operators that mean the same since opset 1. (Others broadcast differently, or had attributes for
/// inputs.)
static constexpr StringLiteral kTimeless[] = {
    "Abs",  "Ceil",     "Constant", "Exp",  "Floor", "Gather",     "Identity", "LeakyRelu",
    "Log",  "MatMul",   "Neg",      "Not",  "Relu",  "Reciprocal", "Shape",    "Sigmoid",
    "Size", "Softplus", "Softsign", "Sqrt", "Tanh",  "Transpose"};
/// Calls of functions within functions; more is a recursion.
static constexpr unsigned kMaxCallDepth = 64;

namespace {

/// The names that are visible in a graph or in the body of a function.
struct Scope {
  llvm::StringMap<Binding> bindings;
  llvm::StringMap<const Attribute *> attributes; ///< of the call, in a function's body
  ArrayRef<Opset> opsets;
  std::string prefix; ///< of node names
  std::string path;   ///< module path of nodes without their own
  unsigned depth = 0;
};

class Importer {
public:
  Importer(MLIRContext &context, const ImportOptions &options, WeightStore &store,
           const Model &model)
      : builder(&context), options(options), store(store), model(model), folder(options.foldLimit),
        fileLoc(FileLineColLoc::get(&context, options.path, 0, 0)) {}

  /// Nothing is folded yet.
  FailureOr<OwningOpRef<ModuleOp>> build();
  FailureOr<OwningOpRef<ModuleOp>> run();

private:
  LogicalResult checkOpsets(ArrayRef<Opset> opsets, ArrayRef<Node> nodes);
  LogicalResult checkOperators();
  LogicalResult importInputs(Block &block);
  LogicalResult checkConstantNames();
  bool fits(const ValueInfo &input, ArrayRef<int64_t> shape) const;
  LogicalResult bindConstant(const ValueInfo &input, StringRef path);
  bool isArgument(const ValueInfo &input) const {
    return !initializers.count(input.name) && !options.constants.count(input.name);
  }
  FailureOr<RankedTensorType> inputType(const ValueInfo &input, llvm::StringMap<bool> &unknown);
  LogicalResult importNodes();
  LogicalResult importNode(const Node &node, StringRef path, Scope &scope);
  LogicalResult importOperator(const Node &node, StringAttr path, Scope &scope,
                               std::vector<Binding> inputs, std::vector<Binding> &outputs);
  LogicalResult inlineFunction(const Function &function, const Node &node, StringRef path,
                               Scope &scope, std::vector<Binding> inputs,
                               std::vector<Binding> &outputs);
  LogicalResult importOutputs(func::FuncOp func, Block &block);
  LogicalResult markCarried(func::FuncOp func);
  LogicalResult checkOutput(const ValueInfo &output, RankedTensorType type);
  FailureOr<Binding> lookUp(StringRef name, const Node &node, Location loc, Scope &scope);
  FailureOr<Value> importInitializer(const Tensor &tensor);
  const Function *findFunction(const Node &node) const;
  FailureOr<std::string> dimName(const ValueInfo &info, unsigned dim);

  InFlightDiagnostic error() { return mlir::emitError(fileLoc); }
  Location nodeLoc(const Node &node, const Scope &scope) {
    std::string name = scope.prefix + node.name.str();
    return name.empty() ? fileLoc : Location(NameLoc::get(builder.getStringAttr(name), fileLoc));
  }

  OpBuilder builder;
  const ImportOptions &options;
  WeightStore &store;
  const Model &model;
  Folder folder;
  Location fileLoc;
  OperatorTable table;
  llvm::StringMap<const Tensor *> initializers;
  llvm::StringMap<InitializerPlan> plans;
  llvm::StringMap<Value> parameters;     ///< by name; tied weights share one
  llvm::StringMap<unsigned> definitions; ///< node that defines a name of the main graph
  llvm::StringMap<const Function *> functions;
  std::vector<std::string> paths;
  Scope main;
};

} // namespace

static std::string functionKey(StringRef domain, StringRef name, StringRef overload) {
  return (domain + "::" + name + "::" + overload).str();
}

const Function *Importer::findFunction(const Node &node) const {
  return functions.lookup(functionKey(node.domain, node.op, node.overload));
}

static int64_t opsetOf(ArrayRef<Opset> opsets, StringRef domain) {
  for (const Opset &opset : opsets)
    if (opset.domain == domain)
      return opset.version;
  return 0;
}

//===----------------------------------------------------------------------===//
// Checks of the whole file
//===----------------------------------------------------------------------===//

LogicalResult Importer::checkOpsets(ArrayRef<Opset> opsets, ArrayRef<Node> nodes) {
  int64_t version = opsetOf(opsets, "");
  bool isTimeless = version > 0 && llvm::all_of(nodes, [](const Node &node) {
                      return !node.domain.empty() || llvm::is_contained(kTimeless, node.op);
                    });
  if (version != 0 && ((version < kMinOpset && !isTimeless) || version > kMaxOpset))
    return error() << "opset " << version << " is not supported; " << kMinOpset << " to "
                   << kMaxOpset << " are";
  return success();
}

LogicalResult Importer::checkOperators() {
  std::string unknown;
  llvm::raw_string_ostream os(unknown);
  unsigned count = 0;
  auto check = [&](ArrayRef<Node> nodes, ArrayRef<Opset> opsets) {
    for (const Node &node : nodes) {
      if (findFunction(node))
        continue;
      auto op = table.find(operatorKey(node.domain, node.op));
      bool isKnown = op != table.end();
      std::vector<std::string> complaints;
      if (isKnown && op->second.settings)
        complaints = op->second.settings->complaints(node);
      if (!node.problem.empty())
        complaints.push_back(node.problem);
      if (isKnown && complaints.empty())
        continue;
      ++count;
      os << "\n  node \"" << node.name << "\": " << operatorKey(node.domain, node.op)
         << " (version " << opsetOf(opsets, node.domain) << ")";
      if (isKnown)
        os << ": " << llvm::join(complaints, "; ");
    }
  };
  check(model.graph.nodes, model.opsets);
  for (const Function &function : model.functions)
    check(function.nodes,
          function.opsets.empty() ? ArrayRef(model.opsets) : ArrayRef(function.opsets));
  if (count == 0)
    return success();
  return error() << count
                 << (count == 1 ? " node uses an operator that is"
                                : " nodes use operators that are")
                 << " not supported:" << unknown;
}

//===----------------------------------------------------------------------===//
// Inputs and outputs
//===----------------------------------------------------------------------===//

static std::string anonymousDim(const ValueInfo &info, unsigned dim) {
  return (info.name + "[" + llvm::Twine(dim) + "]").str();
}

static std::string declaredShape(const ValueInfo &info) {
  std::string declared;
  llvm::raw_string_ostream os(declared);
  llvm::interleaveComma(info.dims, os, [&](const Dim &dim) {
    if (dim.size)
      os << *dim.size;
    else
      os << (dim.name.empty() ? StringRef("?") : dim.name);
  });
  return "[" + declared + "]";
}

/// The size of a dimension whose name is a sum of others and of numbers, as optimum writes them
/// ("past_sequence_length + 1"), if all of them are known.
static std::optional<int64_t> sumOf(StringRef name, const llvm::StringMap<int64_t> &sizes) {
  SmallVector<StringRef> terms;
  name.split(terms, '+');
  int64_t sum = 0;
  for (StringRef term : terms) {
    int64_t size;
    auto known = sizes.find(term.trim());
    if (known != sizes.end())
      size = known->second;
    else if (term.trim().getAsInteger(10, size))
      return std::nullopt;
    if (llvm::AddOverflow(sum, size, sum))
      return std::nullopt;
  }
  return terms.size() > 1 ? std::optional(sum) : std::nullopt;
}

FailureOr<RankedTensorType> Importer::inputType(const ValueInfo &input,
                                                llvm::StringMap<bool> &unknown) {
  if (!input.problem.empty())
    return error() << "input \"" << input.name << "\" " << input.problem;
  if (!input.hasShape)
    return error() << "input \"" << input.name << "\" has no shape";
  Shape shape;
  for (auto [d, dim] : llvm::enumerate(input.dims)) {
    std::string name = dim.name.empty() ? anonymousDim(input, d) : dim.name.str();
    auto bound = options.dims.find(name);
    if (bound == options.dims.end())
      bound = options.dims.find(anonymousDim(input, d));
    if (dim.size)
      shape.push_back(*dim.size);
    else if (bound != options.dims.end())
      shape.push_back(bound->second);
    else if (std::optional<int64_t> sum = sumOf(name, options.dims))
      shape.push_back(*sum);
    else
      unknown[name] = true;
    if (!shape.empty() && shape.size() == d + 1 && shape.back() < 0)
      return error() << "input \"" << input.name << "\": dimension " << d << " has size "
                     << shape.back();
  }
  if (shape.size() != input.dims.size())
    return RankedTensorType();
  int64_t count = 1;
  for (int64_t size : shape)
    if (llvm::MulOverflow(count, size, count))
      return error() << "input \"" << input.name << "\" of shape " << shapeText(shape)
                     << " is too large";
  return RankedTensorType::get(shape, dtypeToType(builder.getContext(), *input.dtype));
}

static std::string joinKeys(const llvm::StringMap<bool> &names) {
  SmallVector<StringRef> sorted(names.keys());
  llvm::sort(sorted);
  return "\"" + llvm::join(sorted, "\", \"") + "\"";
}

/// Whether a tensor of that shape can be the input, with the sizes that the caller gave to
/// dimensions.
bool Importer::fits(const ValueInfo &input, ArrayRef<int64_t> shape) const {
  if (!input.hasShape)
    return true;
  return input.dims.size() == shape.size() &&
         llvm::all_of(llvm::zip_equal(input.dims, shape), [&](auto pair) {
           const auto &[dim, size] = pair;
           auto bound = options.dims.find(dim.name);
           return dim.size ? *dim.size == size
                           : bound == options.dims.end() || bound->second == size;
         });
}

LogicalResult Importer::bindConstant(const ValueInfo &input, StringRef path) {
  if (!input.problem.empty())
    return error() << "input \"" << input.name << "\" " << input.problem;
  MLIRContext *context = builder.getContext();
  Result<HostTensor> tensor = readNpy(path, context);
  // The input's type says whether two bytes are a bf16.
  if (Type element = dtypeToType(context, *input.dtype);
      tensor && tensor->type.getElementType() != element)
    tensor = readNpy(path, context, RankedTensorType::get(tensor->shape(), element));
  if (!tensor)
    return error() << "constant for input \"" << input.name << "\": " << tensor.error;
  if (!fits(input, tensor->shape()))
    return error() << "constant for input \"" << input.name << "\": " << path << " has shape "
                   << shapeText(tensor->shape()) << ", the file declares " << declaredShape(input);
  GraphBuilder g(builder, folder, NameLoc::get(builder.getStringAttr(input.name), fileLoc),
                 StringAttr());
  main.bindings[input.name].value = g.constant(*tensor);
  return success();
}

LogicalResult Importer::checkConstantNames() {
  for (const auto &entry : options.constants) {
    auto isNamed = [&](const ValueInfo &input) { return input.name == entry.getKey(); };
    if (llvm::any_of(model.graph.inputs, isNamed))
      continue;
    InFlightDiagnostic diag = error()
                              << "the model has no input \"" << entry.getKey() << "\"; it has ";
    llvm::interleaveComma(model.graph.inputs, diag,
                          [&](const ValueInfo &input) { diag << '"' << input.name << '"'; });
    return diag;
  }
  return success();
}

LogicalResult Importer::importInputs(Block &block) {
  if (failed(checkConstantNames()))
    return failure();
  llvm::StringMap<bool> unknown, known;
  for (const ValueInfo &input : model.graph.inputs) {
    auto given = options.constants.find(input.name);
    bool isGiven = given != options.constants.end();
    if (initializers.count(input.name) && !isGiven)
      continue; // a default value: the model is compiled with it
    for (auto [d, dim] : llvm::enumerate(input.dims)) {
      known[anonymousDim(input, d)] = true;
      if (!dim.name.empty())
        known[dim.name] = true;
    }
    if (isGiven) {
      if (failed(bindConstant(input, given->second)))
        return failure();
      continue;
    }
    FailureOr<RankedTensorType> type = inputType(input, unknown);
    if (failed(type))
      return failure();
    if (!*type)
      continue;
    Binding binding;
    binding.value =
        block.addArgument(*type, NameLoc::get(builder.getStringAttr(input.name), fileLoc));
    if (!main.bindings.try_emplace(input.name, std::move(binding)).second)
      return error() << "input \"" << input.name << "\" stands twice";
  }
  if (!unknown.empty())
    return error() << "dimensions " << joinKeys(unknown)
                   << " have no size; give one to each with --dim NAME=N";
  llvm::StringMap<bool> named;
  for (const ValueInfo &input : model.graph.inputs)
    for (const Dim &dim : input.dims)
      if (!dim.name.empty())
        named[dim.name] = true;
  for (const auto &entry : options.dims)
    if (!known.count(entry.getKey()))
      return error() << "the model has no dimension \"" << entry.getKey() << "\""
                     << (named.empty() ? std::string("; all its dimensions are fixed")
                                       : "; it has " + joinKeys(named));
  return success();
}

/// The declared shape of an output, as far as it is known, against what the nodes compute.
LogicalResult Importer::checkOutput(const ValueInfo &output, RankedTensorType type) {
  if (fits(output, type.getShape()))
    return success();
  return error() << "output \"" << output.name << "\" has shape " << shapeText(type.getShape())
                 << ", the file declares " << declaredShape(output);
}

LogicalResult Importer::importOutputs(func::FuncOp func, Block &block) {
  SmallVector<Value> results;
  SmallVector<DictionaryAttr> attrs;
  for (const ValueInfo &output : model.graph.outputs) {
    Node reader;
    reader.name = "output";
    FailureOr<Binding> binding = lookUp(output.name, reader, fileLoc, main);
    if (failed(binding))
      return failure();
    if (!binding->value)
      return error() << "output \"" << output.name << "\" is a sequence, which is not supported";
    if (failed(checkOutput(output, cast<RankedTensorType>(binding->value.getType()))))
      return failure();
    results.push_back(binding->value);
    attrs.push_back(builder.getDictionaryAttr(
        builder.getNamedAttr(GraphDialect::kNameAttr, builder.getStringAttr(output.name))));
  }
  func::ReturnOp::create(builder, fileLoc, results);
  func.setFunctionType(
      builder.getFunctionType(block.getArgumentTypes(), ValueRange(results).getTypes()));
  func.setAllResultAttrs(attrs);
  unsigned n = 0;
  for (const ValueInfo &input : model.graph.inputs) {
    if (!isArgument(input))
      continue;
    for (auto [d, dim] : llvm::enumerate(input.dims))
      if (options.cacheCapacity && dim.name == options.cacheDim)
        func.setArgAttr(n, kCacheDimAttr, builder.getI64IntegerAttr(d));
    func.setArgAttr(n++, GraphDialect::kNameAttr, builder.getStringAttr(input.name));
  }
  return markCarried(func);
}

LogicalResult Importer::markCarried(func::FuncOp func) {
  auto is = [](DictionaryAttr attrs, StringRef name) {
    return cast<StringAttr>(attrs.get(GraphDialect::kNameAttr)).getValue() == name;
  };
  for (const auto &entry : options.carried) {
    auto arguments = llvm::seq(func.getNumArguments()), results = llvm::seq(func.getNumResults());
    auto argument = llvm::find_if(
        arguments, [&](unsigned n) { return is(func.getArgAttrDict(n), entry.getKey()); });
    auto result = llvm::find_if(
        results, [&](unsigned n) { return is(func.getResultAttrDict(n), entry.getValue()); });
    if (argument == arguments.end())
      return error() << "the model has no input \"" << entry.getKey() << "\" to be carried";
    if (result == results.end())
      return error() << "the model has no output \"" << entry.getValue() << "\" to replace input \""
                     << entry.getKey() << "\"";
    if (func.getArgumentTypes()[*argument] != func.getResultTypes()[*result])
      return error() << "output \"" << entry.getValue() << "\" of "
                     << func.getResultTypes()[*result] << " cannot replace input \""
                     << entry.getKey() << "\" of " << func.getArgumentTypes()[*argument];
    func.setResultAttr(*result, kAliasAttr, builder.getStringAttr(entry.getKey()));
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

FailureOr<Value> Importer::importInitializer(const Tensor &tensor) {
  const InitializerPlan &plan = plans[tensor.name];
  Location loc = NameLoc::get(builder.getStringAttr(tensor.name), fileLoc);
  if (!plan.isParameter) {
    FailureOr<HostTensor> host = toHost(builder.getContext(), tensor);
    if (failed(host))
      return error() << "initializer \"" << tensor.name
                     << "\" is needed at compile time, but its external file is missing";
    GraphBuilder g(builder, folder, loc, StringAttr());
    return g.constant(*host);
  }
  Value &parameter = parameters[plan.name];
  if (!parameter) {
    Shape shape(tensor.weight.shape.begin(), tensor.weight.shape.end());
    if (plan.isTransposed)
      std::swap(shape[0], shape[1]);
    Type type =
        RankedTensorType::get(shape, dtypeToType(builder.getContext(), tensor.weight.dtype));
    GraphBuilder g(builder, folder, loc, StringAttr());
    parameter = g.create<ParameterOp>(type, plan.name);
  }
  if (!plan.isTransposed)
    return parameter;
  GraphBuilder g(builder, folder, loc, StringAttr());
  return g.transpose(parameter, {1, 0});
}

FailureOr<Binding> Importer::lookUp(StringRef name, const Node &node, Location loc, Scope &scope) {
  auto bound = scope.bindings.find(name);
  if (bound != scope.bindings.end())
    return bound->second;
  auto tensor = &scope == &main ? initializers.find(name) : initializers.end();
  if (tensor != initializers.end()) {
    FailureOr<Value> value = importInitializer(*tensor->second);
    if (failed(value))
      return failure();
    Binding binding;
    binding.value = *value;
    scope.bindings[name] = binding;
    return binding;
  }
  InFlightDiagnostic diag = mlir::emitError(loc) << "node \"" << node.name << "\" (" << node.op
                                                 << ") uses \"" << name << "\", which ";
  auto later = &scope == &main ? definitions.find(name) : definitions.end();
  if (later == definitions.end())
    return diag << "nothing defines";
  return diag << "is only defined by the later node \"" << model.graph.nodes[later->second].name
              << "\": nodes are not in order, or form a cycle";
}

//===----------------------------------------------------------------------===//
// Nodes
//===----------------------------------------------------------------------===//

LogicalResult Importer::importOperator(const Node &node, StringAttr path, Scope &scope,
                                       std::vector<Binding> inputs, std::vector<Binding> &outputs) {
  const Operator &op = table[operatorKey(node.domain, node.op)];
  NodeContext context(builder, folder, nodeLoc(node, scope), path, node,
                      opsetOf(scope.opsets, node.domain));
  context.inputs = std::move(inputs);
  context.outputs.resize(node.outputs.size());
  for (unsigned i = 0; i < op.required; ++i)
    if (i >= context.inputs.size() || (!context.inputs[i].value && !context.inputs[i].isSequence))
      return context.error() << "has " << node.inputs.size() << " inputs, needs input " << i;
  if (failed(op.import(context)) || context.hadError)
    return failure();
  for (auto [n, output] : llvm::enumerate(context.outputs))
    if (!output.value && !output.isSequence && !node.outputs[n].empty())
      return context.error() << "output " << n << " (\"" << node.outputs[n]
                             << "\") is not supported";
  outputs = std::move(context.outputs);
  return success();
}

LogicalResult Importer::inlineFunction(const Function &function, const Node &node, StringRef path,
                                       Scope &scope, std::vector<Binding> inputs,
                                       std::vector<Binding> &outputs) {
  Location loc = nodeLoc(node, scope);
  if (scope.depth >= kMaxCallDepth)
    return mlir::emitError(loc) << "node \"" << node.name << "\": function \"" << function.name
                                << "\" calls itself";
  Scope body;
  body.opsets = function.opsets.empty() ? scope.opsets : ArrayRef<Opset>(function.opsets);
  body.prefix = scope.prefix + (node.name.empty() ? function.name : node.name).str() + "/";
  body.path = path.str();
  body.depth = scope.depth + 1;
  if (failed(checkOpsets(body.opsets, function.nodes)))
    return failure();
  for (const Attribute &attribute : function.defaults)
    body.attributes[attribute.name] = &attribute;
  for (const Attribute &attribute : node.attributes)
    body.attributes[attribute.name] = &attribute;
  if (inputs.size() > function.inputs.size())
    return mlir::emitError(loc) << "node \"" << node.name << "\" gives " << inputs.size()
                                << " inputs to function \"" << function.name << "\" of "
                                << function.inputs.size();
  inputs.resize(function.inputs.size());
  for (auto [name, binding] : llvm::zip_equal(function.inputs, inputs))
    body.bindings[name] = std::move(binding);
  for (const Node &inner : function.nodes)
    if (failed(importNode(inner, modulePath(inner), body)))
      return failure();
  for (auto [n, name] : llvm::enumerate(function.outputs)) {
    if (n >= node.outputs.size())
      break;
    FailureOr<Binding> binding = lookUp(name, node, loc, body);
    if (failed(binding))
      return failure();
    outputs.push_back(std::move(*binding));
  }
  return success();
}

/// The node with references to the attributes of the enclosing call replaced; unset ones disappear.
static Node resolveAttributes(const Node &node, const llvm::StringMap<const Attribute *> &given) {
  Node resolved = node;
  resolved.attributes.clear();
  for (const Attribute &attribute : node.attributes) {
    if (attribute.reference.empty()) {
      resolved.attributes.push_back(attribute);
    } else if (const Attribute *value = given.lookup(attribute.reference)) {
      resolved.attributes.push_back(*value);
      resolved.attributes.back().name = attribute.name;
    }
  }
  return resolved;
}

LogicalResult Importer::importNode(const Node &original, StringRef ownPath, Scope &scope) {
  bool hasReference =
      llvm::any_of(original.attributes, [](const Attribute &a) { return !a.reference.empty(); });
  std::optional<Node> resolved;
  if (hasReference)
    resolved = resolveAttributes(original, scope.attributes);
  const Node &node = resolved ? *resolved : original;
  StringRef path = ownPath.empty() ? StringRef(scope.path) : ownPath;
  Location loc = nodeLoc(node, scope);

  std::vector<Binding> inputs, outputs;
  bool isPoisoned = false;
  LogicalResult result = success();
  for (StringRef name : node.inputs) {
    Binding binding;
    if (!name.empty()) {
      FailureOr<Binding> found = lookUp(name, node, loc, scope);
      if (failed(found))
        result = failure();
      else
        binding = std::move(*found);
    }
    isPoisoned |= binding.isPoisoned;
    inputs.push_back(std::move(binding));
  }
  if (succeeded(result) && !isPoisoned) {
    const Function *function = findFunction(node);
    result = function ? inlineFunction(*function, node, path, scope, std::move(inputs), outputs)
                      : importOperator(node, builder.getStringAttr(path), scope, std::move(inputs),
                                       outputs);
  }
  outputs.resize(node.outputs.size());
  for (auto [name, binding] : llvm::zip_equal(node.outputs, outputs)) {
    if (name.empty())
      continue;
    binding.isPoisoned |= isPoisoned || failed(result);
    if ((&scope == &main && initializers.count(name)) ||
        !scope.bindings.try_emplace(name, std::move(binding)).second)
      return mlir::emitError(loc) << "node \"" << node.name << "\" (" << node.op << ") defines \""
                                  << name << "\" a second time";
  }
  return result;
}

LogicalResult Importer::importNodes() {
  LogicalResult result = success();
  for (auto [node, path] : llvm::zip_equal(model.graph.nodes, paths))
    if (failed(importNode(node, path, main)))
      result = failure();
  return result;
}

//===----------------------------------------------------------------------===//
// The model
//===----------------------------------------------------------------------===//

FailureOr<OwningOpRef<ModuleOp>> Importer::build() {
  for (auto add :
       {addElementwise, addActivations, addReductions, addMath, addShape, addSources, addIndexing,
        addNormalization, addAttention, addLosses, addSequences, addContribBasics, addContribNorms,
        addContribAttention, addGroupQueryAttention, addQuantization})
    add(table);
  for (const Function &function : model.functions)
    if (!functions
             .try_emplace(functionKey(function.domain, function.name, function.overload), &function)
             .second)
      return error() << "function \"" << function.name << "\" stands twice";
  for (const Tensor &tensor : model.graph.initializers)
    if (!initializers.try_emplace(tensor.name, &tensor).second)
      return error() << "initializer \"" << tensor.name << "\" stands twice";
  for (auto [n, node] : llvm::enumerate(model.graph.nodes))
    for (StringRef output : node.outputs)
      definitions.try_emplace(output, n);
  if (failed(checkOpsets(model.opsets, model.graph.nodes)) || failed(checkOperators()))
    return failure();

  UseMap uses = findUses(model.graph);
  paths = modulePaths(model.graph, uses);
  plans = planInitializers(model, uses, paths, store);
  main.opsets = model.opsets;

  OwningOpRef<ModuleOp> module = ModuleOp::create(fileLoc);
  if (options.readDevices)
    if (llvm::Error failed = readDevicePlan(*module, model, options.deviceConfiguration, plans))
      return mlir::emitError(UnknownLoc::get(builder.getContext()))
                 << llvm::toString(std::move(failed)),
             failure();
  builder.setInsertionPointToEnd(module->getBody());
  auto func = func::FuncOp::create(builder, fileLoc, "main", builder.getFunctionType({}, {}));
  Block *block = builder.createBlock(&func.getBody());
  if (failed(importInputs(*block)) || failed(importNodes()) || failed(importOutputs(func, *block)))
    return failure();
  return module;
}

FailureOr<OwningOpRef<ModuleOp>> Importer::run() {
  FailureOr<OwningOpRef<ModuleOp>> module = build();
  if (failed(module) ||
      failed(folder.materialize((**module).lookupSymbol<func::FuncOp>("main").getBody().front())) ||
      failed(verify(**module)))
    return failure();
  return module;
}

/// Imports for a full cache to learn what a run appends, and for one that has just room for that.
static FailureOr<OwningOpRef<ModuleOp>> importWithCache(MLIRContext &context,
                                                        const ImportOptions &options,
                                                        WeightStore &store, const Model &model) {
  auto fail = [&] { return mlir::emitError(FileLineColLoc::get(&context, options.path, 0, 0)); };
  if (options.dims.count(options.cacheDim))
    return fail() << "dimension \"" << options.cacheDim
                  << "\" is the length of a cache, and is given the size "
                  << options.dims.lookup(options.cacheDim) << " too";
  ImportOptions sized = options;
  CacheDim cache{options.cacheDim, options.cacheCapacity};
  sized.dims[options.cacheDim] = cache.capacity;
  WeightStore unused;
  FailureOr<OwningOpRef<ModuleOp>> full = Importer(context, sized, unused, model).build();
  if (failed(full))
    return failure();
  auto fullMain = (**full).lookupSymbol<func::FuncOp>("main");
  FailureOr<int64_t> step = entriesPerRun(fullMain, cache);
  if (failed(step))
    return failure();
  sized.dims[options.cacheDim] = cache.capacity - *step;
  FailureOr<OwningOpRef<ModuleOp>> module = Importer(context, sized, store, model).build();
  if (failed(module))
    return failure();
  auto main = (**module).lookupSymbol<func::FuncOp>("main");
  // Neither 0 nor 1, at which sizes broadcast, nor what a run appends.
  int64_t length = *step == 3 ? 2 : 3;
  if (length < cache.capacity - *step) {
    sized.dims[options.cacheDim] = length;
    WeightStore unusedToo;
    FailureOr<OwningOpRef<ModuleOp>> few = Importer(context, sized, unusedToo, model).build();
    if (failed(few) ||
        failed(checkShortCache(main, fullMain, (**few).lookupSymbol<func::FuncOp>("main"), cache,
                               *step, length)))
      return failure();
  }
  if (failed(boundCache(main, fullMain, cache, *step)))
    return failure();
  Folder folder(options.foldLimit);
  for (Operation &op : main.getBody().front())
    folder.note(&op);
  if (failed(folder.materialize(main.getBody().front())) || failed(verify(**module)))
    return failure();
  return module;
}

} // namespace shardc::importer

FailureOr<OwningOpRef<ModuleOp>>
shardc::importOnnx(MLIRContext &context, const ImportOptions &options, WeightStore &weights) {
  context.loadDialect<GraphDialect, func::FuncDialect>();
  llvm::Expected<std::unique_ptr<importer::Model>> model = importer::readModel(options.path);
  if (!model) {
    mlir::emitError(UnknownLoc::get(&context)) << llvm::toString(model.takeError());
    return failure();
  }
  importer::foldQuantizedWeights(**model);
  if (options.cacheCapacity) {
    importer::dropCacheLengths(**model, options.cacheDim);
    return importer::importWithCache(context, options, weights, **model);
  }
  return importer::Importer(context, options, weights, **model).run();
}

LogicalResult shardc::inlineWeights(ModuleOp module, const WeightStore &weights) {
  WalkResult result = module.walk([&](ParameterOp parameter) {
    const Weight *weight = weights.find(parameter.getName());
    if (!weight || !weight->hasValue)
      return WalkResult::advance();
    llvm::Expected<HostTensor> tensor = weights.tensor(module.getContext(), parameter.getName());
    if (!tensor) {
      parameter.emitError() << llvm::toString(tensor.takeError());
      return WalkResult::interrupt();
    }
    parameter.setValueAttr(tensor->toAttr());
    return WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}
