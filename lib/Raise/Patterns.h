//===- Patterns.h - The raising patterns, by subject ----------------------===//

#ifndef SHARDC_LIB_RAISE_PATTERNS_H
#define SHARDC_LIB_RAISE_PATTERNS_H

#include "lib/Raise/ConstantFacts.h"

#include "mlir/IR/PatternMatch.h"

namespace shardc::raise {

void populateMovementPatterns(mlir::RewritePatternSet &patterns);
void populateNormPatterns(mlir::RewritePatternSet &patterns);
void populateActivationPatterns(mlir::RewritePatternSet &patterns);
void populateRopePatterns(mlir::RewritePatternSet &patterns, ConstantFacts &facts);
void populateExpertPatterns(mlir::RewritePatternSet &patterns);
void populateAttentionPatterns(mlir::RewritePatternSet &patterns);
void populateAttentionOperandPatterns(mlir::RewritePatternSet &patterns, ConstantFacts &facts);

} // namespace shardc::raise

#endif // SHARDC_LIB_RAISE_PATTERNS_H
