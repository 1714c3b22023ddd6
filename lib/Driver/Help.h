//===- Help.h - What shardc --help says -----------------------*- C++ -*-===//

#ifndef SHARDC_LIB_DRIVER_HELP_H
#define SHARDC_LIB_DRIVER_HELP_H

#include "llvm/ADT/StringRef.h"

namespace llvm {
class raw_ostream;
}

namespace shardc {

void printHelp(llvm::raw_ostream &os);
/// Of one command: its line, and the sections that are its: "plan", "training (compile)".
void printHelp(llvm::raw_ostream &os, llvm::StringRef command);

} // namespace shardc

#endif // SHARDC_LIB_DRIVER_HELP_H
