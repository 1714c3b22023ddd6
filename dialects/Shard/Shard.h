//===- Shard.h - The shard dialect: meshes, shardings, collectives --------===//

#ifndef SHARDC_DIALECTS_SHARD_SHARD_H
#define SHARDC_DIALECTS_SHARD_SHARD_H

#include "shardc/Sharding/Reshard.h"
#include "shardc/Support/HostTensor.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace shardc {
/// A value on every device: one (local) tensor per rank.
using DeviceTensors = std::vector<HostTensor>;
} // namespace shardc

#include "dialects/Shard/ShardInterfaces.h.inc"

#include "dialects/Shard/ShardDialect.h.inc"
#include "dialects/Shard/ShardEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/Shard/ShardAttrs.h.inc"

#define GET_OP_CLASSES
#include "dialects/Shard/ShardOps.h.inc"

namespace shardc::shard {

/// The mesh a symbol names, seen from `from`; null if there is none.
MeshOp lookupMesh(mlir::Operation *from, mlir::FlatSymbolRefAttr symbol);

/// The only mesh of a module; null if there is none or more than one.
MeshOp getOnlyMesh(mlir::ModuleOp module);
/// The same for a pass that needs it: an error says how many there are instead.
MeshOp requireOnlyMesh(mlir::ModuleOp module);

/// What moving bytes costs on a mesh: its bandwidths and latencies, defaults where it has none.
MeshCosts getMeshCosts(MeshOp mesh);

/// Sharding of a value as its defining op or function argument says; null if it says nothing.
ShardingAttr getSharding(mlir::Value value);
void setSharding(mlir::Value value, ShardingAttr sharding);

/// Conversion of axis lists.
Result<AxisList> resolveAxes(const Mesh &mesh, mlir::ArrayAttr axes);
mlir::ArrayAttr axesAttr(mlir::MLIRContext *context, const Mesh &mesh, const AxisList &axes);

/// The reduction of one tensor per rank in that order: f16 and bf16 in f32, rounded once at the
/// end. What every channel of the runtime computes, bit for bit.
HostTensor reduceInOrder(ReduceKind kind, llvm::ArrayRef<const HostTensor *> terms);

inline ReduceKind toReduceKind(ReduceKindAttrValue kind) { return static_cast<ReduceKind>(kind); }
inline ReduceKindAttrValue fromReduceKind(ReduceKind kind) {
  return static_cast<ReduceKindAttrValue>(kind);
}

} // namespace shardc::shard

#endif // SHARDC_DIALECTS_SHARD_SHARD_H
