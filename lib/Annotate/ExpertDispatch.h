//===- ExpertDispatch.h - Tokens to the ranks of their experts --*- C++ -*-===//

#ifndef SHARDC_LIB_ANNOTATE_EXPERTDISPATCH_H
#define SHARDC_LIB_ANNOTATE_EXPERTDISPATCH_H

#include "dialects/Graph/Graph.h"

namespace shardc {

/// Gives what is computed between grouped products of the same `groups` one copy of the rows for
/// each of `blocks` blocks of experts, in which a row has a value only where its expert is, and
/// sums the copies behind the last linear op. A module's products are together in `products`, in
/// order.
void dispatchExperts(llvm::ArrayRef<graph::GroupedMatmulOp> products, int64_t blocks);

} // namespace shardc

#endif // SHARDC_LIB_ANNOTATE_EXPERTDISPATCH_H
