//===- QuantizeProducts.cpp - Linear layers in 8-bit floats ---------------===//
//
// Input:  the flat entry function, with roles. Output: the same; products of activations with
// weights of linear layers read 8-bit floats.
//
//   1. A contraction is rewritten if its role is a linear layer's, one factor is made of a
//      parameter alone, and the sizes are multiples of 16.
//   2. Each factor is quantized once, in front of its first reader, however many read it (q, k and
//      v; gate and up).
//   3. What the derivative multiplies follows from graph.scaled_einsum: the cotangent is quantized
//      there, the factors are not again.
//
// Known limits: experts' products (graph.grouped_matmul) stay. The master copy of a weight is what
// is quantized, in every step.
//
//===----------------------------------------------------------------------===//

#include "shardc/Differentiate/Passes.h"

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"
#include "shardc/Support/NamePattern.h"

#include "llvm/Support/Format.h"

using namespace mlir;

namespace shardc {
#define GEN_PASS_DEF_QUANTIZEPRODUCTSPASS
#include "lib/Differentiate/Passes.h.inc"

namespace {

/// What libraries for GPUs want the sizes of such products to be multiples of.
constexpr int64_t kMultiple = 16;

bool isLinearLayer(StringRef role) {
  static constexpr StringRef kRoles[] = {"q_proj",       "k_proj",    "v_proj",    "qkv_proj",
                                         "kv_proj",      "o_proj",    "gate_proj", "up_proj",
                                         "gate_up_proj", "down_proj", "fc1",       "fc2"};
  return llvm::is_contained(kRoles, role);
}

/// The parameter that `value` is a view or another type of; null if there is none.
graph::ParameterOp parameterBehind(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (auto parameter = dyn_cast<graph::ParameterOp>(op))
      return parameter;
    if (!isa<graph::CastOp, graph::TransposeOp, graph::ReshapeOp, shard::ConstraintOp>(op))
      return {};
    value = op->getOperand(0);
  }
  return {};
}

/// A linear layer's product.
struct Product {
  graph::EinsumOp op;
  graph::ParameterOp weight;
  bool isRight; ///< the weight is rhs

  int64_t sizeOf(StringRef letters, llvm::function_ref<bool(char)> isWanted) {
    int64_t size = 1;
    for (char letter : letters)
      if (isWanted(letter))
        size *= op.getLetterSize(letter);
    return size;
  }
  std::string whyNot(bool train);
};

class Quantizer {
public:
  Quantizer(Type forward, Type gradient) : forward(forward), gradient(gradient) {}
  void rewrite(Product product);

private:
  graph::Quantized quantized(Value value, graph::EinsumOp reader);

  Type forward, gradient;
  DenseMap<Value, graph::Quantized> known;
};

} // namespace

static std::optional<Product> productOf(graph::EinsumOp op) {
  auto role = op->getAttrOfType<StringAttr>(graph::GraphDialect::kRoleAttr);
  if (!role || !isLinearLayer(role.getValue()))
    return std::nullopt;
  graph::ParameterOp left = parameterBehind(op.getLhs()), right = parameterBehind(op.getRhs());
  if (!left == !right)
    return std::nullopt;
  return Product{op, left ? left : right, !left};
}

/// Why it stays as it is; empty if it need not.
std::string Product::whyNot(bool train) {
  if (!graph::isNarrowFloat(op.getType().getElementType()) &&
      !op.getType().getElementType().isF32())
    return "is not of f32, bf16 or f16";
  auto letters = op.getLetters();
  StringRef activation = isRight ? letters.lhs : letters.rhs,
            own = isRight ? letters.rhs : letters.lhs;
  std::pair<StringRef, int64_t> sizes[] = {
      {"input features", sizeOf(own, [&](char c) { return activation.contains(c); })},
      {"output features", sizeOf(own, [&](char c) { return !activation.contains(c); })},
      {"positions", sizeOf(activation, [&](char c) { return !own.contains(c); })}};
  for (auto [what, size] : ArrayRef(sizes).take_front(train ? 3 : 2))
    if (size % kMultiple)
      return (Twine(size) + " " + what + ", which is no multiple of " + Twine(kMultiple)).str();
  return "";
}

graph::Quantized Quantizer::quantized(Value value, graph::EinsumOp reader) {
  graph::Quantized &result = known[value];
  if (result.tensor)
    return result;
  OpBuilder builder(reader);
  Operation *before = reader->getPrevNode();
  result = graph::quantize(builder, reader.getLoc(), value, forward);
  if (Attribute path = reader->getAttr(graph::GraphDialect::kPathAttr))
    for (Operation *op = before ? before->getNextNode() : &reader->getBlock()->front();
         op != reader; op = op->getNextNode())
      op->setAttr(graph::GraphDialect::kPathAttr, path);
  return result;
}

void Quantizer::rewrite(Product product) {
  graph::EinsumOp op = product.op;
  graph::Quantized lhs = quantized(op.getLhs(), op), rhs = quantized(op.getRhs(), op);
  OpBuilder builder(op);
  auto scaled = graph::ScaledEinsumOp::create(builder, op.getLoc(), op.getType(), op.getSpec(),
                                              lhs.tensor, rhs.tensor, lhs.unit, rhs.unit, gradient);
  scaled->setDiscardableAttrs(op->getDiscardableAttrDictionary());
  op->replaceAllUsesWith(scaled);
  op->erase();
}

namespace {
struct QuantizeProductsPass : impl::QuantizeProductsPassBase<QuantizeProductsPass> {
  using QuantizeProductsPassBase::QuantizeProductsPassBase;

  void runOnOperation() override {
    auto function = getOperation().lookupSymbol<func::FuncOp>(entry);
    if (!function || function.isExternal() || !function.getBody().hasOneBlock()) {
      getOperation().emitError() << "no function @" << entry << " of one block";
      return signalPassFailure();
    }
    if (recipe != "e4m3" && recipe != "hybrid") {
      function.emitError() << "recipe: \"" << recipe << "\" is not e4m3 or hybrid";
      return signalPassFailure();
    }
    FailureOr<NamePattern> pattern =
        NamePattern::parse("skip", skip, [&] { return function.emitError(); });
    if (failed(pattern))
      return signalPassFailure();
    Type forward = Float8E4M3FNType::get(&getContext());
    Quantizer quantizer(forward,
                        recipe == "hybrid" ? Type(Float8E5M2Type::get(&getContext())) : forward);
    int64_t found = 0, rewritten = 0;
    for (auto op :
         llvm::make_early_inc_range(function.getBody().front().getOps<graph::EinsumOp>())) {
      std::optional<Product> product = productOf(op);
      if (!product)
        continue;
      ++found;
      StringRef name = product->weight.getName();
      std::string reason = pattern->matches(name) ? "is skipped" : product->whyNot(train);
      if (print)
        llvm::outs() << llvm::left_justify(name, 56) << " "
                     << (reason.empty() ? "fp8 " + recipe : "not in fp8: " + reason) << "\n";
      if (!reason.empty())
        continue;
      quantizer.rewrite(*product);
      ++rewritten;
    }
    if (rewritten == 0)
      function.emitWarning() << "fp8 " << recipe << ": none of " << found
                             << " products of linear layers is computed in 8 bits";
  }
};
} // namespace
} // namespace shardc
