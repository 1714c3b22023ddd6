//===- Ptx.cpp - Gpu.func to PTX ------------------------------------------===//
//
//   1. Elementary functions on f32 become the same polynomials as on CPUs: nothing of a CUDA
//      toolkit is needed for PTX, and both targets round alike. Powers, remainders, and what there
//      is of f64, are arithmetic on f64 (WideMath.cpp).
//   2. The usual conversions, memrefs as bare pointers.
//   3. LLVM for NVPTX in this process.
//
//===----------------------------------------------------------------------===//
#include "WideMath.h"
#include "lib/Lower/Cpu/Float8.h"
#include "lib/Lower/Cpu/VectorMath.h"
#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/GPUToNVVM/GPUToNVVM.h"
#include "mlir/Conversion/IndexToLLVM/IndexToLLVM.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/NVVMToLLVM/NVVMToLLVM.h"
#include "mlir/Conversion/Passes.h"
#include "mlir/Conversion/UBToLLVM/UBToLLVM.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/GPU/Transforms/Passes.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/UB/IR/UBOps.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVM/NVVM/Target.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/GPU/GPUToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "mlir/Transforms/Passes.h"
#include "shardc/Lower/CudaKernels.h"

using namespace mlir;

namespace shardc {

void registerCudaDialects(DialectRegistry &registry) {
  registry.insert<arith::ArithDialect, cf::ControlFlowDialect, gpu::GPUDialect, LLVM::LLVMDialect,
                  math::MathDialect, memref::MemRefDialect, NVVM::NVVMDialect, scf::SCFDialect,
                  ub::UBDialect, vector::VectorDialect>();
  arith::registerConvertArithToLLVMInterface(registry);
  cf::registerConvertControlFlowToLLVMInterface(registry);
  registerConvertMathToLLVMInterface(registry);
  registerConvertMemRefToLLVMInterface(registry);
  registerConvertNVVMToLLVMInterface(registry);
  ub::registerConvertUBToLLVMInterface(registry);
  NVVM::registerNVVMTargetInterfaceExternalModels(registry);
  NVVM::registerConvertGpuToNVVMInterface(registry);
  registerBuiltinDialectTranslation(registry);
  registerGPUDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  registerNVVMDialectTranslation(registry);
}

namespace {

/// The conversions to NVVM call libdevice: what PTX has as an instruction becomes that, anything
/// else is an error.
struct NoLibdevicePass : PassWrapper<NoLibdevicePass, OperationPass<gpu::GPUModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(NoLibdevicePass)

  template <typename Op> static Value make(OpBuilder &builder, LLVM::CallOp call) {
    return Op::create(builder, call.getLoc(), call.getResult().getType(), call.getArgOperands());
  }
  void runOnOperation() final {
    llvm::StringMap<Value (*)(OpBuilder &, LLVM::CallOp)> instructions = {
        {"sqrt", make<LLVM::SqrtOp>},        {"fma", make<LLVM::FMAOp>},
        {"fabs", make<LLVM::FAbsOp>},        {"floor", make<LLVM::FFloorOp>},
        {"ceil", make<LLVM::FCeilOp>},       {"trunc", make<LLVM::FTruncOp>},
        {"rint", make<LLVM::RoundEvenOp>},   {"round", make<LLVM::RoundOp>},
        {"copysign", make<LLVM::CopySignOp>}};
    getOperation().walk([&](LLVM::CallOp call) {
      StringRef name = call.getCallee().value_or("");
      if (!name.consume_front("__nv_"))
        return;
      if (call.getResult().getType().isF32())
        name.consume_back("f");
      auto found = instructions.find(name);
      if (found == instructions.end())
        return;
      OpBuilder builder(call);
      call.getResult().replaceAllUsesWith(found->second(builder, call));
      call.erase();
    });
    for (auto function : llvm::make_early_inc_range(getOperation().getOps<LLVM::LLVMFuncOp>())) {
      if (!function.isExternal())
        continue;
      if (SymbolTable::symbolKnownUseEmpty(function, getOperation())) {
        function.erase();
        continue;
      }
      function.emitError() << "there is no code for " << function.getName();
      signalPassFailure();
    }
  }
};

} // namespace

static void addPasses(OpPassManager &pm) {
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  pm.addPass(createVectorMathPass());
  pm.addPass(createFloat8Pass());
  OpPassManager &kernels = pm.nest<gpu::GPUModuleOp>();
  kernels.addPass(createWideMathPass());
  kernels.addPass(createLoopInvariantCodeMotionPass());
  kernels.addPass(createSCFToControlFlowPass());
  ConvertGpuOpsToNVVMOpsOptions nvvm;
  nvvm.useBarePtrCallConv = true;
  kernels.addPass(createConvertGpuOpsToNVVMOps(nvvm));
  kernels.addPass(createCanonicalizerPass());
  kernels.addPass(createCSEPass());
  kernels.addPass(createReconcileUnrealizedCastsPass());
  kernels.addPass(std::make_unique<NoLibdevicePass>());
  GpuModuleToBinaryPassOptions binary;
  binary.compilationTarget = "isa";
  pm.addPass(createGpuModuleToBinaryPass(binary));
}

llvm::Expected<std::string> compileToPtx(gpu::GPUModuleOp kernels, const CudaTarget &target) {
  MLIRContext *context = kernels.getContext();
  std::string message;
  ScopedDiagnosticHandler handler(context, [&](Diagnostic &diagnostic) {
    llvm::raw_string_ostream(message) << diagnostic << "; ";
  });
  OwningOpRef<ModuleOp> module = ModuleOp::create(kernels.getLoc());
  module->push_back(kernels);
  Attribute nvvm = NVVM::NVVMTargetAttr::get(context, /*optLevel=*/3, "nvptx64-nvidia-cuda",
                                             target.arch, target.features);
  kernels.setTargetsAttr(ArrayAttr::get(context, {nvvm}));
  PassManager pm(context, ModuleOp::getOperationName());
  addPasses(pm);
  if (failed(pm.run(*module)))
    return llvm::createStringError("cannot compile kernels for %s: %s", target.arch.c_str(),
                                   message.c_str());
  for (auto binary : module->getOps<gpu::BinaryOp>()) {
    std::string ptx = cast<gpu::ObjectAttr>(binary.getObjects()[0]).getObject().getValue().str();
    while (!ptx.empty() && ptx.back() == '\0')
      ptx.pop_back();
    return ptx;
  }
  return llvm::createStringError("no kernels were compiled for %s", target.arch.c_str());
}

} // namespace shardc
