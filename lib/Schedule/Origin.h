//===- Origin.h - Why a collective is there, in words ---------------------===//

#ifndef SHARDC_LIB_SCHEDULE_ORIGIN_H
#define SHARDC_LIB_SCHEDULE_ORIGIN_H

#include "mlir/IR/Operation.h"

#include <string>

namespace shardc {

/// Lines for `shardc explain`; empty if the collective says nothing about itself.
std::string originText(mlir::Operation *op);
/// Module path of what the collective serves, within its layer.
std::string originPath(mlir::Operation *op);

} // namespace shardc

#endif // SHARDC_LIB_SCHEDULE_ORIGIN_H
