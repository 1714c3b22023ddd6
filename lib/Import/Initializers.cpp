//===- Initializers.cpp - Which initializers are weights, and what they are called -===//
//
// 1. What depends on the model's inputs is found by one walk over the names.
// 2. Each float initializer gets a role from how it is read: matrix of a linear layer, table, bias,
//    … or none.
// 3. One whose name is a module path ("model.norm.weight") is a weight under that name, whatever
//    its role. One whose name an exporter made up ("val_110", "onnx::MatMul_556") is a weight if it
//    has a role: `<path of the reader>.weight`; a matrix on the right of a product is [in, out]
//    because a transpose was folded, and becomes [out, in] again. The other values (masks, rope
//    tables, scalars) are constants.
// 4. A matrix that equals a table of the same shape is tied to it: one weight with two names.
//
// Limits: a weight that an exporter changed (1 + w of zero-centred norms) cannot have its own name,
// which promises the checkpoint's values; it is called `<path>.folded`.
//
//===----------------------------------------------------------------------===//

#include "Names.h"

#include "llvm/ADT/StringSet.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;

namespace shardc::importer {

namespace {

enum class Role { None, RightMatrix, LeftMatrix, Table, Bias, Other };

struct Candidate {
  const Tensor *tensor;
  Role role = Role::None;
  unsigned node = 0; ///< the reader that gave the role
};

bool isMatrix(const Candidate &candidate) {
  return candidate.tensor->weight.shape.size() == 2 &&
         (candidate.role == Role::RightMatrix || candidate.role == Role::LeftMatrix);
}

bool isFloat(DType dtype) { return dtype <= DType::F8E5M2; }

class Planner {
public:
  Planner(const Model &model, const UseMap &uses, ArrayRef<std::string> paths, WeightStore &store)
      : graph(model.graph), uses(uses), paths(paths), store(store) {}

  StringMap<InitializerPlan> run();

private:
  void findDynamic();
  Candidate classify(const Tensor &tensor);
  Role findRole(StringRef name, const Tensor &tensor, unsigned &node, unsigned depth);
  Role contribRoleOf(const Node &node, unsigned operand, int64_t rank);
  Role roleOf(const Node &node, unsigned operand, const Tensor &tensor);
  bool isDynamic(const Node &node, unsigned operand) const {
    return operand < node.inputs.size() && dynamic.contains(node.inputs[operand]);
  }
  InitializerPlan planDerived(const Candidate &candidate);
  const Candidate *findTied(const Candidate &matrix);
  void declare(const Candidate &candidate, const InitializerPlan &plan);

  const Graph &graph;
  const UseMap &uses;
  ArrayRef<std::string> paths;
  WeightStore &store;
  StringSet<> dynamic; ///< names that depend on the model's inputs
  std::vector<Candidate> tables;
  StringMap<InitializerPlan> plans;
};

} // namespace

/// Buffers that exporters write as initializers but that are no weights: HF's rope frequencies and
/// scales.
static bool isBuffer(StringRef name) {
  StringRef leaf = name.rsplit('.').second;
  return leaf == "inv_freq" || leaf == "original_inv_freq" || leaf == "embed_scale" ||
         leaf == "position_ids";
}

/// Whether all elements are the same: an initial state or a mask, not a weight.
static bool isSplat(const Weight &weight) {
  int64_t width = dtypeBytes(weight.dtype);
  if (!weight.hasValue || static_cast<int64_t>(weight.bytes.size()) < 2 * width)
    return weight.hasValue;
  return std::memcmp(weight.bytes.data(), weight.bytes.data() + width,
                     weight.bytes.size() - width) == 0;
}

/// A module path rather than a name that an exporter made up.
static bool isOwnName(StringRef name) {
  return name.contains('.') && !name.contains("::") && !name.contains('/');
}

void Planner::findDynamic() {
  StringSet<> initializers;
  for (const Tensor &tensor : graph.initializers)
    initializers.insert(tensor.name);
  for (const ValueInfo &input : graph.inputs)
    if (!initializers.contains(input.name))
      dynamic.insert(input.name);
  for (const Node &node : graph.nodes) {
    if (node.op == "Shape" || node.op == "Size")
      continue;
    if (any_of(node.inputs, [&](StringRef name) { return dynamic.contains(name); }))
      for (StringRef output : node.outputs)
        dynamic.insert(output);
  }
}

/// The same of onnxruntime's own operators.
Role Planner::contribRoleOf(const Node &node, unsigned operand, int64_t rank) {
  StringRef op = node.op;
  auto isSet = [&](StringRef name) {
    return any_of(node.attributes, [&](const Attribute &a) { return a.name == name && a.i; });
  };
  if (op == "FusedMatMul" || op == "TransposeMatMul" || op == "FusedGemm") {
    if (operand == 2)
      return Role::Bias;
    if (rank < 2 || !isDynamic(node, 1 - operand))
      return Role::None;
    return operand == 1 && !isSet("transB") ? Role::RightMatrix : Role::LeftMatrix;
  }
  if (op == "Attention" && operand == 1)
    return Role::RightMatrix;
  if ((op == "Attention" && operand == 2) || (op == "MultiHeadAttention" && operand == 3) ||
      (op.ends_with("Gelu") && operand == 1))
    return Role::Bias;
  if (op == "EmbedLayerNormalization" && operand >= 2 && operand <= 4)
    return Role::Table;
  if (op.ends_with("Normalization") && operand >= 1)
    return rank == 1 ? Role::Other : Role::None;
  return Role::None;
}

/// What reading `tensor` (or a view of it) at this operand says about it.
Role Planner::roleOf(const Node &node, unsigned operand, const Tensor &tensor) {
  StringRef op = node.op;
  int64_t rank = tensor.weight.shape.size(), elements = tensor.weight.numElements();
  if (node.domain == kContribDomain)
    return contribRoleOf(node, operand, rank);
  if (op == "MatMul" && rank >= 2 && isDynamic(node, 1 - operand))
    return operand == 1 ? Role::RightMatrix : Role::LeftMatrix;
  if (op == "Gemm" && operand == 2)
    return Role::Bias;
  if (op == "Gemm" && rank == 2 && isDynamic(node, 1 - operand)) {
    auto isSet = [&](StringRef name) {
      return any_of(node.attributes, [&](const Attribute &a) { return a.name == name && a.i; });
    };
    return operand == 1 && !isSet("transB") ? Role::RightMatrix : Role::LeftMatrix;
  }
  if ((op == "Gather" || op == "GatherND" || op == "GatherElements") && operand == 0 && rank >= 2 &&
      isDynamic(node, 1))
    return op == "Gather" && rank == 2 ? Role::Table : Role::Other;
  if ((op == "Conv" || op == "ConvTranspose") && operand >= 1)
    return operand == 2 ? Role::Bias : Role::Other;
  if (op.ends_with("Normalization") && operand >= 1)
    return operand == 2 ? Role::Bias : Role::Other;
  if (op == "Einsum" && rank >= 2)
    return Role::Other;
  // A vector that scales or shifts: a bias, a norm's weight.
  if ((op == "Mul" || op == "Add" || op == "Sub" || op == "Div") && rank == 1 && elements > 1 &&
      isDynamic(node, 1 - operand))
    return Role::Other;
  return Role::None;
}

Role Planner::findRole(StringRef name, const Tensor &tensor, unsigned &node, unsigned depth) {
  auto readers = uses.find(name);
  if (readers == uses.end() || depth > 4)
    return Role::None;
  for (const Use &use : readers->second) {
    const Node &reader = graph.nodes[use.node];
    node = use.node;
    if (Role role = roleOf(reader, use.operand, tensor); role != Role::None)
      return role;
    static const StringSet<> views = {"Transpose", "Reshape", "Unsqueeze", "Squeeze",
                                      "Identity",  "Cast",    "CastLike"};
    if (use.operand == 0 && views.contains(reader.op) && !reader.outputs.empty())
      if (Role role = findRole(reader.outputs[0], tensor, node, depth + 1); role != Role::None)
        return role == Role::RightMatrix ? Role::LeftMatrix : role; // turned round once already
  }
  return Role::None;
}

Candidate Planner::classify(const Tensor &tensor) {
  Candidate candidate{&tensor};
  if (isFloat(tensor.weight.dtype) && !tensor.weight.shape.empty() && !isBuffer(tensor.name))
    candidate.role = findRole(tensor.name, tensor, candidate.node, 0);
  return candidate;
}

void Planner::declare(const Candidate &candidate, const InitializerPlan &plan) {
  Weight weight = candidate.tensor->weight;
  weight.isTransposed = plan.isTransposed;
  if (plan.isTransposed)
    std::swap(weight.shape[0], weight.shape[1]);
  store.add(plan.name, std::move(weight));
}

/// The module of a convolution whose bias kept its name: functional calls run in the scope of the
/// caller.
static StringRef moduleOfConv(const Node &node) {
  StringRef bias = node.op == "Conv" && node.inputs.size() > 2 ? node.inputs[2] : StringRef();
  return isOwnName(bias) && bias.consume_back(".bias") ? bias : StringRef();
}

/// Name and orientation of a weight whose own name is lost.
InitializerPlan Planner::planDerived(const Candidate &candidate) {
  InitializerPlan plan{/*isParameter=*/true};
  StringRef path = paths[candidate.node];
  std::string kind = moduleClass(graph.nodes[candidate.node]);
  bool isMatrix = importer::isMatrix(candidate);
  std::string base;
  if (StringRef module = moduleOfConv(graph.nodes[candidate.node]);
      !module.empty() && candidate.tensor->weight.shape.size() > 2)
    base = (module + ".weight").str();
  else if (path.empty())
    base = candidate.tensor->name.str();
  else if (isMatrix || candidate.role == Role::Table)
    base = (path + ".weight").str();
  else
    base = (path + (candidate.role == Role::Bias ? ".bias" : ".folded")).str();
  // transformers' Conv1D (GPT-2) keeps [in, out]; torch's Linear is [out, in].
  plan.isTransposed =
      isMatrix && candidate.role == Role::RightMatrix && !path.empty() && kind != "Conv1D";
  if (const Candidate *table = isMatrix ? findTied(candidate) : nullptr) {
    plan.name = plans[table->tensor->name].name;
    if (base != plan.name)
      store.addAlias(base, plan.name);
    plan.isTransposed = candidate.role == Role::RightMatrix;
    return plan;
  }
  plan.name = base;
  for (unsigned n = 1; store.find(plan.name); ++n)
    plan.name = base + "_" + std::to_string(n);
  return plan;
}

/// The table that holds the same values as the matrix: exporters lose the alias of tied embeddings.
const Candidate *Planner::findTied(const Candidate &matrix) {
  const Weight &mine = matrix.tensor->weight;
  int64_t width = dtypeBytes(mine.dtype);
  for (const Candidate &table : tables) {
    const Weight &other = table.tensor->weight;
    bool turned = matrix.role == Role::RightMatrix;
    int64_t rows = mine.shape[turned], columns = mine.shape[!turned];
    if (table.tensor == matrix.tensor || other.dtype != mine.dtype || other.shape[0] != rows ||
        other.shape[1] != columns || !mine.hasValue || !other.hasValue || isSplat(mine))
      continue;
    bool isEqual = true;
    for (int64_t r = 0; r < rows && isEqual; ++r)
      for (int64_t c = 0; c < columns && isEqual; ++c)
        isEqual = std::memcmp(other.bytes.data() + (r * columns + c) * width,
                              mine.bytes.data() + (turned ? c * rows + r : r * columns + c) * width,
                              width) == 0;
    if (isEqual)
      return &table;
  }
  return nullptr;
}

StringMap<InitializerPlan> Planner::run() {
  findDynamic();
  std::vector<Candidate> own, derived;
  for (const Tensor &tensor : graph.initializers) {
    Candidate candidate = classify(tensor);
    InitializerPlan &plan = plans[tensor.name];
    bool isOwn = isFloat(tensor.weight.dtype) && isOwnName(tensor.name) && !isBuffer(tensor.name) &&
                 !tensor.weight.shape.empty() && uses.contains(tensor.name);
    bool isConstant = tensor.weight.shape.size() > 1 && isSplat(tensor.weight);
    if (isOwn) {
      plan = {true, tensor.name.str(), false};
      own.push_back(candidate);
    } else if (candidate.role != Role::None && !isConstant) {
      derived.push_back(candidate);
    }
    if (candidate.role == Role::Table && isOwn)
      tables.push_back(candidate);
  }
  for (const Candidate &candidate : own) {
    InitializerPlan &plan = plans[candidate.tensor->name];
    if (const Candidate *table = isMatrix(candidate) ? findTied(candidate) : nullptr) {
      store.addAlias(plan.name, table->tensor->name);
      plan = {true, table->tensor->name.str(), candidate.role == Role::RightMatrix};
    } else {
      declare(candidate, plan);
    }
  }
  for (const Candidate &candidate : derived) {
    InitializerPlan plan = planDerived(candidate);
    plans[candidate.tensor->name] = plan;
    if (!store.find(plan.name))
      declare(candidate, plan);
    if (candidate.role == Role::Table)
      tables.push_back(candidate);
  }
  // The name that the table's module gives it: what a checkpoint may call a tied weight.
  for (const Candidate &table : tables) {
    std::string alias = paths[table.node] + ".weight";
    if (!paths[table.node].empty() && !store.find(alias))
      store.addAlias(alias, plans[table.tensor->name].name);
  }
  return std::move(plans);
}

StringMap<InitializerPlan> planInitializers(const Model &model, const UseMap &uses,
                                            ArrayRef<std::string> paths, WeightStore &store) {
  return Planner(model, uses, paths, store).run();
}

} // namespace shardc::importer
