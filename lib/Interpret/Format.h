//===- Format.h - Outputs as text and JSON --------------------------------===//

#ifndef SHARDC_LIB_INTERPRET_FORMAT_H
#define SHARDC_LIB_INTERPRET_FORMAT_H

#include "shardc/Interpret/Command.h"

namespace shardc {

/// One line `name : type = values`, or a summary (min, max, mean, hash) if there are many values.
void printOutput(llvm::raw_ostream &os, llvm::StringRef name, const HostTensor &tensor);

/// {"outputs": [{"name", "type", "min", "max", "mean", "hash", "values" if there are few}]}
void printOutputsAsJson(llvm::raw_ostream &os, llvm::ArrayRef<InterfaceValue> outputs,
                        llvm::ArrayRef<HostTensor> tensors);

} // namespace shardc

#endif // SHARDC_LIB_INTERPRET_FORMAT_H
