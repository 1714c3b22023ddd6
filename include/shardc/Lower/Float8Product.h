//===- Float8Product.h - Products of 8-bit floats on GPUs -------*- C++ -*-===//
#ifndef SHARDC_LOWER_FLOAT8PRODUCT_H
#define SHARDC_LOWER_FLOAT8PRODUCT_H

#include "dialects/Graph/Graph.h"
#include "shardc/Lower/GemmKernel.h"

namespace shardc {

/// A contraction of 8-bit floats and what cuBLASLt does behind it: the factors' units, the
/// rounding.
struct Float8Product {
  graph::MulOp unit, scaled; ///< rank 0: lhs's unit times rhs's; and the sums times that
  graph::BroadcastOp spread; ///< between them
  graph::CastOp rounded;     ///< to f16 or bf16; null if the result is f32

  mlir::Value end() { return rounded ? rounded.getResult() : scaled.getResult(); }
};
/// nullopt if the operands are something else, or nothing of the kind follows.
std::optional<Float8Product> matchFloat8Product(graph::EinsumOp op);

/// Whether cuBLASLt takes it, once both factors have contiguous sums: lines of 16 bytes, no batch.
bool fitFloat8(const GemmSpec &spec);

} // namespace shardc

#endif // SHARDC_LOWER_FLOAT8PRODUCT_H
