//===- KernelSpec.cpp - Targets and kernel functions ----------------------===//
#include "shardc/Lower/KernelSpec.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/TargetParser/Host.h"
#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

using namespace mlir;

namespace shardc {

/// The features of the psABI levels that are not implied by others in the list.
static constexpr llvm::StringLiteral kLevel3[] = {"avx2", "bmi",   "bmi2", "f16c",
                                                  "fma",  "lzcnt", "movbe"};
static constexpr llvm::StringLiteral kLevel4[] = {"avx512f", "avx512bw", "avx512cd", "avx512dq",
                                                  "avx512vl"};

static llvm::Error parseNative(CpuTarget &target) {
  auto host = llvm::sys::getHostCPUFeatures();
  target.cpu = llvm::sys::getHostCPUName().str();
  for (const auto &feature : host)
    target.features += (target.features.empty() ? "" : ",") +
                       std::string(feature.second ? "+" : "-") + feature.first().str();
  for (llvm::StringRef needed : kLevel3)
    if (!host.lookup(needed))
      return llvm::createStringError("cpu level \"native\": this machine lacks \"%s\", x86-64-v3 "
                                     "is the lowest level supported",
                                     needed.str().c_str());
  target.avx512 = llvm::all_of(kLevel4, [&](llvm::StringRef f) { return host.lookup(f); });
  // Intel's cores without AMX run vdpbf16ps at a quarter of the rate of FMA (measured on Emerald
  // Rapids: half the FLOPs), AMD's at the same rate: there only is converting to f32 slower.
  target.bf16Round = target.avx512 && host.lookup("avx512bf16");
  target.bf16Dot = target.bf16Round && llvm::StringRef(target.cpu).starts_with("znver");
  target.amx = target.bf16Round && host.lookup("amx-tile") && host.lookup("amx-bf16");
  return llvm::Error::success();
}

llvm::Expected<CpuTarget> CpuTarget::parse(llvm::StringRef text) {
  CpuTarget target;
  target.name = text.str();
  llvm::SmallVector<llvm::StringRef> parts;
  text.split(parts, '+');
  target.cpu = parts.front().str();
  if (text == "native") {
    if (llvm::Error error = parseNative(target))
      return std::move(error);
  } else if (target.cpu == "x86-64-v4") {
    target.avx512 = true;
  } else if (target.cpu != "x86-64-v3") {
    return llvm::createStringError(
        "unknown cpu level \"%s\", expected x86-64-v3, x86-64-v4 or native", target.name.c_str());
  }
  for (llvm::StringRef feature : llvm::drop_begin(parts)) {
    target.amx = feature == "amx-bf16";
    target.bf16Dot = feature == "avx512bf16";
    if (parts.size() > 2 || target.cpu != "x86-64-v4" || target.amx == target.bf16Dot)
      return llvm::createStringError("unknown feature \"%s\" of cpu level \"%s\", there are "
                                     "x86-64-v4+avx512bf16 and x86-64-v4+amx-bf16",
                                     feature.str().c_str(), target.cpu.c_str());
    target.bf16Round = true; // as have all processors with matrix tiles of bf16
    target.features = target.amx ? "+avx512bf16,+amx-tile,+amx-bf16" : "+avx512bf16";
  }
  target.vectorBytes = target.avx512 ? 64 : 32;
  return target;
}

/// Permission is the process's; asking again changes nothing.
static bool requestTileRegisters() {
#if defined(__linux__) && defined(__x86_64__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18; // ARCH_REQ_XCOMP_PERM of asm/prctl.h
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

bool CpuTarget::runsOnHost() const {
  auto host = llvm::sys::getHostCPUFeatures();
  auto has = [&](llvm::StringRef f) { return host.lookup(f); };
  return llvm::all_of(kLevel3, has) && (!avx512 || llvm::all_of(kLevel4, has)) &&
         (!bf16Round || has("avx512bf16")) &&
         (!amx || (has("amx-tile") && has("amx-bf16") && requestTileRegisters()));
}

KernelBody beginKernel(OpBuilder &builder, ModuleOp module, llvm::StringRef symbol,
                       llvm::ArrayRef<MemRefType> buffers, int64_t scratchBytes) {
  Location loc = builder.getUnknownLoc();
  builder.setInsertionPointToEnd(module.getBody());
  llvm::SmallVector<Type> inputs(buffers.begin(), buffers.end());
  inputs.append(2, builder.getIndexType());
  inputs.push_back(MemRefType::get({std::max<int64_t>(scratchBytes, 1)}, builder.getI8Type()));

  KernelBody body;
  body.function = func::FuncOp::create(builder, loc, symbol, builder.getFunctionType(inputs, {}));
  body.function->setAttr(kKernelAttr, builder.getUnitAttr());
  Block *entry = body.function.addEntryBlock();
  // Nothing else points into scratch: it is handed out by the runtime for this call only.
  body.function.setArgAttr(inputs.size() - 1, LLVM::LLVMDialect::getNoAliasAttrName(),
                           builder.getUnitAttr());
  body.buffers.assign(entry->args_begin(), entry->args_begin() + buffers.size());
  body.tileBegin = entry->getArgument(buffers.size());
  body.tileEnd = entry->getArgument(buffers.size() + 1);
  body.scratch = entry->getArgument(buffers.size() + 2);
  builder.setInsertionPointToEnd(entry);
  builder.setInsertionPoint(func::ReturnOp::create(builder, loc));
  return body;
}

void loadKernelDialects(MLIRContext &context) {
  context.loadDialect<affine::AffineDialect, arith::ArithDialect, cf::ControlFlowDialect,
                      func::FuncDialect, LLVM::LLVMDialect, math::MathDialect,
                      memref::MemRefDialect, scf::SCFDialect, vector::VectorDialect>();
}

} // namespace shardc
