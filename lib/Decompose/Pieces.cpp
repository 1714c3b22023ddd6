//===- Pieces.cpp - Parts of tensors, and tensors of parts ----------------===//
//
// Input: sites and ops to cut. Output: for each connected set of them, at the place of its first op,
//
//     the gathers of all pieces
//     for each piece: its ops, and behind what makes it, its reduce-scatter
//     whole tensors, of what others read
//
// Pieces of a rank's part lie one behind the other in it, so that a slice is a view and a
// `bucket_pack` of results is written in place. So do pieces of a whole tensor that are whole
// sequences. Where each part of a sequence is cut, a piece of the whole has rows of all ranks,
// [rank, piece, row, …]: it is made and read through a transpose.
//
//===----------------------------------------------------------------------===//
#include "Sites.h"

#include "shardc/Decompose/Passes.h"
#include "shardc/Support/SortOps.h"

#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/EquivalenceClasses.h"

using namespace mlir;

namespace shardc {
namespace {

class PieceBuilder {
public:
  PieceBuilder(func::FuncOp function, ArrayRef<const Site *> sites, ArrayRef<Operation *> ops)
      : builder(function.getContext()), block(function.getBody().front()), sites(sites), ops(ops),
        tokens(sites.front()->tokens) {
    for (const Site *site : sites)
      old.insert(site->op);
    old.insert(ops.begin(), ops.end());
  }
  /// Returns the first op that computes a piece, of each connected set.
  SmallVector<Operation *> run();

private:
  SmallVector<SmallVector<Operation *>> components() const;
  Operation *build(ArrayRef<Operation *> component);
  void gather(Operation *op);
  void scatter(Operation *op, int64_t n);
  Operation *compute(Operation *op, int64_t n);
  Value pieceOf(Value value, int64_t n);
  Value cutWhole(Value value, int64_t n);
  Value cutPart(Value value, int64_t n);
  Value slice(Value value, ArrayRef<int64_t> starts, RankedTensorType type);
  Value reshape(Value value, ArrayRef<int64_t> shape);
  Value join(ArrayRef<Value> parts, RankedTensorType type, bool isWhole);
  void markPiece(Operation *op);

  OpBuilder builder;
  Block &block;
  ArrayRef<const Site *> sites;
  ArrayRef<Operation *> ops;
  const Tokens &tokens;
  llvm::DenseSet<Operation *> old;
  llvm::DenseMap<Value, SmallVector<Value>> pieces;       ///< of results of cut ops and sites
  llvm::DenseMap<std::pair<Value, int64_t>, Value> parts; ///< of values that stay whole
};

} // namespace

/// What belongs together, in program order.
SmallVector<SmallVector<Operation *>> PieceBuilder::components() const {
  llvm::EquivalenceClasses<Operation *> classes;
  for (Operation *op : old) {
    classes.insert(op);
    for (Value operand : op->getOperands())
      if (Operation *producer = operand.getDefiningOp(); producer && old.contains(producer))
        classes.unionSets(op, producer);
  }
  llvm::MapVector<Operation *, SmallVector<Operation *>> byLeader;
  for (Operation &op : block)
    if (old.contains(&op))
      byLeader[classes.getLeaderValue(&op)].push_back(&op);
  SmallVector<SmallVector<Operation *>> result;
  for (auto &[leader, members] : byLeader)
    result.push_back(std::move(members));
  return result;
}

Value PieceBuilder::slice(Value value, ArrayRef<int64_t> starts, RankedTensorType type) {
  SmallVector<int64_t> steps(starts.size(), 1);
  return graph::SliceOp::create(builder, value.getLoc(), type, value, starts, steps);
}

Value PieceBuilder::reshape(Value value, ArrayRef<int64_t> shape) {
  auto type = RankedTensorType::get(shape, getElementTypeOrSelf(value.getType()));
  return type == value.getType()
             ? value
             : graph::ReshapeOp::create(builder, value.getLoc(), type, value).getResult();
}

/// Piece n of what a rank has of a tensor: contiguous in it.
Value PieceBuilder::cutPart(Value value, int64_t n) {
  auto type = tokens.pieceOfPart(cast<RankedTensorType>(value.getType()));
  SmallVector<int64_t> starts(type.getRank(), 0);
  if (tokens.dim == 1)
    starts[0] = n / tokens.cut.second * type.getDimSize(0);
  starts[tokens.dim] = n % tokens.cut.second * type.getDimSize(tokens.dim);
  return slice(value, starts, type);
}

/// Piece n of a whole tensor, which has rows of all ranks.
Value PieceBuilder::cutWhole(Value value, int64_t n) {
  auto whole = cast<RankedTensorType>(value.getType()), type = tokens.pieceOfWhole(whole);
  if (tokens.cut.second == 1) {
    SmallVector<int64_t> starts(type.getRank(), 0);
    starts[0] = n * type.getDimSize(0);
    return slice(value, starts, type);
  }
  int64_t at = tokens.dim, rows = type.getDimSize(at) / tokens.ranks;
  SmallVector<int64_t> split(whole.getShape().take_front(at));
  llvm::append_values(split, tokens.ranks, tokens.cut.second, rows);
  llvm::append_range(split, whole.getShape().drop_front(at + 1));
  SmallVector<int64_t> shape = split, starts(split.size(), 0);
  if (at == 1) {
    shape[0] = 1;
    starts[0] = n / tokens.cut.second;
  }
  shape[at + 1] = 1;
  starts[at + 1] = n % tokens.cut.second;
  Value part =
      slice(reshape(value, split), starts, RankedTensorType::get(shape, type.getElementType()));
  return reshape(part, type.getShape());
}

/// Piece n of an operand: there already, the same for all tokens, or a slice.
Value PieceBuilder::pieceOf(Value value, int64_t n) {
  if (auto known = pieces.find(value); known != pieces.end())
    return known->second[n];
  auto [known, isNew] = parts.try_emplace({value, n});
  if (!isNew)
    return known->second;
  auto whole = cast<RankedTensorType>(value.getType()), type = tokens.pieceOfWhole(whole);
  Value part;
  auto constant = value.getDefiningOp<graph::ConstantOp>();
  auto broadcast = value.getDefiningOp<graph::BroadcastOp>();
  if (constant && constant.getValue().isSplat()) {
    auto splat = cast<DenseElementsAttr>(constant.getValue()).resizeSplat(type);
    part = graph::ConstantOp::create(builder, value.getLoc(), type, splat);
  } else if (broadcast && llvm::none_of(llvm::enumerate(broadcast.getDims()), [&](auto dim) {
               return dim.value() <= tokens.dim &&
                      broadcast.getInput().getType().getDimSize(dim.index()) > 1;
             })) {
    part = graph::BroadcastOp::create(builder, value.getLoc(), type, broadcast.getInput(),
                                      broadcast.getDims());
  } else {
    part = cutWhole(value, n);
  }
  return parts[{value, n}] = part;
}

void PieceBuilder::markPiece(Operation *op) {
  op->setAttr(kPieceAttr, builder.getUnitAttr());
  auto origin = op->getAttrOfType<DictionaryAttr>(shard::ShardDialect::kOriginAttr);
  if (!origin)
    return;
  NamedAttrList list(origin);
  list.erase("micros"); // of the whole
  list.set("pieces", builder.getI64IntegerAttr(tokens.pieces()));
  op->setAttr(shard::ShardDialect::kOriginAttr, list.getDictionary(op->getContext()));
}

void PieceBuilder::gather(Operation *op) {
  auto whole = cast<RankedTensorType>(op->getResult(0).getType());
  SmallVector<Value> results;
  for (int64_t n = 0; n < tokens.pieces(); ++n) {
    IRMapping map;
    map.map(op->getOperand(0), cutPart(op->getOperand(0), n));
    Operation *piece = builder.clone(*op, map);
    piece->getResult(0).setType(tokens.pieceOfWhole(whole));
    markPiece(piece);
    results.push_back(piece->getResult(0));
  }
  pieces[op->getResult(0)] = std::move(results);
}

void PieceBuilder::scatter(Operation *op, int64_t n) {
  IRMapping map;
  map.map(op->getOperand(0), pieceOf(op->getOperand(0), n));
  Operation *piece = builder.clone(*op, map);
  piece->getResult(0).setType(
      tokens.pieceOfPart(cast<RankedTensorType>(op->getResult(0).getType())));
  markPiece(piece);
  pieces[op->getResult(0)].push_back(piece->getResult(0));
}

Operation *PieceBuilder::compute(Operation *op, int64_t n) {
  IRMapping map;
  if (std::optional<unsigned> own = tokenOperand(op, tokens))
    map.map(op->getOperand(*own), pieceOf(op->getOperand(*own), n));
  else
    for (Value operand : op->getOperands())
      map.map(operand, pieceOf(operand, n));
  Operation *piece = builder.clone(*op, map);
  piece->getResult(0).setType(
      tokens.pieceOfWhole(cast<RankedTensorType>(op->getResult(0).getType())));
  pieces[op->getResult(0)].push_back(piece->getResult(0));
  return piece;
}

/// The tensor of these pieces: written in place, if they begin where parts of a buffer may.
Value PieceBuilder::join(ArrayRef<Value> values, RankedTensorType type, bool isWhole) {
  constexpr int64_t kAlignment = 64; // elements, as in buckets
  Location loc = values.front().getLoc();
  int64_t size = type.getNumElements() / values.size();
  auto flat = RankedTensorType::get({type.getNumElements()}, type.getElementType());
  Value joined;
  if (size % kAlignment == 0) {
    SmallVector<int64_t> offsets;
    for (size_t n = 0; n < values.size(); ++n)
      offsets.push_back(n * size);
    joined = shard::BucketPackOp::create(builder, loc, flat, values, offsets);
  } else {
    SmallVector<Value> lines;
    for (Value value : values)
      lines.push_back(reshape(value, {size}));
    joined = graph::ConcatOp::create(builder, loc, flat, lines, 0);
  }
  if (!isWhole || tokens.cut.second == 1)
    return reshape(joined, type.getShape());
  // [sequence, piece, rank, row, …] -> [sequence, rank, piece, row, …]
  int64_t at = tokens.dim;
  SmallVector<int64_t> shape(type.getShape().take_front(at)), order;
  llvm::append_values(shape, tokens.cut.second, tokens.ranks, tokens.part / tokens.cut.second);
  llvm::append_range(shape, type.getShape().drop_front(at + 1));
  for (size_t d = 0; d < shape.size(); ++d)
    order.push_back(d);
  std::swap(order[at], order[at + 1]);
  Value turned = graph::TransposeOp::create(builder, loc, reshape(joined, shape), order);
  return reshape(turned, type.getShape());
}

Operation *PieceBuilder::build(ArrayRef<Operation *> component) {
  Operation *first = nullptr;
  builder.setInsertionPoint(component.front());
  for (Operation *op : component)
    if (isa<shard::AllGatherOp>(op))
      gather(op);
  for (int64_t n = 0; n < tokens.pieces(); ++n)
    for (Operation *op : component) {
      if (isa<shard::ReduceScatterOp>(op))
        scatter(op, n);
      else if (!isa<shard::AllGatherOp>(op)) {
        Operation *piece = compute(op, n);
        first = first ? first : piece;
      }
    }
  for (Operation *op : component) {
    Value result = op->getResult(0);
    auto isElsewhere = [&](OpOperand &use) { return !old.contains(use.getOwner()); };
    auto type = cast<RankedTensorType>(result.getType());
    // A product's other operand, or a site of its own, takes the whole tensor too.
    auto needsWhole = [&](OpOperand &use) {
      Operation *user = use.getOwner();
      std::optional<unsigned> own = tokenOperand(user, tokens);
      return isElsewhere(use) || isa<shard::AllGatherOp>(user) ||
             (own && *own != use.getOperandNumber());
    };
    if (llvm::any_of(result.getUses(), needsWhole))
      result.replaceUsesWithIf(join(pieces[result], type, !isa<shard::ReduceScatterOp>(op)),
                               isElsewhere);
  }
  return first;
}

SmallVector<Operation *> PieceBuilder::run() {
  SmallVector<Operation *> starts;
  for (ArrayRef<Operation *> component : components())
    starts.push_back(build(component));
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
    if (old.contains(&op))
      op.erase();
  pullProducersUp(block);
  return starts;
}

SmallVector<Operation *> cutIntoPieces(func::FuncOp function, ArrayRef<const Site *> sites,
                                       const CutOps &ops) {
  return PieceBuilder(function, sites, ops.getOps()).run();
}

} // namespace shardc
