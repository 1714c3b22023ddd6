//===- Alias.h - Outputs that replace inputs ------------------------------===//

#ifndef SHARDC_SUPPORT_ALIAS_H
#define SHARDC_SUPPORT_ALIAS_H

#include "llvm/ADT/StringRef.h"

namespace shardc {

/// On a result of the entry function: the name of the input that it replaces. Both have one type
/// and one sharding, and lie in one buffer, which keeps its value for the next run.
inline constexpr llvm::StringLiteral kAliasAttr = "graph.alias";

/// On an argument of the entry function that is the length of a cache: how many entries there is
/// room for, and how many a run appends (DenseI64ArrayAttr).
inline constexpr llvm::StringLiteral kCacheAttr = "graph.cache";

} // namespace shardc

#endif // SHARDC_SUPPORT_ALIAS_H
