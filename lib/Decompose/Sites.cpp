//===- Sites.cpp - Collectives along the sequence, and the products beside them -===//
//
//     gather along the sequence -> (elementwise) -> products            products -> (elementwise) -> reduce-scatter
//
// A product takes part if its rows are tokens: it computes each piece of them alone. One that sums
// over them, as the gradient of a weight does, needs the whole.
//
//===----------------------------------------------------------------------===//
#include "Sites.h"

#include "shardc/Sharding/Sharding.h"

using namespace mlir;

namespace shardc {

bool Tokens::isWhole(Type type) const {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.getRank() > dim && tensor.getDimSize(dim) == whole &&
         (dim == 0 || tensor.getDimSize(0) == outer);
}

static RankedTensorType withTokens(RankedTensorType type, const Tokens &tokens, int64_t sequence) {
  SmallVector<int64_t> shape(type.getShape());
  if (tokens.dim == 1)
    shape[0] = tokens.outer / tokens.cut.first;
  shape[tokens.dim] = sequence;
  return RankedTensorType::get(shape, type.getElementType());
}

RankedTensorType Tokens::pieceOfWhole(RankedTensorType type) const {
  return withTokens(type, *this, cut.second == 1 ? whole : whole / cut.second);
}
RankedTensorType Tokens::pieceOfPart(RankedTensorType type) const {
  return withTokens(type, *this, part / cut.second);
}

RankedTensorType Site::wholeType() const {
  return cast<RankedTensorType>((isGather() ? op->getResult(0) : op->getOperand(0)).getType());
}

bool isTokenwise(Operation *op, const Tokens &tokens) {
  return op->hasTrait<OpTrait::Elementwise>() && isa<graph::GraphDialect>(op->getDialect()) &&
         op->getNumResults() == 1 && tokens.isWhole(op->getResult(0).getType());
}

std::optional<unsigned> tokenOperand(Operation *op, const Tokens &tokens) {
  auto product = dyn_cast<graph::EinsumOp>(op);
  if (!product || !tokens.isWhole(product.getType()))
    return std::nullopt;
  graph::EinsumOp::Letters letters = product.getLetters();
  for (unsigned n : {0u, 1u}) {
    StringRef own = n ? letters.rhs : letters.lhs, other = n ? letters.lhs : letters.rhs;
    size_t count = tokens.dim + 1;
    if (tokens.isWhole(op->getOperand(n).getType()) &&
        own.take_front(count) == StringRef(letters.result).take_front(count) &&
        other.find_first_of(own.take_front(count)) == StringRef::npos)
      return n;
  }
  return std::nullopt;
}

/// Products that read a gathered value, directly or through elementwise ops.
static void findReaders(Site &site) {
  SmallVector<Value> work = {site.op->getResult(0)};
  llvm::DenseSet<Value> seen(work.begin(), work.end());
  bool isSummed = false, isScaled = false;
  while (!work.empty())
    for (OpOperand &use : work.pop_back_val().getUses()) {
      Operation *user = use.getOwner();
      if (tokenOperand(user, site.tokens) == use.getOperandNumber())
        site.products.insert(user);
      else if (isTokenwise(user, site.tokens) && seen.insert(user->getResult(0)).second)
        work.push_back(user->getResult(0));
      isSummed |= isa<graph::EinsumOp>(user);
      isScaled |= isa<graph::ScaledEinsumOp>(user);
    }
  if (site.products.empty())
    site.refusal =
        isScaled   ? "the products that read it are of 8-bit floats, which are scaled as a whole"
        : isSummed ? "the products that read it sum over the tokens"
                   : "no product reads it";
}

/// Products that make what is reduced, directly or through elementwise ops.
static void findMakers(Site &site) {
  SmallVector<Value> work = {site.op->getOperand(0)};
  llvm::DenseSet<Value> seen(work.begin(), work.end());
  bool isScaled = false;
  while (!work.empty()) {
    Operation *maker = work.pop_back_val().getDefiningOp();
    if (!maker)
      continue;
    isScaled |= isa<graph::ScaledEinsumOp>(maker);
    if (tokenOperand(maker, site.tokens))
      site.products.insert(maker);
    else if (isTokenwise(maker, site.tokens))
      for (Value operand : maker->getOperands())
        if (seen.insert(operand).second)
          work.push_back(operand);
  }
  if (site.products.empty())
    site.refusal = isScaled
                       ? "the product that makes it is of 8-bit floats, which are scaled as a whole"
                       : "no product makes what it reduces";
}

/// The collective's tokens, if it is along a sequence: not along the last dimension, where features
/// are.
static std::optional<Tokens> tokensOf(Operation *op) {
  int64_t dim;
  if (auto gather = dyn_cast<shard::AllGatherOp>(op))
    dim = gather.getDim();
  else if (auto scatter = dyn_cast<shard::ReduceScatterOp>(op))
    dim = scatter.getDim();
  else
    return std::nullopt;
  auto source = cast<RankedTensorType>(op->getOperand(0).getType()),
       result = cast<RankedTensorType>(op->getResult(0).getType());
  if (dim > 1 || dim + 1 >= source.getRank())
    return std::nullopt;
  auto mesh = shard::lookupMesh(op, op->getAttrOfType<FlatSymbolRefAttr>("mesh"));
  auto attr = op->getAttrOfType<ArrayAttr>("axes");
  Result<AxisList> axes = shard::resolveAxes(mesh.getMesh(), attr);
  if (!axes || axesSize(*axes) < 2)
    return std::nullopt;
  if (!isa<shard::AllGatherOp>(op))
    std::swap(source, result);
  return Tokens{dim,
                dim == 1 ? source.getDimSize(0) : 1,
                result.getDimSize(dim),
                source.getDimSize(dim),
                axesSize(*axes),
                attr,
                {1, 1}};
}

SmallVector<Site> findSites(func::FuncOp function) {
  SmallVector<Site> sites;
  for (Operation &op : function.getBody().front())
    if (std::optional<Tokens> tokens = tokensOf(&op)) {
      Site &site = sites.emplace_back(Site{&op, *tokens, {}, ""});
      if (site.isGather())
        findReaders(site);
      else
        findMakers(site);
    }
  return sites;
}

} // namespace shardc
