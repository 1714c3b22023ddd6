//===- Folder.cpp - Constant folding by reference evaluation --------------===//

#include "Folder.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

/// Evaluated tensors kept between two evaluations, in elements (of eight bytes).
static constexpr int64_t kMaxCachedElements = int64_t(16) << 20;

static bool fits(Type type, int64_t maxElements) {
  int64_t count = 1;
  for (int64_t size : cast<RankedTensorType>(type).getShape())
    if (llvm::MulOverflow(count, size, count) || count > maxElements)
      return false;
  return true;
}

void Folder::note(Operation *op) {
  if (isa<ParameterOp>(op) || !isa<EvaluateOpInterface>(op))
    return;
  if (!llvm::all_of(op->getOperands(), [&](Value operand) { return isConstant(operand); }) ||
      !llvm::all_of(op->getResultTypes(), [&](Type type) { return fits(type, maxElements); }))
    return;
  constants.insert(op->result_begin(), op->result_end());
}

/// Evaluates one op whose operands are in the cache.
LogicalResult Folder::compute(Operation *op) {
  // Tensors move there and back; only one that stands twice is copied.
  SmallVector<HostTensor> operands;
  for (auto [n, operand] : llvm::enumerate(op->getOperands())) {
    auto before = llvm::find(op->getOperands().take_front(n), operand);
    if (before == op->operand_begin() + n)
      operands.push_back(std::move(*cache[operand]));
    else
      operands.push_back(operands[before.getIndex()]);
  }
  FailureOr<SmallVector<HostTensor>> results = cast<EvaluateOpInterface>(op).evaluate(operands);
  for (auto [operand, tensor] : llvm::zip_equal(op->getOperands(), operands))
    *cache[operand] = std::move(tensor);
  if (failed(results))
    return failure();
  for (auto [value, tensor] : llvm::zip_equal(op->getResults(), *results)) {
    cachedElements += tensor.size();
    cache[value] = std::make_unique<HostTensor>(std::move(tensor));
  }
  return success();
}

const HostTensor *Folder::evaluate(Value value) {
  if (!isConstant(value))
    return nullptr;
  if (auto known = cache.find(value); known != cache.end())
    return known->second.get();
  if (cachedElements > kMaxCachedElements) {
    cache.clear();
    cachedElements = 0;
  }
  // Depth first with an explicit stack: a hostile model has chains of any length.
  SmallVector<Operation *> stack{value.getDefiningOp()};
  while (!stack.empty()) {
    Operation *op = stack.back();
    size_t height = stack.size();
    for (Value operand : op->getOperands())
      if (!cache.count(operand))
        stack.push_back(operand.getDefiningOp());
    if (stack.size() != height)
      continue;
    stack.pop_back();
    if (!cache.count(op->getResult(0)) && failed(compute(op)))
      return nullptr;
  }
  return cache[value].get();
}

/// Makes one constant value independent of the chain that computes it.
LogicalResult Folder::materialize(Value value) {
  while (auto broadcast = value.getDefiningOp<BroadcastOp>())
    value = broadcast.getInput();
  Operation *op = value.getDefiningOp();
  if (isa<ConstantOp, IotaOp>(op))
    return success();
  const HostTensor *tensor = evaluate(value);
  if (!tensor)
    return failure();
  OpBuilder b(op);
  auto constant = ConstantOp::create(b, op->getLoc(), tensor->toAttr());
  constants.insert(constant.getResult());
  value.replaceAllUsesWith(constant);
  return success();
}

LogicalResult Folder::materialize(Block &block) {
  SmallVector<Operation *> roots;
  for (Operation &op : block)
    if (op.getNumResults() == 0 || !isConstant(op.getResult(0)))
      roots.push_back(&op);
  for (Operation *root : roots)
    for (OpOperand &operand : root->getOpOperands())
      if (isConstant(operand.get()) && failed(materialize(operand.get())))
        return failure();
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
    if (op.use_empty() && !op.hasTrait<OpTrait::IsTerminator>() && isPure(&op))
      op.erase();
  return success();
}

} // namespace shardc::importer
