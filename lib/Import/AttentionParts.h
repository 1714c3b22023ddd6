//===- AttentionParts.h - What importers of attentions have in common -----===//

#ifndef SHARDC_LIB_IMPORT_ATTENTIONPARTS_H
#define SHARDC_LIB_IMPORT_ATTENTIONPARTS_H

#include "NodeContext.h"

namespace shardc::importer {

/// The operands of one attention as [batch, heads, sequence, features], and what masks them.
struct AttentionParts {
  mlir::Value query, key, value;
  mlir::Value mask; ///< rank 4, bool or float; null: none
  mlir::Value ends; ///< [batch, 1, 1, 1]: the key after each entry's last query; null: the same for
                    ///< all, from `offset`
  mlir::Value sinks; ///< [heads], a logit that joins the denominator; null: none
  bool isRank3 = false;
  bool causal = false;
  int64_t offset = 0; ///< keys that precede the first query
  int64_t window = 0;
  double scale = 0, softcap = 0;

  int64_t batch() const { return shapeOf(query)[0]; }
  int64_t heads() const { return shapeOf(query)[1]; }
  int64_t queries() const { return shapeOf(query)[2]; }
  int64_t keys() const { return shapeOf(key)[2]; }
};

/// [batch, sequence, heads * features] -> [batch, heads, sequence, features]
mlir::FailureOr<mlir::Value> splitHeads(NodeContext &n, mlir::Value x, int64_t heads,
                                        llvm::StringRef what);
/// And back.
mlir::Value joinHeads(NodeContext &n, mlir::Value x);

/// Reports operands that do not fit together.
mlir::LogicalResult checkAttention(NodeContext &n, const AttentionParts &p);
/// Both must hold; a float mask is added, so that a false becomes minus infinity there.
void restrictMask(NodeContext &n, AttentionParts &p, mlir::Value allowed);
/// A float mask added to what there is, whose shapes were checked.
void addToMask(NodeContext &n, AttentionParts &p, mlir::Value added);
/// `past` before `fresh` along the sequence, dimension 2.
mlir::FailureOr<mlir::Value> appendPast(NodeContext &n, mlir::Value past, mlir::Value fresh,
                                        llvm::StringRef what);
/// [batch, heads, queries, features]
mlir::Value attend(NodeContext &n, const AttentionParts &p);

} // namespace shardc::importer

#endif // SHARDC_LIB_IMPORT_ATTENTIONPARTS_H
