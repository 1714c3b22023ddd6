//===- ShardRun.h - The runtime's program ---------------------------------===//
#ifndef SHARDC_LIB_DRIVER_SHARDRUN_H
#define SHARDC_LIB_DRIVER_SHARDRUN_H

#include "llvm/Support/ErrorOr.h"

#include <string>

namespace shardc {

/// shard-run beside this program, or in PATH.
llvm::ErrorOr<std::string> findShardRun();

} // namespace shardc

#endif // SHARDC_LIB_DRIVER_SHARDRUN_H
