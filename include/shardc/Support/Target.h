//===- Target.h - What ranks are --------------------------------*- C++ -*-===//
#ifndef SHARDC_SUPPORT_TARGET_H
#define SHARDC_SUPPORT_TARGET_H

namespace shardc {

enum class Target { Cpu, Cuda };

} // namespace shardc

#endif // SHARDC_SUPPORT_TARGET_H
