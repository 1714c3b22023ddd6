//===- HalfPrecision.h - 16-bit floats on machines without them -*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_CPU_HALFPRECISION_H
#define SHARDC_LIB_LOWER_CPU_HALFPRECISION_H

namespace llvm {
class Module;
}

namespace shardc {

/// Rewrites what the X86 backend would take apart into scalars and library calls. `canRoundBF16`:
/// there is vcvtneps2bf16.
void legaliseHalves(llvm::Module &module, bool canRoundBF16);

/// Stores of one lane as scalars, after optimisation: LLVM 22 folds a truncation into such a store
/// and then writes the wide element.
void storeSingleLanes(llvm::Module &module);

/// Defines, hidden, the conversions of compiler-rt that the backend may still call: kernels call
/// nothing but libm.
void defineHalfConversions(llvm::Module &module);

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CPU_HALFPRECISION_H
