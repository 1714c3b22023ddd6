//===- DevicePlan.h - ONNX's own device configurations --------------------===//

#ifndef SHARDC_IMPORT_DEVICEPLAN_H
#define SHARDC_IMPORT_DEVICEPLAN_H

#include "mlir/IR/BuiltinOps.h"

#include <string>
#include <tuple>
#include <vector>

namespace shardc {

/// On a module, what the file's device configuration says:
///   {name = "tp2", devices = 2 : i64, parameters = {"w" = [array<i64: axis, blocks, shards, index
///   on device 0, …>, …]}, inputs = {…}, outputs = {…}}
/// An axis of size n is seen as blocks × n / blocks, and each block cut into `shards`; a device has
/// the shard of its index.
inline constexpr llvm::StringLiteral kDevicePlanAttr = "shard.device_plan";

/// One dimension of a tensor, cut.
struct DeviceCut {
  int64_t axis = 0, blocks = 1, shards = 1;
  std::vector<int64_t> indices; ///< by device

  bool operator==(const DeviceCut &other) const {
    return std::tie(axis, blocks, shards, indices) ==
           std::tie(other.axis, other.blocks, other.shards, other.indices);
  }
};

/// How a tensor of the program lies on the devices; no cuts: it is on all of them.
struct DeviceTensor {
  std::string name;
  std::vector<DeviceCut> cuts;
};

struct DevicePlan {
  std::string name;
  int64_t devices = 0;
  std::vector<DeviceTensor> parameters, inputs;
};

/// Copies the ONNX file `from` to `to`, with `plan` as its device configuration; one of that name
/// is replaced. Failure has been reported.
mlir::LogicalResult writeDevicePlan(mlir::MLIRContext &context, llvm::StringRef from,
                                    llvm::StringRef to, const DevicePlan &plan);

} // namespace shardc

#endif // SHARDC_IMPORT_DEVICEPLAN_H
