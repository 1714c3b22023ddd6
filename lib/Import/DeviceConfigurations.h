//===- DeviceConfigurations.h - Sharding specs of nodes as one plan -------===//

#ifndef SHARDC_LIB_IMPORT_DEVICECONFIGURATIONS_H
#define SHARDC_LIB_IMPORT_DEVICECONFIGURATIONS_H

#include "Names.h"
#include "shardc/Import/DevicePlan.h"

namespace shardc::importer {

/// Puts what the file's device configuration says on `module` (kDevicePlanAttr). `choice`: its
/// name; empty: the only one, if there is one.
llvm::Error readDevicePlan(mlir::ModuleOp module, const Model &model, llvm::StringRef choice,
                           const llvm::StringMap<InitializerPlan> &plans);

} // namespace shardc::importer

#endif // SHARDC_LIB_IMPORT_DEVICECONFIGURATIONS_H
