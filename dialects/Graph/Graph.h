//===- Graph.h - The graph dialect: the mathematics of a model ------------===//

#ifndef SHARDC_DIALECTS_GRAPH_GRAPH_H
#define SHARDC_DIALECTS_GRAPH_GRAPH_H

#include "shardc/Sharding/ShardingRule.h"
#include "shardc/Support/HostTensor.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace shardc {

/// Arithmetic and memory traffic of one execution of an op, with its own (local) types.
struct OpCost {
  double flops = 0;     ///< floating-point operations (a fused multiply-add is two)
  double bytesRead = 0; ///< operand bytes
  double bytesWritten = 0;
};

namespace graph {

/// Where one device's part of an op lies; Partition knows.
class LocalPart {
public:
  virtual ~LocalPart() = default;
  /// Global index, as a scalar i64 tensor, of the first element that this device holds along a
  /// dimension; null if the dimension is whole.
  virtual mlir::Value operandBegin(unsigned operand, int64_t dim) = 0;
  virtual mlir::Value resultBegin(unsigned result, int64_t dim) = 0;
};

/// Letters of a contraction's operands and result, "bsk,nk->bsn".
struct EinsumLetters {
  llvm::StringRef lhs, rhs, result;
  static EinsumLetters of(llvm::StringRef spec);
};

/// How an op becomes code; see LoweringOpInterface.
enum class LoweringClass {
  Source,  ///< no code: a parameter (or an argument)
  Element, ///< index lambda
  Row,     ///< reduction or normalisation along dimensions
  Library, ///< a generated kernel of its own
  Loops    ///< fills whole buffers
};

/// What an index lambda needs: a builder, and the scalars of its operands.
class ElementEmitter {
public:
  explicit ElementEmitter(mlir::OpBuilder &builder) : builder(builder) {}
  virtual ~ElementEmitter() = default;

  /// The operand's scalar at `indices` as it is computed with: 16-bit and 8-bit floats widened to
  /// f32, bool as i1, unsigned integers as signless.
  virtual mlir::Value operand(mlir::OpOperand &operand, llvm::ArrayRef<mlir::Value> indices) = 0;

  /// A scalar computed for a result of `type`, rounded to its element type and widened again for
  /// computation, so that fused and stored values agree bit for bit.
  mlir::Value round(mlir::Type type, mlir::Value computed);

  mlir::OpBuilder &builder;
};

/// The op itself on other operands, with other result types.
mlir::Operation *cloneLocal(mlir::OpBuilder &builder, mlir::Operation *op,
                            mlir::ValueRange operands, mlir::TypeRange resultTypes);

/// `scalar` (rank 0) repeated over `shape`.
mlir::Value broadcastScalar(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value scalar,
                            llvm::ArrayRef<int64_t> shape);

/// `value` with elements of `elementType`: itself, if it has them.
mlir::Value castTo(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value value,
                   mlir::Type elementType);

/// The type that scalars of `elementType` are computed in (narrow floats: f32; ui32: i32; …).
mlir::Type computeType(mlir::Type elementType);

/// A float of 16 or 8 bits, whose arithmetic is done in f32.
inline bool isNarrowFloat(mlir::Type elementType) {
  return llvm::isa<mlir::FloatType>(elementType) && elementType.getIntOrFloatBitWidth() <= 16;
}

/// A tensor in 8 bits, and what one of its units is worth (f32, rank 0).
struct Quantized {
  mlir::Value tensor, unit;
};
/// `value` in the 8-bit float type `element`, scaled by the largest magnitude of the whole tensor
/// ("current scaling" of NVIDIA's Transformer Engine): the amax becomes the type's largest number.
/// The maximum is a reduction like any other, pending where the tensor is cut.
Quantized quantize(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value value,
                   mlir::Type element);
/// The largest finite number of a float type.
double largestOf(mlir::Type floatType);

namespace detail {
/// `flopsPerElement` for each result element; every operand read and every result written once.
OpCost elementwiseCost(mlir::Operation *op, double flopsPerElement);
} // namespace detail

} // namespace graph
} // namespace shardc

#include "dialects/Graph/GraphInterfaces.h.inc"

#include "dialects/Graph/GraphDialect.h.inc"
#include "dialects/Graph/GraphEnums.h.inc"

#define GET_OP_CLASSES
#include "dialects/Graph/GraphOps.h.inc"

#endif // SHARDC_DIALECTS_GRAPH_GRAPH_H
