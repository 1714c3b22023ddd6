//===- Roles.cpp - What each weight is for, by data flow ------------------===//
//
// Input: a raised function. Output: `graph.role` on the ops that use weights, so that a plan can be
// given by role where a model has no names.
//
// 1. From attention up: the product that the query comes from is q_proj, through rope, norms
//    (q_norm), biases and views; likewise k and v. One product for several of them is qkv_proj
//    (kv_proj without the query).
// 2. From attention down: the next product is o_proj.
// 3. act(a) * b: the products behind a and b are gate_proj and up_proj (gate_up_proj if they are
//    one), the next one down is down_proj. act(a) without a partner: fc1 and fc2. Products with an
//    expert per row: experts_gate_up and experts_down.
// 4. From topk up: router. From the results up: lm_head. Gathered rows of a parameter: embedding.
//    Other norms: norm.
//
// The first role found stays, in this order.
//
//===----------------------------------------------------------------------===//

#include "lib/Raise/Match.h"
#include "shardc/Raise/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace shardc {
#define GEN_PASS_DEF_FINDROLESPASS
#include "lib/Raise/Passes.h.inc"
} // namespace shardc

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::raise;

namespace {

void setRole(Operation *op, StringRef role) {
  if (!op->hasAttr(GraphDialect::kRoleAttr))
    op->setAttr(GraphDialect::kRoleAttr, StringAttr::get(op->getContext(), role));
}

StringRef roleOf(Operation *op) {
  auto role = op->getAttrOfType<StringAttr>(GraphDialect::kRoleAttr);
  return role ? role.getValue() : StringRef();
}

/// Whether a value is computed from parameters and constants alone.
bool isWeight(Value value) {
  Operation *op = value.getDefiningOp();
  if (!op || isa<EinsumOp, GroupedMatmulOp, AttentionOp>(op))
    return false;
  return llvm::all_of(op->getOperands(), isWeight);
}

bool isProduct(Operation *op) {
  if (auto einsum = dyn_cast_or_null<EinsumOp>(op))
    return isWeight(einsum.getLhs()) != isWeight(einsum.getRhs());
  return isa_and_nonnull<GroupedMatmulOp>(op);
}

/// Entries written into a cache, an input of the model.
bool isCacheWrite(Operation *op) {
  auto scatter = dyn_cast<ScatterElementsOp>(op);
  return scatter && scatter.getCombine() == Combine::Replace &&
         isa<BlockArgument>(scatter.getData());
}

/// An op that changes values one by one, row by row, or only moves them: what stands between
/// blocks. Not a broadcast: what all heads share (DeepSeek's rotated key) is no projection to
/// heads.
bool isTransparent(Operation *op) {
  return op->hasTrait<OpTrait::Elementwise>() ||
         isa<ReshapeOp, TransposeOp, SliceOp, ConcatOp, RopeOp, RmsNormOp, LayerNormOp, SoftmaxOp>(
             op) ||
         isCacheWrite(op);
}

/// An addition of two activations: the residual stream, where no product's influence ends.
bool isResidual(Operation *op) {
  return isa<AddOp>(op) && !isWeight(op->getOperand(0)) && !isWeight(op->getOperand(1));
}

/// What lies between a value and the products that it comes from.
struct Origin {
  llvm::SmallSetVector<Operation *, 4> products, norms, biases;
};

void collectOrigin(Value value, Origin &origin, llvm::SmallPtrSetImpl<Operation *> &visited) {
  Operation *op = value.getDefiningOp();
  if (!op || !visited.insert(op).second || isWeight(value))
    return;
  if (isProduct(op)) {
    origin.products.insert(op);
    return;
  }
  if (!isTransparent(op) || isResidual(op))
    return;
  if (isa<RmsNormOp, LayerNormOp>(op))
    origin.norms.insert(op);
  if (isa<AddOp>(op))
    origin.biases.insert(op);
  for (Value operand : op->getOperands())
    collectOrigin(operand, origin, visited);
}

Origin originOf(Value value) {
  Origin origin;
  llvm::SmallPtrSet<Operation *, 16> visited;
  collectOrigin(value, origin, visited);
  return origin;
}

void collectNextProducts(Value value, llvm::SmallSetVector<Operation *, 4> &products,
                         llvm::SmallPtrSetImpl<Operation *> &visited) {
  for (Operation *user : value.getUsers()) {
    if (isProduct(user))
      products.insert(user);
    else if (visited.insert(user).second && isTransparent(user) && !isResidual(user))
      collectNextProducts(user->getResult(0), products, visited);
  }
}

/// The products that a value reaches before it joins the residual stream.
llvm::SmallSetVector<Operation *, 4> nextProducts(Value value) {
  llvm::SmallSetVector<Operation *, 4> products;
  llvm::SmallPtrSet<Operation *, 16> visited;
  collectNextProducts(value, products, visited);
  return products;
}

/// Gives a product its role, and the bias added to it the same.
void setProductRole(Operation *product, StringRef role) {
  setRole(product, role);
  Operation *at = product;
  for (int step = 0; step < 4 && at->getNumResults() == 1 && at->getResult(0).hasOneUse(); ++step) {
    at = *at->user_begin();
    if (isa<AddOp>(at) && !isResidual(at))
      return setRole(at, role);
    if (!isa<ReshapeOp, TransposeOp>(at))
      return;
  }
}

/// Gives a norm its role, and the weight that multiplies a 16-bit norm the same.
void setNormRole(Operation *norm, StringRef role) {
  setRole(norm, role);
  if (!norm->hasOneUse())
    return;
  Operation *user = *norm->user_begin();
  if (isa<MulOp>(user) && (isWeight(user->getOperand(0)) || isWeight(user->getOperand(1))))
    setRole(user, role);
}

//===----------------------------------------------------------------------===//
// Blocks
//===----------------------------------------------------------------------===//

void findAttentionRoles(AttentionOp op) {
  setRole(op, "attention");
  Origin query = originOf(op.getQuery()), key = originOf(op.getKey()),
         value = originOf(op.getValue());
  auto label = [&](const Origin &origin, StringRef role) {
    for (Operation *product : origin.products) {
      bool isQuery = query.products.contains(product), isKey = key.products.contains(product),
           isValue = value.products.contains(product);
      bool isShared = isQuery + isKey + isValue > 1;
      setProductRole(product, !isShared ? role : isQuery ? "qkv_proj" : "kv_proj");
    }
  };
  label(query, "q_proj");
  label(key, "k_proj");
  label(value, "v_proj");
  for (Operation *norm : query.norms)
    setNormRole(norm, "q_norm");
  for (Operation *norm : key.norms)
    setNormRole(norm, "k_norm");
  for (Operation *product : nextProducts(op))
    setProductRole(product, "o_proj");
}

bool isActivation(Operation *op) {
  return isa_and_nonnull<SiluOp, GeluOp, GeluTanhOp, ReluOp, SigmoidOp, TanhOp>(op);
}

/// Roles of the products behind an activation, behind what it multiplies (if it does), and below.
void setFeedForwardRoles(const Origin &gate, const Origin &up, bool isGated, Value result) {
  llvm::SmallSetVector<Operation *, 4> next = nextProducts(result);
  auto single = [](const auto &set) { return set.size() == 1 ? set[0] : nullptr; };
  Operation *gateProduct = single(gate.products), *upProduct = single(up.products),
            *down = single(next);
  if (!gateProduct || !down || (isGated && !upProduct))
    return; // also a gate on something else than a product: a state-space layer
  // Experts, and a block that attention's rules have named already, are not a feed-forward block.
  bool hasExperts = isa<GroupedMatmulOp>(gateProduct),
       isNamed = !roleOf(gateProduct).empty() || !roleOf(down).empty();
  if (isNamed || hasExperts != isa<GroupedMatmulOp>(down))
    return;
  if (hasExperts) {
    setProductRole(gateProduct, "experts_gate_up");
    if (isGated)
      setProductRole(upProduct, "experts_gate_up");
  } else if (!isGated) {
    setProductRole(gateProduct, "fc1");
  } else if (gateProduct == upProduct) {
    setProductRole(gateProduct, "gate_up_proj");
  } else {
    setProductRole(gateProduct, "gate_proj");
    setProductRole(upProduct, "up_proj");
  }
  setProductRole(down, hasExperts ? "experts_down" : isGated ? "down_proj" : "fc2");
}

void findFeedForwardRoles(Operation *activation) {
  Value activated = activation->getResult(0);
  Origin gate = originOf(activation->getOperand(0));
  for (Operation *user : activated.getUsers()) {
    bool isSquare = isa<MulOp>(user) && user->getOperand(0) == user->getOperand(1);
    if (!isa<MulOp>(user) || isSquare || isWeight(user->getOperand(0)) ||
        isWeight(user->getOperand(1)))
      continue;
    Value other = user->getOperand(user->getOperand(0) == activated);
    return setFeedForwardRoles(gate, originOf(other), /*isGated=*/true, user->getResult(0));
  }
  setFeedForwardRoles(gate, Origin(), /*isGated=*/false, activated);
}

void findRouterRoles(TopKOp op) {
  for (Operation *product : originOf(op.getInput()).products)
    if (!isa<GroupedMatmulOp>(product))
      setProductRole(product, "router");
}

void findEmbeddingRoles(GatherOp op) {
  auto type = op.getData().getType();
  if (op.getAxis() == 0 && type.getRank() == 2 && isa<FloatType>(type.getElementType()) &&
      isWeight(op.getData()) && !isWeight(op.getIndices()))
    setRole(op, "embedding");
}

/// The head: the last product before a result, unless it has a role.
void findHeadRoles(func::FuncOp func) {
  for (auto ret : func.getOps<func::ReturnOp>())
    for (Value result : ret.getOperands())
      for (Operation *product : originOf(result).products)
        setProductRole(product, "lm_head");
}

struct FindRolesPass : public shardc::impl::FindRolesPassBase<FindRolesPass> {
  using FindRolesPassBase::FindRolesPassBase;

  void runOnOperation() override {
    getOperation()->walk(findAttentionRoles);
    getOperation()->walk(findRouterRoles);
    getOperation()->walk([](Operation *op) {
      if (isActivation(op))
        findFeedForwardRoles(op);
    });
    getOperation()->walk(findEmbeddingRoles);
    getOperation()->walk(findHeadRoles);
    getOperation()->walk([](Operation *op) {
      if (isa<RmsNormOp, LayerNormOp>(op))
        setNormRole(op, "norm");
    });
  }
};

} // namespace
