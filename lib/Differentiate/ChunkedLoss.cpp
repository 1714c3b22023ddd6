//===- ChunkedLoss.cpp - The loss without all logits at once --------------===//
//
// The logits of a step are its largest value: positions x vocabulary, twice with their cotangent.
// Loss and cotangent of a position depend on this position alone, and the loss is what the backward
// pass begins with, so that both are done as soon as a chunk's logits are there:
//
//   for each chunk c of the positions of a sequence:
//     logits = head(hidden[c], w); losses[c] and the cotangent of logits (Loss.cpp)
//     cotangent of hidden[c]; gradient of w += that of this chunk, in f32 at least
//
// All chunks stand in the entry function: they have the same kernels, sums over ranks stay pending,
// and a product is added to the gradient so far where it is made. Cut along each sequence, so that
// a batch may lie on several ranks, and a vocabulary: each chunk then reduces its own numbers.
//
// Idea: Liger's fused linear cross entropy (arXiv 2410.10989 §3.2).
//
//===----------------------------------------------------------------------===//

#include "ChunkedLoss.h"

#include "Loss.h"

#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace shardc {

//===----------------------------------------------------------------------===//
// The head
//===----------------------------------------------------------------------===//

namespace {

class HeadFinder {
public:
  HeadFinder(ModelHead &head, std::string &why) : head(head), why(why) {}
  LogicalResult visit(Value value);

private:
  LogicalResult visitEinsum(graph::EinsumOp op);
  LogicalResult refuse(Operation *op) {
    why = op ? "\"" + op->getName().getStringRef().str() + "\" makes the logits"
             : "the logits are an input";
    return failure();
  }

  ModelHead &head;
  std::string &why;
  DenseSet<Operation *> seen;
};

} // namespace

LogicalResult HeadFinder::visitEinsum(graph::EinsumOp op) {
  graph::EinsumOp::Letters letters = op.getLetters();
  char position = letters.result[head.dim];
  size_t left = letters.lhs.find(position), right = letters.rhs.find(position);
  if ((left == StringRef::npos) == (right == StringRef::npos)) // in both: no weight
    return refuse(op);
  bool isLeft = left != StringRef::npos;
  Value hidden = isLeft ? op.getLhs() : op.getRhs();
  if (head.hidden && head.hidden != hidden)
    return refuse(op);
  head.hidden = hidden;
  head.hiddenDim = static_cast<int64_t>(isLeft ? left : right);
  head.shared.insert(isLeft ? op.getRhs() : op.getLhs());
  return success();
}

/// `value` has the positions in dimension `dim`.
LogicalResult HeadFinder::visit(Value value) {
  Operation *op = value.getDefiningOp();
  if (!op)
    return refuse(op);
  if (!seen.insert(op).second)
    return success();
  head.ops.push_back(op);
  if (auto constraint = dyn_cast<shard::ConstraintOp>(op)) // for whoever reads all logits
    return visit(constraint.getInput());
  if (auto einsum = dyn_cast<graph::EinsumOp>(op))
    return visitEinsum(einsum);
  if (auto constant = dyn_cast<graph::ConstantOp>(op))
    return isa<SplatElementsAttr>(constant.getValue()) ? success() : refuse(op);
  if (auto broadcast = dyn_cast<graph::BroadcastOp>(op)) {
    auto found = llvm::find(broadcast.getDims(), head.dim);
    if (found != broadcast.getDims().end() &&
        broadcast.getInput().getType().getDimSize(found - broadcast.getDims().begin()) != 1)
      return refuse(op);
    head.shared.insert(broadcast.getInput());
    return success();
  }
  if (!op->hasTrait<OpTrait::Elementwise>() || op->getNumResults() != 1)
    return refuse(op);
  for (Value operand : op->getOperands())
    if (failed(visit(operand)))
      return failure();
  return success();
}

FailureOr<ModelHead> findHead(Value logits, std::string &why) {
  ModelHead head;
  head.logits = logits;
  head.dim = cast<RankedTensorType>(logits.getType()).getRank() - 2;
  if (failed(HeadFinder(head, why).visit(logits)))
    return failure();
  if (!head.hidden) {
    why = "no contraction makes the logits";
    return failure();
  }
  if (head.shared.contains(head.hidden)) { // a chunk of it would be read where all of it is meant
    why = "the hidden state is multiplied by itself";
    return failure();
  }
  llvm::sort(head.ops, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });
  return head;
}

//===----------------------------------------------------------------------===//
// Chunks
//===----------------------------------------------------------------------===//

static RankedTensorType withSize(Type type, int64_t dim, int64_t size) {
  auto tensor = cast<RankedTensorType>(type);
  SmallVector<int64_t> shape(tensor.getShape());
  shape[dim] = size;
  return tensor.clone(shape);
}

/// Sums of many terms are not kept in 16 bits.
static Type sumElement(Type type) {
  Type element = cast<RankedTensorType>(type).getElementType();
  return element.isF64() ? element : Type(Float32Type::get(type.getContext()));
}

namespace {

class ChunkBuilder {
public:
  ChunkBuilder(OpBuilder &builder, const ModelHead &head, Value labels, int64_t chunks,
               llvm::function_ref<bool(Value)> isActive)
      : builder(builder), head(head), labels(labels), chunks(chunks), isActive(isActive),
        size(cast<RankedTensorType>(labels.getType()).getShape().back() / chunks),
        sums(head.shared.size()) {}
  FailureOr<ChunkedLoss> run();

private:
  LogicalResult addChunk(int64_t number);
  Value cloneHead(Value part, SmallVectorImpl<Operation *> &clones);
  Value chunksFirst(Value value, int64_t dim);
  Value chunkOf(Value chunked, int64_t number);
  Value concatenate(ArrayRef<Value> parts, RankedTensorType type, int64_t dim);

  OpBuilder &builder;
  const ModelHead &head;
  Value labels;
  int64_t chunks;
  llvm::function_ref<bool(Value)> isActive;
  int64_t size; ///< positions of each sequence in a chunk
  Value chunkedHidden, chunkedLabels;
  SmallVector<Value> losses, hidden; ///< by chunk
  SmallVector<Value> sums;           ///< gradients of head.shared so far; null: none
};

} // namespace

Value ChunkBuilder::cloneHead(Value part, SmallVectorImpl<Operation *> &clones) {
  IRMapping map;
  map.map(head.hidden, part);
  for (Operation *op : head.ops) {
    auto type = withSize(op->getResult(0).getType(), head.dim, size);
    if (isa<shard::ConstraintOp>(op)) {
      map.map(op->getResult(0), map.lookup(op->getOperand(0)));
    } else if (auto constant = dyn_cast<graph::ConstantOp>(op)) {
      map.map(op->getResult(0),
              graph::ConstantOp::create(
                  builder, op->getLoc(),
                  cast<SplatElementsAttr>(constant.getValue()).resizeSplat(type)));
    } else {
      clones.push_back(builder.clone(*op, map));
      clones.back()->removeAttr(shard::ShardDialect::kShardingsAttr);
      clones.back()->getResult(0).setType(type);
    }
  }
  return map.lookup(head.logits);
}

/// [.., positions, ..] to [chunks, .., positions of one, ..], so that a chunk is contiguous in
/// memory.
Value ChunkBuilder::chunksFirst(Value value, int64_t dim) {
  auto type = cast<RankedTensorType>(value.getType());
  SmallVector<int64_t> shape(type.getShape()), order = {dim};
  shape[dim] = size;
  shape.insert(shape.begin() + dim, chunks);
  for (int64_t d = 0; d <= type.getRank(); ++d)
    if (d != dim)
      order.push_back(d);
  Value parts = graph::ReshapeOp::create(builder, value.getLoc(), type.clone(shape), value);
  return graph::TransposeOp::create(builder, value.getLoc(), parts, order);
}

Value ChunkBuilder::chunkOf(Value chunked, int64_t number) {
  auto type = cast<RankedTensorType>(chunked.getType());
  SmallVector<int64_t> starts(type.getRank(), 0), strides(type.getRank(), 1);
  starts[0] = number;
  Value part = graph::SliceOp::create(builder, chunked.getLoc(), withSize(type, 0, 1), chunked,
                                      builder.getDenseI64ArrayAttr(starts),
                                      builder.getDenseI64ArrayAttr(strides));
  return graph::ReshapeOp::create(builder, chunked.getLoc(),
                                  type.clone(type.getShape().drop_front()), part);
}

/// The way back.
Value ChunkBuilder::concatenate(ArrayRef<Value> parts, RankedTensorType type, int64_t dim) {
  Location loc = head.logits.getLoc();
  SmallVector<int64_t> shape(cast<RankedTensorType>(parts[0].getType()).getShape()), order;
  shape.insert(shape.begin(), 1);
  SmallVector<Value> lines;
  for (Value part : parts)
    lines.push_back(graph::ReshapeOp::create(builder, loc, type.clone(shape), part));
  shape[0] = chunks;
  Value joined =
      graph::ConcatOp::create(builder, loc, type.clone(shape), lines, builder.getI64IntegerAttr(0));
  for (int64_t d = 1; d <= type.getRank(); ++d) {
    if (d == dim + 1)
      order.push_back(0);
    order.push_back(d);
  }
  return graph::ReshapeOp::create(builder, loc, type,
                                  graph::TransposeOp::create(builder, loc, joined, order));
}

LogicalResult ChunkBuilder::addChunk(int64_t number) {
  auto labelType = cast<RankedTensorType>(labels.getType());
  Location loc = head.logits.getLoc();
  Value part = chunkOf(chunkedHidden, number);
  SmallVector<Operation *> clones;
  Value logits = cloneHead(part, clones);
  SmallVector<Value> leaves;
  if (isActive(head.hidden))
    leaves.push_back(part);
  llvm::copy_if(head.shared, std::back_inserter(leaves), isActive);
  Cotangents cotangents(builder, *builder.getInsertionBlock(), leaves);
  CrossEntropy entropy = buildCrossEntropy(builder, loc, logits, chunkOf(chunkedLabels, number),
                                           labelType.getNumElements());
  cotangents.add(logits, entropy.cotangent);
  if (failed(cotangents.run(clones, [](func::CallOp) { return failure(); })))
    return failure();
  losses.push_back(entropy.losses);
  if (Value gradient = cotangents.get(part))
    hidden.push_back(gradient);
  for (auto [value, sum] : llvm::zip(head.shared, sums))
    if (Value gradient = cotangents.get(value)) {
      gradient = graph::castTo(builder, gradient.getLoc(), gradient, sumElement(value.getType()));
      sum = sum ? graph::AddOp::create(builder, loc, sum, gradient).getResult() : gradient;
    }
  return success();
}

FailureOr<ChunkedLoss> ChunkBuilder::run() {
  auto labelType = cast<RankedTensorType>(labels.getType());
  chunkedHidden = chunksFirst(head.hidden, head.hiddenDim);
  chunkedLabels = chunksFirst(labels, labelType.getRank() - 1);
  for (int64_t n = 0; n < chunks; ++n)
    if (failed(addChunk(n)))
      return failure();
  ChunkedLoss result;
  result.losses = concatenate(losses, cast<RankedTensorType>(labelType.clone(builder.getF32Type())),
                              labelType.getRank() - 1);
  if (!hidden.empty())
    result.cotangents.push_back(
        {head.hidden,
         concatenate(hidden, cast<RankedTensorType>(head.hidden.getType()), head.hiddenDim)});
  for (auto [value, sum] : llvm::zip(head.shared, sums))
    if (sum)
      result.cotangents.push_back(
          {value, graph::castTo(builder, sum.getLoc(), sum,
                                cast<RankedTensorType>(value.getType()).getElementType())});
  return result;
}

FailureOr<ChunkedLoss> buildChunkedLoss(OpBuilder &builder, const ModelHead &head, Value labels,
                                        int64_t chunks, llvm::function_ref<bool(Value)> isActive) {
  return ChunkBuilder(builder, head, labels, chunks, isActive).run();
}

} // namespace shardc
