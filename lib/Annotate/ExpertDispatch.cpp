//===- ExpertDispatch.cpp - Tokens to the ranks of their experts ----------===//
//
// Input:  rows x with an expert each, and what experts compute with them:
//           up = grouped_matmul x, w1 by ids
//           y = grouped_matmul (silu up), w2 by ids
//           z = reduce sum (y * weight) over a token's rows
// Output: the same on B = `blocks` copies of the rows, one after the other, of which copy b has the
//         experts of block b only:
//           xs = B times x
//           ups = grouped_matmul xs, w1 by (B times ids) {blocks = B}
//           …
//           z = sum over the B copies of zs
//
// Cut along copies and blocks of experts over the same ranks this is expert parallelism: xs is a
// gather of tokens, everything up to zs is local, and the sum is a reduce-scatter, with the numbers
// of the whole model. Shardings, derivative and collectives follow from ordinary rules.
//
//   1. What can take part, in order of the block. A row is *zero* where its expert is elsewhere:
//      of products, and of what is linear in such rows. It is *any* number behind other
//      elementwise ops, which may only lead to further products.
//   2. Ops whose result would be needed outside, and is not zero there, are taken out again, until
//      nothing changes.
//   3. Ops are cloned with B times the rows. What they read from outside is repeated where it is
//      smallest: tokens, before they become one row for each of their experts.
//   4. Where somebody outside reads a result, the copies are summed: behind the sum over a token's
//      experts, where there are fewest rows.
//
//===----------------------------------------------------------------------===//

#include "ExpertDispatch.h"

#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace shardc {

static RankedTensorType typeOf(Value value) { return cast<RankedTensorType>(value.getType()); }

static RankedTensorType timesRows(RankedTensorType type, int64_t blocks) {
  SmallVector<int64_t> shape(type.getShape());
  shape[0] *= blocks;
  return type.clone(shape);
}

/// An op that only moves rows, or whole rows' elements: with B times the rows it is the same op.
static bool movesRows(Operation *op) {
  if (auto broadcast = dyn_cast<graph::BroadcastOp>(op)) {
    auto from = broadcast.getInput().getType(), to = broadcast.getType();
    return from.getRank() > 0 && broadcast.getDims()[0] == 0 &&
           from.getDimSize(0) == to.getDimSize(0);
  }
  if (auto transpose = dyn_cast<graph::TransposeOp>(op))
    return transpose.getPermutation()[0] == 0;
  return isa<graph::ReshapeOp>(op) && typeOf(op->getOperand(0)).getRank() > 0 &&
         typeOf(op->getResult(0)).getRank() > 0;
}

static bool isElementwise(Operation *op) {
  auto ruled = dyn_cast<graph::ShardingRuleOpInterface>(op);
  if (!ruled || op->getNumOperands() == 0 || op->getNumResults() != 1 ||
      typeOf(op->getResult(0)).getRank() == 0)
    return false;
  for (Value operand : op->getOperands())
    if (!isa<RankedTensorType>(operand.getType()) ||
        typeOf(operand).getShape() != typeOf(op->getResult(0)).getShape())
      return false;
  ShardingRule rule = ruled.getShardingRule();
  return llvm::all_of(
             rule.factors,
             [](const Factor &factor) { return factor.kind == FactorKind::PassThrough; }) &&
         llvm::all_of(rule.operands,
                      [&](const FactorDims &dims) { return dims == rule.results[0]; });
}

namespace {

enum class Rows { Zero, Any };

class Dispatcher {
public:
  Dispatcher(ArrayRef<graph::GroupedMatmulOp> products, int64_t blocks)
      : products(products.begin(), products.end()), blocks(blocks),
        path(products.front()->getAttr(graph::GraphDialect::kPathAttr)), builder(products.front()) {
  }
  void run();

private:
  bool isTaken(Value value) const { return taken.contains(value.getDefiningOp()); }
  std::optional<Rows> classify(Operation *op) const;
  bool isLinear(Operation *op) const;
  void take();
  bool removeOpenEnds();
  Value named(Value value);
  Value repeat(Value value);
  Value repeatHere(Value value);
  void clone(Operation *op);
  void sum(Operation *op);

  SmallPtrSet<Operation *, 4> products, banned;
  int64_t blocks;
  llvm::MapVector<Operation *, Rows> taken; ///< in the block's order
  DenseMap<Value, Value> copies;            ///< of values that are taken, or repeated
  Attribute path;                           ///< of the products' module, to which new ops belong
  OpBuilder builder;
};

} // namespace

/// In those operands that are taken, all of which have zero rows.
bool Dispatcher::isLinear(Operation *op) const {
  SmallVector<bool> mine;
  for (Value operand : op->getOperands()) {
    auto found = taken.find(operand.getDefiningOp());
    mine.push_back(found != taken.end());
    if (mine.back() && found->second != Rows::Zero)
      return false;
  }
  if (auto reduce = dyn_cast<graph::ReduceOp>(op))
    return reduce.getKind() == graph::Reduction::Sum && !llvm::is_contained(reduce.getDims(), 0);
  if (auto cast = dyn_cast<graph::CastOp>(op))
    return isa<FloatType>(typeOf(cast.getInput()).getElementType()) &&
           isa<FloatType>(cast.getType().getElementType());
  if (isa<graph::AddOp, graph::SubOp>(op))
    return mine[0] && mine[1];
  if (isa<graph::MulOp>(op))
    return mine[0] != mine[1];
  if (isa<graph::DivOp>(op))
    return mine[0] && !mine[1];
  return isa<graph::NegOp>(op) || movesRows(op);
}

std::optional<Rows> Dispatcher::classify(Operation *op) const {
  if (products.contains(op))
    return Rows::Zero;
  if (banned.contains(op) ||
      llvm::none_of(op->getOperands(), [&](Value operand) { return isTaken(operand); }))
    return std::nullopt;
  // What grows is better summed before.
  if (isLinear(op) &&
      typeOf(op->getResult(0)).getNumElements() <= typeOf(op->getOperand(0)).getNumElements())
    return Rows::Zero;
  if (isElementwise(op))
    return Rows::Any;
  return std::nullopt;
}

void Dispatcher::take() {
  taken.clear();
  Operation *op = nullptr;
  for (Operation *product : products)
    if (!op || product->isBeforeInBlock(op))
      op = product;
  // Users that are still to come: behind the last of them there is nothing to take.
  SmallPtrSet<Operation *, 8> waiting(products.begin(), products.end());
  for (; op && !waiting.empty(); op = op->getNextNode()) {
    waiting.erase(op);
    std::optional<Rows> rows = classify(op);
    if (!rows)
      continue;
    taken[op] = *rows;
    for (Operation *user : op->getUsers())
      waiting.insert(user);
  }
}

/// Bans what is read outside but has any numbers in other experts' rows.
bool Dispatcher::removeOpenEnds() {
  size_t before = banned.size();
  for (auto &[op, rows] : taken)
    if (rows == Rows::Any &&
        llvm::any_of(op->getUsers(), [&](Operation *user) { return !taken.contains(user); }))
      banned.insert(op);
  return banned.size() > before;
}

Value Dispatcher::named(Value value) {
  if (path)
    value.getDefiningOp()->setAttr(graph::GraphDialect::kPathAttr, path);
  return value;
}

/// [R, …] to [B, R, …] to [B · R, …].
Value Dispatcher::repeatHere(Value value) {
  RankedTensorType type = typeOf(value);
  SmallVector<int64_t> shape{blocks}, dims;
  llvm::append_range(shape, type.getShape());
  for (int64_t d = 0; d < type.getRank(); ++d)
    dims.push_back(d + 1);
  Value wide = named(graph::BroadcastOp::create(builder, value.getLoc(), type.clone(shape), value,
                                                builder.getDenseI64ArrayAttr(dims)));
  return named(graph::ReshapeOp::create(builder, value.getLoc(), timesRows(type, blocks), wide));
}

Value Dispatcher::repeat(Value value) {
  if (Value known = copies.lookup(value))
    return known;
  Operation *op = value.getDefiningOp();
  Value copy;
  // What is the same in all rows needs no copies.
  if (auto constant = dyn_cast_or_null<graph::ConstantOp>(op);
      constant && isa<SplatElementsAttr>(constant.getValue()))
    copy = graph::ConstantOp::create(builder, value.getLoc(),
                                     cast<SplatElementsAttr>(constant.getValue())
                                         .resizeSplat(timesRows(constant.getType(), blocks)));
  if (auto broadcast = dyn_cast_or_null<graph::BroadcastOp>(op);
      broadcast && !llvm::is_contained(broadcast.getDims(), 0))
    copy = named(graph::BroadcastOp::create(builder, value.getLoc(),
                                            timesRows(broadcast.getType(), blocks),
                                            broadcast.getInput(), broadcast.getDimsAttr()));
  if (!copy) {
    // Up to the smallest value that it is made of.
    SmallVector<Operation *> way;
    size_t best = 0;
    Value smallest = value;
    for (Value at = value; at.getDefiningOp() && movesRows(at.getDefiningOp());) {
      way.push_back(at.getDefiningOp());
      at = way.back()->getOperand(0);
      if (typeOf(at).getNumElements() < typeOf(smallest).getNumElements())
        smallest = at, best = way.size();
    }
    copy = repeatHere(smallest);
    for (Operation *step : llvm::reverse(ArrayRef(way).take_front(best))) {
      Operation *again = builder.clone(*step);
      again->setOperand(0, copy);
      again->getResult(0).setType(timesRows(typeOf(step->getResult(0)), blocks));
      copy = again->getResult(0);
    }
  }
  return copies[value] = copy;
}

void Dispatcher::clone(Operation *op) {
  builder.setInsertionPoint(op);
  Operation *wide = op->clone();
  for (OpOperand &operand : op->getOpOperands())
    if (!(products.contains(op) && operand.getOperandNumber() == 1)) // the experts themselves
      wide->setOperand(operand.getOperandNumber(), repeat(operand.get()));
  wide->getResult(0).setType(timesRows(typeOf(op->getResult(0)), blocks));
  if (auto product = dyn_cast<graph::GroupedMatmulOp>(wide))
    product.setBlocks(blocks);
  builder.insert(wide);
  copies[op->getResult(0)] = wide->getResult(0);
}

void Dispatcher::sum(Operation *op) {
  auto isOutside = [&](OpOperand &use) { return !taken.contains(use.getOwner()); };
  Value value = op->getResult(0);
  if (llvm::none_of(value.getUses(), isOutside))
    return;
  builder.setInsertionPoint(op);
  SmallVector<int64_t> shape{blocks};
  llvm::append_range(shape, typeOf(value).getShape());
  Value parts = named(graph::ReshapeOp::create(builder, op->getLoc(), typeOf(value).clone(shape),
                                               copies.lookup(value)));
  value.replaceUsesWithIf(
      named(graph::ReduceOp::create(builder, op->getLoc(), graph::Reduction::Sum, parts,
                                    ArrayRef<int64_t>{0})),
      isOutside);
}

void Dispatcher::run() {
  do
    take();
  while (removeOpenEnds());
  for (auto &[op, rows] : taken) {
    clone(op);
    sum(op);
  }
  for (auto &[op, rows] : llvm::reverse(taken))
    op->erase();
}

void dispatchExperts(ArrayRef<graph::GroupedMatmulOp> products, int64_t blocks) {
  Dispatcher(products, blocks).run();
}

} // namespace shardc
