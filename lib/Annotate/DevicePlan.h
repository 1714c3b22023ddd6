//===- DevicePlan.h - A plan from an ONNX file's device configuration -----===//

#ifndef SHARDC_LIB_ANNOTATE_DEVICEPLAN_H
#define SHARDC_LIB_ANNOTATE_DEVICEPLAN_H

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace shardc {

/// The mesh of a device configuration: all devices along tp.
std::string deviceMesh(mlir::ModuleOp module);

/// Puts the shardings of the module's device configuration on parameters, inputs and outputs of
/// `function`.
mlir::LogicalResult applyDevicePlan(mlir::func::FuncOp function, shard::MeshOp mesh);

} // namespace shardc

#endif // SHARDC_LIB_ANNOTATE_DEVICEPLAN_H
