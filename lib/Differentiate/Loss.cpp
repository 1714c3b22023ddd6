//===- Loss.cpp - Cross entropy of the logits -----------------------------===//
//
// In primitive ops, all of which may be cut along the vocabulary: with tensor parallelism only
// numbers per position travel (maximum, sum of exponentials, the label's logit), as in
// Megatron-LM's vocabulary-parallel cross entropy (arXiv 1909.08053 §3).
//
//===----------------------------------------------------------------------===//

#include "Loss.h"

using namespace mlir;

namespace shardc {
namespace {

/// Short names for what is built.
struct Scribe {
  OpBuilder &b;
  Location loc;

  Value splat(RankedTensorType type, double value) {
    return graph::ConstantOp::splat(b, loc, type, value);
  }
  Value splatLike(Value like, double value) {
    return splat(cast<RankedTensorType>(like.getType()), value);
  }
  /// [...] to [..., n].
  Value spread(Value value, int64_t n) {
    auto type = cast<RankedTensorType>(value.getType());
    SmallVector<int64_t> shape(type.getShape()),
        dims = llvm::to_vector(llvm::seq<int64_t>(0, type.getRank()));
    shape.push_back(n);
    return graph::BroadcastOp::create(b, loc, RankedTensorType::get(shape, type.getElementType()),
                                      value, b.getDenseI64ArrayAttr(dims));
  }
  Value reduceLast(graph::Reduction kind, Value value) {
    return graph::ReduceOp::create(b, loc, kind, value,
                                   {cast<RankedTensorType>(value.getType()).getRank() - 1});
  }
  template <typename Op> Value unary(Value x) { return Op::create(b, loc, x); }
  template <typename Op> Value binary(Value x, Value y) { return Op::create(b, loc, x, y); }
  Value select(Value condition, Value x, Value y) {
    return graph::SelectOp::create(b, loc, condition, x, y);
  }
};

} // namespace

static Value isCounted(Scribe s, Value labels) {
  return graph::CompareOp::create(s.b, s.loc, graph::Predicate::NE, labels,
                                  s.splatLike(labels, kIgnoredLabel));
}

CrossEntropy buildCrossEntropy(OpBuilder &builder, Location loc, Value logits, Value labels,
                               int64_t positions) {
  Scribe s{builder, loc};
  auto outputType = cast<RankedTensorType>(logits.getType());
  Type f32 = builder.getF32Type();
  Value x = graph::castTo(builder, loc, logits, f32);
  auto type = cast<RankedTensorType>(x.getType());
  auto labelType = cast<RankedTensorType>(labels.getType());
  int64_t vocabulary = type.getShape().back();

  Value maximum = s.reduceLast(graph::Reduction::Max, x);
  Value exponentials =
      s.unary<graph::ExpOp>(s.binary<graph::SubOp>(x, s.spread(maximum, vocabulary)));
  Value logSum = s.binary<graph::AddOp>(
      s.unary<graph::LogOp>(s.reduceLast(graph::Reduction::Sum, exponentials)), maximum);
  auto indexType = RankedTensorType::get(type.getShape(), labelType.getElementType());
  Value index = graph::IotaOp::create(builder, loc, indexType, type.getRank() - 1);
  Value isLabel = graph::CompareOp::create(builder, loc, graph::Predicate::EQ, index,
                                           s.spread(labels, vocabulary));
  Value picked = s.reduceLast(graph::Reduction::Sum, s.select(isLabel, x, s.splat(type, 0)));

  Value counted = isCounted(s, labels);
  auto positionType = RankedTensorType::get(labelType.getShape(), f32);
  CrossEntropy result;
  // Not a product with the share: a position that is not counted may hold anything, also infinity.
  result.losses = s.select(counted,
                           s.binary<graph::MulOp>(s.binary<graph::SubOp>(logSum, picked),
                                                  s.splat(positionType, 1.0 / positions)),
                           s.splat(positionType, 0));
  Value softmax = s.unary<graph::ExpOp>(s.binary<graph::SubOp>(x, s.spread(logSum, vocabulary)));
  Value onehot = s.select(isLabel, s.splat(type, 1), s.splat(type, 0));
  Value cotangent = s.select(s.spread(counted, vocabulary),
                             s.binary<graph::MulOp>(s.binary<graph::SubOp>(softmax, onehot),
                                                    s.splat(type, 1.0 / positions)),
                             s.splat(type, 0));
  result.cotangent = graph::castTo(builder, loc, cotangent, outputType.getElementType());
  return result;
}

Value buildTokenShare(OpBuilder &builder, Location loc, Value labels) {
  Scribe s{builder, loc};
  auto labelType = cast<RankedTensorType>(labels.getType());
  auto type = RankedTensorType::get(labelType.getShape(), builder.getF32Type());
  return buildSum(builder, loc,
                  s.select(isCounted(s, labels), s.splat(type, 1.0 / labelType.getNumElements()),
                           s.splat(type, 0)));
}

Value buildSum(OpBuilder &builder, Location loc, Value value) {
  int64_t rank = cast<RankedTensorType>(value.getType()).getRank();
  return graph::ReduceOp::create(builder, loc, graph::Reduction::Sum, value,
                                 llvm::to_vector(llvm::seq<int64_t>(0, rank)));
}

} // namespace shardc
