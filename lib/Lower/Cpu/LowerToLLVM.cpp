//===- LowerToLLVM.cpp - Kernels in upstream dialects to the LLVM dialect -===//
//
// Input: functions marked `shardc.kernel` (KernelSpec.h) and private helpers. Output: the LLVM
// dialect with one exported function of the kernel ABI per kernel.
//
//   1. Math on f32 vectors becomes polynomials (no call, so that loops stay vector code); f16/bf16
//      arithmetic is done in f32; 8-bit floats become bytes.
//   2. The usual conversions, memrefs as bare pointers.
//   3. Each kernel body becomes internal and gets a wrapper that loads its buffers from the ABI's
//      pointer array.
//
//===----------------------------------------------------------------------===//
#include "Float8.h"
#include "VectorMath.h"
#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Affine/Transforms/Passes.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "shardc/Lower/ObjectEmitter.h"

using namespace mlir;

namespace shardc {

static void addLoweringPasses(OpPassManager &pm) {
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  pm.addPass(math::createMathExtendToSupportedTypes());
  arith::ArithEmulateUnsupportedFloatsOptions emulate;
  emulate.sourceTypeStrs = {"bf16", "f16"};
  emulate.targetTypeStr = "f32";
  pm.addPass(arith::createArithEmulateUnsupportedFloats(emulate));
  pm.addPass(createVectorMathPass());
  pm.addPass(createFloat8Pass());
  pm.addPass(createConvertVectorToSCFPass());
  pm.addPass(memref::createExpandStridedMetadataPass());
  pm.addPass(createLowerAffinePass());
  pm.addPass(arith::createArithExpandOpsPass());
  pm.addPass(createLoopInvariantCodeMotionPass());
  pm.addPass(createSCFToControlFlowPass());
  pm.addPass(createConvertVectorToLLVMPass());
  pm.addPass(createFinalizeMemRefToLLVMConversionPass());
  pm.addPass(createConvertMathToLLVMPass());
  pm.addPass(createConvertMathToLibmPass());
  pm.addPass(createArithToLLVMConversionPass());
  pm.addPass(createUBToLLVMConversionPass());
  ConvertFuncToLLVMPassOptions func;
  func.useBarePtrCallConv = true;
  pm.addPass(createConvertFuncToLLVMPass(func));
  pm.addPass(createConvertControlFlowToLLVMPass());
  pm.addPass(createConvertIndexToLLVMPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
  pm.addPass(createCSEPass());
}

/// The body keeps its flat arguments under another name; what is exported unpacks the ABI's array
/// of buffers.
static void wrapKernel(LLVM::LLVMFuncOp body) {
  OpBuilder builder(body);
  Location loc = body.getLoc();
  auto pointer = LLVM::LLVMPointerType::get(body.getContext());
  Type i64 = builder.getI64Type();
  std::string symbol = body.getName().str();
  body.setName(symbol + ".body");
  body.setLinkage(LLVM::Linkage::Internal);
  body->removeAttr(kKernelAttr);

  auto type = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(body.getContext()),
                                          {pointer, i64, i64, pointer});
  auto wrapper = LLVM::LLVMFuncOp::create(builder, loc, symbol, type);
  Block *entry = wrapper.addEntryBlock(builder);
  builder.setInsertionPointToStart(entry);
  unsigned numBuffers = body.getNumArguments() - 3;
  SmallVector<Value> arguments;
  for (unsigned i = 0; i < numBuffers; ++i) {
    Value slot = LLVM::GEPOp::create(builder, loc, pointer, pointer, entry->getArgument(0),
                                     ArrayRef<LLVM::GEPArg>{int32_t(i)});
    arguments.push_back(LLVM::LoadOp::create(builder, loc, pointer, slot));
  }
  arguments.append({entry->getArgument(1), entry->getArgument(2), entry->getArgument(3)});
  LLVM::CallOp::create(builder, loc, body, arguments);
  LLVM::ReturnOp::create(builder, loc, ValueRange{});
}

llvm::Error lowerKernelsToLLVM(ModuleOp module, const CpuTarget &target) {
  std::string message;
  ScopedDiagnosticHandler handler(module.getContext(), [&](Diagnostic &diagnostic) {
    llvm::raw_string_ostream(message) << diagnostic << "; ";
  });
  PassManager pm(module.getContext(), ModuleOp::getOperationName());
  pm.enableVerifier(false); // the translation verifies; between passes it is a quarter of the time
  addLoweringPasses(pm);
  if (failed(pm.run(module)))
    return llvm::createStringError("cannot lower kernels for %s: %s", target.name.c_str(),
                                   message.c_str());
  for (auto function : llvm::make_early_inc_range(module.getOps<LLVM::LLVMFuncOp>()))
    if (function->hasAttr(kKernelAttr))
      wrapKernel(function);
  return llvm::Error::success();
}

} // namespace shardc
