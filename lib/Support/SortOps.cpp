//===- SortOps.cpp - Order of a block -------------------------------------===//

#include "shardc/Support/SortOps.h"

#include "mlir/IR/Operation.h"
#include "llvm/ADT/DenseSet.h"

using namespace mlir;

void shardc::pullProducersUp(Block &block) {
  llvm::DenseSet<Operation *> placed;
  SmallVector<Operation *> order, stack;
  for (Operation &root : block) {
    stack.push_back(&root);
    while (!stack.empty()) {
      Operation *op = stack.back();
      bool ready = true;
      if (!placed.count(op))
        for (Value operand : op->getOperands())
          if (Operation *producer = operand.getDefiningOp(); producer && !placed.count(producer)) {
            stack.push_back(producer);
            ready = false;
          }
      if (!ready)
        continue;
      stack.pop_back();
      if (placed.insert(op).second)
        order.push_back(op);
    }
  }
  for (Operation *op : order)
    op->moveBefore(&block, block.end());
}
