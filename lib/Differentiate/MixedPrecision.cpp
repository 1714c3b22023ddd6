//===- MixedPrecision.cpp - Which values are narrow -----------------------===//
//
// Input:  the flat entry function in f32. Output: the same, computed in a 16-bit type where that is
// safe; parameters stay f32, and are cast where
//         narrow ops read them (FSDP then casts the shard and gathers the narrow copy); outputs
//         keep their types.
//
// Walks the ops once, in order, with type promotion as in torch:
//   1. What does not depend on a parameter (masks, rope tables) is computed as it was, and narrowed
//      where it is read.
//   2. Contractions, attention and convolutions are narrow unless all that they read is wide.
//   3. Pointwise arithmetic, norms, activations, lookups and movement are narrow if every
//      activation that they read is; they keep their statistics in f32 inside.
//   4. All else is wide (exponentials, sums, softmax, running sums, routing scores): its narrow
//      operands are widened. This is what models do by hand (`.float()`), and what an f32 export
//      does not show any more.
//   5. A parameter that matches `keep` makes the ops that read it wide.
//
// Policy: torch's MixedPrecisionPolicy(param_dtype) and autocast lists (reference/semantics.md
// §4.4).
//
//===----------------------------------------------------------------------===//

#include "shardc/Differentiate/Passes.h"

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"
#include "shardc/Support/NamePattern.h"

using namespace mlir;

namespace shardc {
#define GEN_PASS_DEF_MIXEDPRECISIONPASS
#include "lib/Differentiate/Passes.h.inc"

namespace {

enum class Precision { Contraction, Pointwise, Wide };

Precision precisionOf(Operation *op) {
  if (isa<graph::EinsumOp, graph::AttentionOp, graph::GroupedMatmulOp, graph::ConvOp>(op))
    return Precision::Contraction;
  if (isa<graph::AddOp, graph::SubOp, graph::MulOp, graph::NegOp, graph::SiluOp, graph::GeluOp,
          graph::GeluTanhOp, graph::ReluOp, graph::TanhOp, graph::RmsNormOp, graph::LayerNormOp,
          graph::RopeOp, graph::SelectOp, graph::ReshapeOp, graph::TransposeOp, graph::BroadcastOp,
          graph::SliceOp, graph::PadOp, graph::ConcatOp, graph::GatherOp, graph::GatherNdOp,
          graph::GatherElementsOp, shard::ConstraintOp, shard::ReshardOp>(op))
    return Precision::Pointwise;
  return Precision::Wide;
}

class Narrower {
public:
  Narrower(func::FuncOp function, Type narrow, const NamePattern &keep)
      : function(function), narrow(narrow), wide(Float32Type::get(function.getContext())),
        keep(keep) {}
  void run();

private:
  bool isFloat(Value value, Type type) const {
    return getElementTypeOrSelf(value.getType()) == type;
  }
  bool isNarrow(Operation *op);
  void setOperand(OpOperand &operand, Type type);
  void setPadding(graph::PadOp op, Type type);

  func::FuncOp function;
  Type narrow, wide;
  const NamePattern &keep;
  DenseSet<Value> dependent; ///< on a parameter
  DenseMap<std::pair<Value, Type>, Value> casts;
};

} // namespace

/// Which of the two types `op` computes in. Parameters and constants adapt to the activations.
bool Narrower::isNarrow(Operation *op) {
  Precision precision = precisionOf(op);
  if (precision == Precision::Wide)
    return false;
  bool anyNarrow = false, anyWide = false, anyParameter = false;
  for (Value operand : op->getOperands()) {
    if (auto parameter = operand.getDefiningOp<graph::ParameterOp>()) {
      if (keep.matches(parameter.getName()))
        return false;
      anyParameter |= isFloat(operand, wide);
    } else if (dependent.contains(operand)) {
      anyNarrow |= isFloat(operand, narrow);
      anyWide |= isFloat(operand, wide);
    }
  }
  // What is made of parameters alone: a lookup begins the activations, a view of a weight follows
  // its users.
  if (!anyNarrow && !anyWide)
    return anyParameter;
  return precision == Precision::Contraction ? anyNarrow : !anyWide;
}

void Narrower::setOperand(OpOperand &operand, Type type) {
  Value value = operand.get();
  Type from = getElementTypeOrSelf(value.getType());
  if (from == type || (from != wide && from != narrow))
    return;
  Value &cast = casts[{value, type}];
  if (!cast) {
    // Back to where it came from, if it was widened or narrowed only to be read here.
    auto known = value.getDefiningOp<graph::CastOp>();
    if (known && getElementTypeOrSelf(known.getInput().getType()) == type && from == wide) {
      cast = known.getInput();
    } else {
      OpBuilder builder(operand.getOwner());
      builder.setInsertionPointAfterValue(value);
      auto op = graph::CastOp::create(builder, value.getLoc(), value, type);
      // A parameter's cast belongs to no layer: it is the caller's, who gathers.
      Operation *producer = value.getDefiningOp();
      if (producer && !isa<graph::ParameterOp>(producer))
        if (Attribute path = producer->getAttr(graph::GraphDialect::kPathAttr))
          op->setAttr(graph::GraphDialect::kPathAttr, path);
      cast = op;
    }
  }
  operand.set(cast);
}

/// The one op with an attribute of its elements' type.
void Narrower::setPadding(graph::PadOp op, Type type) {
  auto padding = dyn_cast<FloatAttr>(op.getPadding());
  if (!padding || (padding.getType() != wide && padding.getType() != narrow))
    return;
  APFloat value = padding.getValue();
  bool losesInfo;
  value.convert(cast<FloatType>(type).getFloatSemantics(), APFloat::rmNearestTiesToEven,
                &losesInfo);
  op.setPaddingAttr(FloatAttr::get(type, value));
}

void Narrower::run() {
  Block &body = function.getBody().front();
  for (Operation &op : llvm::make_early_inc_range(body.without_terminator())) {
    if (isa<graph::ParameterOp>(op)) {
      dependent.insert(op.getResult(0));
      continue;
    }
    if (llvm::none_of(op.getOperands(), [&](Value operand) { return dependent.contains(operand); }))
      continue;
    Type type = isNarrow(&op) ? narrow : wide;
    for (OpOperand &operand : op.getOpOperands())
      setOperand(operand, type);
    if (auto pad = dyn_cast<graph::PadOp>(op))
      setPadding(pad, type);
    for (Value result : op.getResults()) {
      dependent.insert(result);
      if (auto tensor = dyn_cast<RankedTensorType>(result.getType());
          tensor && tensor.getElementType() == wide && !isa<graph::CastOp>(op))
        result.setType(tensor.clone(type));
    }
  }
  Operation *ret = body.getTerminator();
  for (auto [operand, type] : llvm::zip(ret->getOpOperands(), function.getResultTypes()))
    setOperand(operand, getElementTypeOrSelf(type));
}

namespace {
struct MixedPrecisionPass : impl::MixedPrecisionPassBase<MixedPrecisionPass> {
  using MixedPrecisionPassBase::MixedPrecisionPassBase;

  void runOnOperation() override {
    auto function = getOperation().lookupSymbol<func::FuncOp>(entry);
    if (!function || function.isExternal() || !function.getBody().hasOneBlock()) {
      getOperation().emitError() << "no function @" << entry << " of one block";
      return signalPassFailure();
    }
    Builder b(&getContext());
    Type narrow = llvm::StringSwitch<Type>(dtype)
                      .Case("bf16", b.getBF16Type())
                      .Case("f16", b.getF16Type())
                      .Case("f32", b.getF32Type())
                      .Default({});
    if (!narrow) {
      function.emitError() << "dtype: \"" << dtype << "\" is not f32, bf16 or f16";
      return signalPassFailure();
    }
    FailureOr<NamePattern> pattern =
        NamePattern::parse("keep", keep, [&] { return function.emitError(); });
    if (failed(pattern))
      return signalPassFailure();
    if (narrow != b.getF32Type())
      Narrower(function, narrow, *pattern).run();
  }
};
} // namespace
} // namespace shardc
